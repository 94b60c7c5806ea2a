"""Log-rank tests against lifelines, on real tables; small counts; noise."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcpriv import analyses
from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.outline import Outline
from mpcpriv.analyses.query import Noised
from mpcpriv.errors import UsageError
from tests.analyses.answers import plain, split_by_columns, split_by_rows
from tests.analyses.survival import Frame, Terms, kidney, leukemia, loaded, rossi

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lifelines.statistics import multivariate_logrank_test


def stages() -> tuple[Frame, Terms]:
    """The larynx table: its stages as one category of four."""
    frame, terms = loaded(
        "larynx",
        {
            "time": "integer",
            "death": "boolean",
            **dict.fromkeys(("Stage_II", "Stage_III", "Stage_IV"), "boolean"),
        },
    )
    stage = frame.pop("Stage_II") + 2 * frame.pop("Stage_III") + 3 * frame.pop("Stage_IV")
    frame = {"time": np.rint(10 * frame["time"]), "death": frame["death"], "stage": stage}
    return frame, [
        {"name": "time", "type": "integer", "low": 0, "high": 110},
        terms[1],
        {"name": "stage", "type": "category", "categories": ["I", "II", "III", "IV"]},
    ]


TABLES = pytest.mark.parametrize("load", [leukemia, stages, rossi, kidney])


def parameters(terms: Terms, **more: Any) -> dict[str, Any]:
    time, event, group = [one["name"] for one in terms]
    return {"time": time, "event": event, "group": group, **more}


def as_lifelines(found: dict[str, Any], frame: Frame, terms: Terms) -> None:
    time, event, group = [frame[one["name"]] for one in terms]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = multivariate_logrank_test(time, group, event)
    # A statistic near 0 is a difference of sums: to a thousandth of what it is by chance.
    assert found["statistic"] == pytest.approx(expected.test_statistic, rel=1e-3, abs=1e-3)
    assert found["p_value"] == pytest.approx(expected.p_value, abs=1e-3)
    assert np.log(found["p_value"]) == pytest.approx(np.log(expected.p_value), abs=1e-2)
    assert found["degrees"] == len(np.unique(group)) - 1


SHOWN = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 1}


@pytest.mark.parametrize(
    ("load", "split"),
    [
        *((load, split_by_rows) for load in (leukemia, stages, rossi, kidney)),
        *((load, split_by_columns) for load in (leukemia, stages, rossi)),
        pytest.param(kidney, split_by_columns, marks=pytest.mark.slow),  # of the most times
    ],
)
def test_as_lifelines_has_it(tmp_path: Path, load: Callable[[], Any], split: Callable[..., Any]) -> None:
    frame, terms = load()
    options: dict[str, Any] = {}
    if split is split_by_columns:
        options = {"alice": [one["name"] for one in terms[:2]]}
    found = split(tmp_path, "log-rank", frame, terms, parameters(terms), privacy=SHOWN, **options)
    as_lifelines(found, frame, terms)
    oracle = plain("log-rank", frame, terms, parameters(terms))
    as_lifelines(oracle, frame, terms)
    for key in ("excess", "covariance"):
        assert found[key] == pytest.approx(oracle[key], abs=1e-3 * max(1.0, *np.abs(oracle[key])))


def test_groups_and_their_events_are_told(tmp_path: Path) -> None:
    frame, terms = stages()
    found = split_by_rows(tmp_path, "log-rank", frame, terms, parameters(terms), privacy=SHOWN)
    for some in (found, plain("log-rank", frame, terms, parameters(terms))):
        assert some["group_events"] == [15, 7, 17, 11]
        assert some["group_rows"] == [33, 17, 27, 13]
    with pytest.raises(UsageError, match="the agreement's smallest cell"):  # two of stage IV were censored
        split_by_rows(
            tmp_path, "log-rank", frame, terms, parameters(terms), privacy=SHOWN | {"smallest_cell": 3}
        )


def test_what_is_refused() -> None:
    frame, terms = leukemia()
    with pytest.raises(UsageError, match="name the column of the groups"):
        plain("log-rank", frame, terms[:2], {"time": "t", "event": "status"})
    frame["Rx"] = np.zeros(len(frame["t"]))
    with pytest.raises(UsageError, match="nothing to compare"):
        plain("log-rank", frame, terms, parameters(terms))


def test_with_noise_it_finds_what_is_there(tmp_path: Path) -> None:
    frame, terms = kidney()
    rng = np.random.default_rng(2)
    rows = 3000
    frame = {"t": rng.geometric(0.05, rows) * 1.0, "e": np.ones(rows), "g": (np.arange(rows) % 2) * 1.0}
    frame["t"] = np.minimum(np.where(frame["g"] == 1, frame["t"], rng.geometric(0.08, rows)), 30.0)
    frame["e"] = (frame["t"] < 30) * 1.0
    terms = [
        {"name": "t", "type": "integer", "low": 1, "high": 30},
        {"name": "e", "type": "boolean"},
        {"name": "g", "type": "boolean"},
    ]
    found = split_by_rows(
        tmp_path,
        "log-rank",
        frame,
        terms,
        parameters(terms, intervals=10),
        privacy={"mechanism": "discrete-gaussian"},
        budget={"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
        release={"epsilon": 2.0, "delta": 1e-6},
    )
    exact = plain("log-rank", frame, terms, parameters(terms, intervals=10))
    assert found["p_value"] < 1e-3
    spread = np.sqrt(found["covariance"][0])
    assert abs(found["excess"][0] - exact["excess"][0]) < 6 * spread
    # The noise is in it.
    assert spread > np.sqrt(exact["covariance"][0])
    assert 1 < found["noise"] < 15


def test_with_noise_it_finds_nothing_where_there_is_nothing() -> None:
    rng, rows, deviation = np.random.default_rng(7), 600, 6.0
    analysis: Any = analyses.find("log-rank")
    columns = {
        "t": ColumnTerms(name="t", type="integer", low=1, high=10),
        "e": ColumnTerms(name="e", type="boolean"),
        "g": ColumnTerms(name="g", type="boolean"),
    }
    asked = analyses.Asked(
        analysis.parameters(time="t", event="e", group="g"), {"rows": Outline(rows, "patient", columns)}, 1.0
    )
    query = analysis.query(asked)
    found = []
    for _ in range(200):
        died, left = rng.geometric(0.08, rows), rng.integers(3, 25, rows)
        observed = np.minimum(np.minimum(died, left), 10)
        sums = query.total({"t": observed, "e": (died <= observed) * 1, "g": rng.integers(0, 2, rows)})
        noisy = sums + np.rint(16 * deviation * rng.standard_normal(len(sums))).astype(np.int64)
        told: Any = query.read(Noised(noisy, 16 * deviation))
        found.append(told["p_value"])
    assert np.mean(np.array(found) < 0.05) < 0.09
    assert 0.4 < np.mean(found) < 0.65
    assert query.sensitivity().l1 == query.sensitivity().linf == 16
