"""Clusters of a noised grid against scikit-learn's, of the same cells and of the rows themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from threadpoolctl import threadpool_limits

from mpcpriv import analyses
from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.outline import Outline
from mpcpriv.analyses.private_k_means import (
    ANALYSIS,
    Grid,
    Parameters,
    PrivateKMeans,
    first_cells,
    lloyd,
    nonnegative,
    usual,
)
from mpcpriv.analyses.query import Grouped, Noised, Query
from mpcpriv.analyses.shown import Bars, Table
from mpcpriv.errors import Unsupported, UsageError
from mpcpriv.privacy.mechanism import calibrate
from tests.analyses.answers import column, split_by_columns, split_by_rows

ONE = 2.0**14
"""What a row counts for."""
TABLES = pytest.mark.parametrize(
    ("load", "chosen"),
    [(load_iris, (2, 3)), (load_wine, (0, 6, 9)), (load_breast_cancer, (0, 1))],
)

Frame = dict[str, np.ndarray]
Terms = list[dict[str, Any]]


def table(load: Callable[[], Any], chosen: Sequence[int]) -> tuple[Frame, Terms]:
    bunch = load()
    frame = {str(bunch.feature_names[one]): bunch.data[:, one] for one in chosen}
    return frame, [column(name, values) for name, values in frame.items()]


def typed(terms: Terms) -> dict[str, ColumnTerms]:
    return {one["name"]: ColumnTerms.model_validate(one) for one in terms}


def query(terms: Terms, rows: int, given: dict[str, Any], epsilon: float = 1.0) -> Query:
    tables = {"rows": Outline(rows, "patient", typed(terms))}
    return ANALYSIS.query(analyses.Asked(Parameters.model_validate(given), tables, epsilon))


def grid(terms: Terms, rows: int, given: dict[str, Any], epsilon: float = 1.0) -> Grid:
    return Grid.of(typed(terms), rows, epsilon, Parameters.model_validate(given))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Or scikit-learn's threads wait for each other, longer than they compute."""
    with threadpool_limits(1):
        yield


def private(
    folder: Path, split: Callable[..., Any], frame: Frame, terms: Terms, given: dict[str, Any], epsilon: float
) -> dict[str, Any]:
    found: dict[str, Any] = split(
        folder,
        "private-k-means",
        frame,
        terms,
        given,
        privacy={"mechanism": "discrete-gaussian"},
        budget={"epsilon": epsilon, "delta": 1e-5, "period_days": 30},
        release={"epsilon": epsilon, "delta": 1e-6},
    )
    return found


def as_weighted(found: dict[str, Any], terms: Terms, given: dict[str, Any], counts: np.ndarray) -> None:
    """As scikit-learn's of these counts of cells, from the same ones as first centres."""
    whole = grid(terms, found["rows"], given)
    points = whole.centres() / whole.scale
    less = brentq(lambda one: np.clip(counts - one, 0, None).sum() - found["rows"], -1e6, 1e6, xtol=1e-13)
    weights = np.clip(counts - less, 0, None)
    fits = [
        KMeans(given["clusters"], init=points[one], n_init=1, tol=0, algorithm="lloyd").fit(
            points, sample_weight=weights
        )
        for one in first_cells(weights, Parameters.model_validate(given))
    ]
    best = min(fits, key=lambda one: one.inertia_)
    sizes = np.bincount(best.labels_, counts)
    order = np.argsort(-sizes, kind="stable")
    assert found["converged"] == 1
    assert found["sizes"] == np.rint(sizes[order]).tolist()
    assert found["inertia"] == pytest.approx(best.inertia_, rel=1e-3)
    centres = np.reshape(found["centres"], (given["clusters"], -1)) / whole.scale
    assert np.abs(centres - best.cluster_centers_[order]).max() < 1e-3


def counted(frame: Frame, terms: Terms, given: dict[str, Any]) -> np.ndarray:
    """By numpy's histogram; no value of these tables is on an edge."""
    edges = [np.linspace(one["low"], one["high"], given["cells"] + 1) for one in terms]
    found: np.ndarray = np.histogramdd(np.column_stack(list(frame.values())), bins=edges)[0].ravel()
    return found


@TABLES
@pytest.mark.parametrize("cells", [7, 13])
def test_without_noise_to_speak_of_it_is_weighted_k_means(
    load: Callable[[], Any], chosen: Sequence[int], cells: int
) -> None:
    frame, terms = table(load, chosen)
    given = {"clusters": 3, "cells": cells, "starts": 5, "seed": 3}
    rows = len(next(iter(frame.values())))
    asked = query(terms, rows, given)
    counts = counted(frame, terms, given)
    assert np.array_equal(asked.total(frame) / ONE, counts)
    as_weighted(dict(asked.read(Noised(asked.total(frame), 0.0))), terms, given, counts)


@TABLES
def test_between_parties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[], Any], chosen: Sequence[int]
) -> None:
    opened: list[np.ndarray] = []
    clustered = PrivateKMeans._clustered

    def seen(self: Any, grid: Grid, counts: np.ndarray, *rest: Any) -> dict[str, Any]:
        opened.append(counts)
        return clustered(self, grid, counts, *rest)

    monkeypatch.setattr(PrivateKMeans, "_clustered", seen)
    frame, terms = table(load, chosen)
    given = {"clusters": 3, "cells": 7}
    found = private(tmp_path, split_by_rows, frame, terms, given, 1e4)
    noise = opened[-1] - counted(frame, terms, given)
    assert 0.5 < noise.std() / found["noise"] < 2
    assert np.abs(noise).max() < 0.1
    as_weighted(found, terms, given, opened[-1])
    assert set(found) == set(analyses.find("private-k-means").outputs(None))  # type: ignore[arg-type]


def inertia(frame: Frame, centres: np.ndarray, scale: np.ndarray) -> float:
    """Of the rows."""
    z = np.column_stack(list(frame.values())) / scale
    return float(np.square(z[:, None] - centres / scale).sum(2).min(1).sum())


def test_noise_costs_little_where_rows_are_many(tmp_path: Path) -> None:
    """The inertia of the rows is at most 1.6 times that of scikit-learn's best centres."""
    frame, terms = table(load_breast_cancer, (0, 1))
    frame = {name: np.tile(values, 3) for name, values in frame.items()}
    found = private(tmp_path, split_by_rows, frame, terms, {"clusters": 3}, 2.0)
    assert found["cells"] == [18, 18]
    scale = np.array(found["scale"])
    z = np.column_stack(list(frame.values())) / scale
    best = KMeans(3, n_init=10, random_state=0).fit(z).inertia_
    centres = np.reshape(found["centres"], (3, 2))
    assert best <= inertia(frame, centres, scale) <= 1.6 * best
    one = inertia(frame, np.array([[values.mean() for values in frame.values()]]), scale)
    assert one > 2.5 * best  # so the bound says something


def test_margins_hold_the_noise() -> None:
    """Of the sizes, in 95 % of cases or so, for clusters that the noise does not choose: far apart."""
    rng = np.random.default_rng(5)
    frame = {"a": np.repeat([1.5, 8.5], [4000, 2000]) + rng.uniform(-1, 1, 6000)}
    terms = [{"name": "a", "type": "number", "low": 0.0, "high": 10.0}]
    asked = query(terms, 6000, {"clusters": 2, "cells": 10})
    total, deviation = asked.total(frame), 8.0
    inside, centres_inside = 0, 0
    centre = total[:5] @ (np.arange(5) + 0.5) / total[:5].sum()
    for _ in range(300):
        noise = np.rint(rng.normal(0, deviation * ONE, total.shape)).astype(np.int64)
        told: dict[str, Any] = dict(asked.read(Noised(total + noise, deviation * ONE)))
        assert told["margins"] == pytest.approx([1.96 * deviation * 5**0.5] * 2, rel=1e-3)
        inside += abs(told["sizes"][0] - 4000) < told["margins"][0]
        apart = np.square(np.arange(5) + 0.5 - told["centres"][0]).sum() ** 0.5
        assert told["centre_margins"][0] == pytest.approx(1.96 * deviation * apart / 4000, rel=0.03)
        centres_inside += abs(told["centres"][0] - centre) < told["centre_margins"][0]
    assert 270 <= inside <= 298
    assert 255 <= centres_inside <= 298


def test_one_row_changes_one_count() -> None:
    frame, terms = table(load_iris, (2, 3))
    asked = query(terms, 150, {"clusters": 3, "cells": 9})
    most = asked.sensitivity()
    assert (most.l1, most.l2_squared, most.linf) == (2**14, 2**28, 2**14)
    total = asked.total(frame)
    for row in range(0, 150, 10):
        without = asked.total({name: np.delete(values, row) for name, values in frame.items()})
        assert np.sort(total - without).tolist() == [0] * 80 + [2**14]
    assert isinstance(asked.contributions(frame), Grouped)


def test_whole_numbers_and_booleans_have_cells_of_their_own() -> None:
    terms = [
        {"name": "some", "type": "integer", "low": 0.0, "high": 9.0},
        {"name": "few", "type": "integer", "low": 1.0, "high": 3.0},
        {"name": "yes", "type": "boolean"},
    ]
    made = grid(terms, 100, {"clusters": 2, "cells": 5})
    assert made.shape == (5, 3, 2)
    centres = made.centres().reshape(5, 3, 2, 3)
    assert centres[:, 0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert centres[0, :, 0, 1].tolist() == [1, 2, 3]
    assert centres[0, 0, :, 2].tolist() == [0, 1]
    given = {"some": np.array([4, 9]), "few": np.array([3, 1]), "yes": np.array([1, 0])}
    assert made.places(given).tolist() == [2 * 6 + 2 * 2 + 1, 4 * 6]


def test_values_beyond_the_bounds_are_in_the_outer_cells() -> None:
    terms = [{"name": "a", "type": "number", "low": 0.0, "high": 1.0}]
    asked = query(terms, 5, {"clusters": 2, "cells": 4})
    values = np.array([-7.0, 0.0, 0.25, 1.0, 9.0])
    assert (asked.total({"a": values}) / ONE).tolist() == [2, 1, 0, 2]


def test_cells_by_the_rule() -> None:
    assert usual(1000, 1.0, 2) == 10  # rows * epsilon / 10 in all
    assert usual(1000, 4.0, 2) == 20
    assert usual(1000, 1.0, 1) == round(100 ** (2 / 3))
    assert usual(10**9, 1.0, 2) == 128
    assert usual(10**9, 1.0, 3) == 25
    assert usual(1, 1.0, 14) == 2


def test_weights_are_the_nearest_that_add_up_to_the_rows() -> None:
    rng = np.random.default_rng(2)
    for rows in (1, 30, 500):
        counts = rng.normal(3, 9, 40)
        weights = nonnegative(counts, rows)
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(rows)
        assert np.ptp((counts - weights)[weights > 0]) < 1e-9  # the conditions of Kuhn and Tucker
        assert (counts[weights == 0] <= (counts - weights)[weights > 0].max() + 1e-9).all()
    assert nonnegative(np.array([3.0, -1.0]), 0).tolist() == [0, 0]


def test_which_start_is_best_does_not_hang_on_the_order_of_a_sum() -> None:
    rng = np.random.default_rng(4)
    points, weights = rng.normal(size=(400, 2)), rng.uniform(0, 1e3, 400)
    inertia = lloyd(points, weights, points[:3]).inertia
    assert lloyd(points[::-1], weights[::-1], points[:3]).inertia == pytest.approx(inertia, rel=1e-14)
    end = lloyd(points, weights, points[:3])
    apart = np.zeros((400, 3))
    for of_points, of_centres in zip(points.T, end.centres.T, strict=True):
        apart += np.square(of_points[:, None] - of_centres)
    assert end.inertia == math.fsum(reversed((weights * apart.min(1)).tolist()))


def test_first_cells_are_drawn_by_weight_and_seed() -> None:
    weights = np.array([6.0, 3.0, 1.0, 0.0])
    drawn = np.concatenate(
        [first_cells(weights, Parameters(clusters=2, starts=32, seed=seed)) for seed in range(60)]
    )
    assert np.bincount(drawn[:, 0], minlength=4) / len(drawn) == pytest.approx([0.6, 0.3, 0.1, 0], abs=0.04)
    assert (drawn[:, 0] != drawn[:, 1]).all()
    # Nothing but the seed makes the draws: as many times the weight of all is the same choice.
    given = Parameters(clusters=2, seed=7)
    assert np.array_equal(first_cells(weights, given), first_cells(2 * weights, given))


def test_all_who_read_the_same_counts_have_the_same_answer() -> None:
    """To the last bit; and it is shown with its margins."""
    frame, terms = table(load_breast_cancer, (0, 1))
    asked = query(terms, 569, {"clusters": 3, "cells": 9})
    opened = Noised(asked.total(frame) + 2**12, 2.0**13)
    assert asked.read(opened) == asked.read(Noised(opened.values.copy(), opened.deviation))
    told: dict[str, Any] = dict(asked.read(opened))
    shown, bars = ANALYSIS.show(told)
    assert isinstance(shown, Table)
    assert isinstance(bars, Bars)
    assert list(shown.columns)[:3] == ["cluster", "rows", "±"]
    name = next(iter(frame))
    assert list(shown.columns[name]) == told["centres"][::2]
    assert list(shown.columns[f"± {name}"]) == told["centre_margins"][::2]
    assert (bars.heights, bars.margins) == (told["sizes"], told["margins"])


# Two columns each; of iris and diabetes three clusters, of breast cancer two.
ACCURACY = {
    "iris": (load_iris, (2, 3), 3, {0.5: 2.6, 1.0: 3.4, 4.0: 1.4}),
    "breast cancer": (load_breast_cancer, (0, 1), 2, {0.5: 1.5, 1.0: 1.4, 4.0: 1.3}),
    "diabetes": (load_diabetes, (2, 8), 3, {0.5: 1.6, 1.0: 1.4, 4.0: 1.2}),
}


@pytest.mark.parametrize("name", list(ACCURACY))
def test_inertia_of_the_rows_beside_scikit_learns(name: str) -> None:
    """Makes the table of docs/analyses/private-k-means.md: run with -s. Noise is that of three parties."""
    load, chosen, clusters, most = ACCURACY[name]
    frame, terms = table(load, chosen)
    rows = len(next(iter(frame.values())))
    rng = np.random.default_rng(1)
    for epsilon, bound in most.items():
        asked = query(terms, rows, {"clusters": clusters}, epsilon)
        noise = calibrate("discrete-gaussian", epsilon, 1e-6, asked.sensitivity(), asked.size, 3, 2)
        total, ratios = asked.total(frame), []
        for deviation in [0.0] + [noise.variance**0.5] * 20:
            drawn = np.rint(rng.normal(0, deviation, total.shape)).astype(np.int64)
            told: dict[str, Any] = dict(asked.read(Noised(total + drawn, deviation)))
            scale = np.array(told["scale"])
            ratios.append(inertia(frame, np.reshape(told["centres"], (clusters, 2)), scale))
        z = np.column_stack(list(frame.values())) / scale
        ratios = np.array(ratios) / KMeans(clusters, n_init=10, random_state=0).fit(z).inertia_
        middle, high = np.quantile(ratios[1:], [0.5, 0.9])
        one = np.square(z - z.mean(0)).sum() / KMeans(clusters, n_init=10, random_state=0).fit(z).inertia_
        print(
            f"| {name} | {rows} | {clusters} | {epsilon:g} | {told['noise']:.1f} | {told['cells'][0]} | "
            f"{ratios[0]:.2f} | {middle:.2f} | {high:.2f} | {one:.2f} |"
        )
        assert ratios.min() >= 1 - 1e-3
        assert middle < bound < one


def test_what_is_refused(tmp_path: Path) -> None:
    frame, terms = table(load_iris, (2, 3))
    open_ = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 1}
    with pytest.raises(Unsupported, match="ask for an epsilon, or for k-means"):
        split_by_rows(tmp_path, "private-k-means", frame, terms, {"clusters": 3}, privacy=open_)
    with pytest.raises(Unsupported, match="where columns are split, ask for k-means"):
        private(tmp_path, split_by_columns, frame, terms, {"clusters": 3}, 2.0)
    with pytest.raises(UsageError, match=r"200 cells for each of 2 columns are 40000 in all, more"):
        query(terms, 150, {"clusters": 3, "cells": 200})
    with pytest.raises(UsageError, match="5 clusters of 4 cells; ask for more cells"):
        query(terms, 150, {"clusters": 5, "cells": 2})
    many = [{"name": f"x{one}", "type": "number", "low": 0.0, "high": 1.0} for one in range(40)]
    with pytest.raises(UsageError, match=r"2 cells for each of 40 .* 16384; ask for fewer columns"):
        query(many, 10**6, {"clusters": 3})
    with pytest.raises(UsageError, match="ask for fewer starts"):
        query(terms, 150, {"clusters": 64, "cells": 128, "starts": 32})
    query(terms, 150, {"clusters": 64, "cells": 128})
    with pytest.raises(UsageError, match="'c' is a category"):
        query([{"name": "c", "type": "category", "categories": ["x", "y"]}], 150, {"clusters": 2})
    asked = query(terms, 150, {"clusters": 3, "cells": 2})
    with pytest.raises(UsageError, match="fewer than 3 cells have rows"):  # of none
        query(terms, 0, {"clusters": 3, "cells": 9}).read(Noised(np.arange(81) * 2**14, 1.0))
    with pytest.raises(UsageError, match="fewer than 3 cells have rows"):
        asked.read(Noised(np.array([500, 500, -5, 0]) * 2**14, 1.0))
