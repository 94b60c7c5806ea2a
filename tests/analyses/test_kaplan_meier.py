"""Kaplan-Meier curves against lifelines, on real tables; small counts; noise."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpcpriv.engine
from mpcpriv import analyses
from mpcpriv.errors import UsageError
from mpcpriv.party.planning import plan_job
from tests.analyses.answers import plain, split_by_columns, split_by_rows
from tests.analyses.survival import Frame, Terms, kidney, larynx, leukemia, loaded, rossi
from tests.protocol.job_cases import case
from tests.protocol.parties import outcomes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lifelines import KaplanMeierFitter
    from lifelines.utils import median_survival_times

SHOWN = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 1}
TABLES = pytest.mark.parametrize(
    ("load", "intervals"), [(leukemia, None), (larynx, 110), (rossi, None), (kidney, 300)]
)


def parameters(terms: Terms, intervals: int | None, **more: Any) -> dict[str, Any]:
    time, event, group = [one["name"] for one in terms]
    found = {"time": time, "event": event, "group": group, **more}
    return found if intervals is None else {**found, "intervals": intervals}


def curve_of(found: dict[str, Any], group: str, key: str) -> np.ndarray:
    return np.array([one for one, name in zip(found[key], found["group"], strict=True) if name == group])


def on_grid(frame: Frame, terms: Terms, intervals: int | None) -> np.ndarray:
    time = frame[terms[0]["name"]]
    if intervals is None:
        return time
    low, high = terms[0]["low"], terms[0]["high"]
    step = (high - low) / intervals
    return low + step * np.maximum(np.ceil((time - low) / step - 1e-9), 1)


def as_lifelines(found: dict[str, Any], frame: Frame, terms: Terms, intervals: int | None) -> None:
    names = [one["name"] for one in terms]
    for level in (0, 1):
        own = frame[names[2]] == level
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = KaplanMeierFitter().fit(on_grid(frame, terms, intervals)[own], frame[names[1]][own])
            median = median_survival_times(fitted.confidence_interval_).to_numpy().ravel()
        group = f"{names[2]} {level}"
        times = curve_of(found, group, "time")
        index = fitted.event_table.index.to_numpy()
        assert times == pytest.approx(index[index > 0])
        table = fitted.event_table.loc[index > 0]
        assert curve_of(found, group, "at_risk").tolist() == table["at_risk"].tolist()
        assert curve_of(found, group, "events").tolist() == table["observed"].tolist()
        assert curve_of(found, group, "censored").tolist() == table["censored"].tolist()
        survival = fitted.survival_function_.to_numpy().ravel()[index > 0]
        assert curve_of(found, group, "survival") == pytest.approx(survival, rel=1e-9)
        band = fitted.confidence_interval_.to_numpy()[index > 0]
        inside = (survival > 0) & (survival < 1)
        assert curve_of(found, group, "low")[inside] == pytest.approx(band[inside, 0], rel=1e-6)
        assert curve_of(found, group, "high")[inside] == pytest.approx(band[inside, 1], rel=1e-6)
        told = [found[key][level] for key in ("median", "median_low", "median_high")]
        expected = [fitted.median_survival_time_, *median]
        for one, other in zip(told, expected, strict=True):
            if one == "not reached":
                assert np.isinf(other)
            else:
                assert float(one) == pytest.approx(other)


@TABLES
def test_rows_split_as_lifelines_has_them(
    tmp_path: Path, load: Callable[[], Any], intervals: int | None
) -> None:
    frame, terms = load()
    chosen = parameters(terms, intervals)
    found = split_by_rows(tmp_path, "kaplan-meier", frame, terms, chosen, privacy=SHOWN)
    as_lifelines(found, frame, terms, intervals)
    assert found == plain("kaplan-meier", frame, terms, chosen)


@TABLES
def test_columns_split_as_lifelines_has_them(
    tmp_path: Path, load: Callable[[], Any], intervals: int | None
) -> None:
    frame, terms = load()
    chosen = parameters(terms, intervals)
    hers = [one["name"] for one in terms[:2]]
    found = split_by_columns(tmp_path, "kaplan-meier", frame, terms, chosen, alice=hers, privacy=SHOWN)
    as_lifelines(found, frame, terms, intervals)
    assert found == plain("kaplan-meier", frame, terms, chosen, shares=True)


def pooled(counts: np.ndarray, least: int) -> np.ndarray:
    """What may be shown of one line, counted in the clear."""
    found, held, last = np.zeros_like(counts), 0, -1
    for place, count in enumerate(counts):
        held += count
        if held >= least:
            found[place], held, last = held, 0, place
    found[last] += held
    return found


@pytest.mark.parametrize("split", [split_by_rows, split_by_columns])
def test_small_counts_are_pooled(tmp_path: Path, split: Callable[..., Any]) -> None:
    frame, terms = rossi()
    options: dict[str, Any] = {"alice": ["week", "arrest"]} if split is split_by_columns else {}
    privacy = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 10}
    chosen = parameters(terms, None)
    found = split(tmp_path, "kaplan-meier", frame, terms, chosen, privacy=privacy, **options)
    exact = plain("kaplan-meier", frame, terms, chosen)
    for level in (0, 1):
        own = frame["fin"] == level
        for key, event in (("events", 1), ("censored", 0)):
            counts = np.bincount(
                frame["week"][own & (frame["arrest"] == event)].astype(int) - 1, minlength=52
            )
            expected = pooled(counts, 10)
            times, told = curve_of(found, f"fin {level}", "time"), curve_of(found, f"fin {level}", key)
            shown = np.zeros(52, dtype=int)
            shown[times.astype(int) - 1] = told
            assert shown.tolist() == expected.tolist()
            assert min(told[told > 0]) >= 10
        # The curve steps late, and the last time early, by fewer than ten persons.
        times = curve_of(exact, f"fin {level}", "time")
        coarse = curve_of(found, f"fin {level}", "survival")
        at = np.searchsorted(curve_of(found, f"fin {level}", "time"), times, side="right") - 1
        late = np.where(at < 0, 1.0, coarse[at]) - curve_of(exact, f"fin {level}", "survival")
        assert np.abs(late).max() < 10 / own.sum()
        assert late[:-10].max() > 0.01
    assert found["group_rows"] == exact["group_rows"]


def test_a_group_of_few_events_is_left_out(tmp_path: Path) -> None:
    frame = {
        "t": np.tile(np.arange(1.0, 11.0), 30),
        "e": np.tile([1.0, 0.0], 150),
        "g": np.repeat([0.0, 1.0, 2.0], 100),
    }
    frame["e"][(frame["g"] == 1) & (frame["t"] > 1)] = 0
    frame["e"][:10] = 1  # in the first group more than in the third
    terms = [
        {"name": "t", "type": "integer", "low": 0, "high": 10},
        {"name": "e", "type": "boolean"},
        {"name": "g", "type": "category", "categories": ["a", "b", "c"]},
    ]
    privacy = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 12}
    chosen = {"time": "t", "event": "e", "group": "g"}
    found = split_by_rows(tmp_path, "kaplan-meier", frame, terms, chosen, privacy=privacy)
    # Ten events of b are too few; without a second gap they would follow from the number of rows.
    assert found["group_rows"] == [-1, -1, 100] or found["group_rows"] == [100, -1, -1]
    assert found["median"].count("suppressed") == 2
    privacy["smallest_cell"] = 200
    with pytest.raises(UsageError, match="no group has so many events"):
        split_by_rows(tmp_path, "kaplan-meier", frame, terms, chosen, privacy=privacy)


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({"time": "fin", "event": "week"}, "must be a boolean"),
        ({"time": "week", "event": "arrest"}, "set the parameter intervals"),
        ({"time": "fin", "event": "arrest"}, "is an integer or a number"),
        ({"time": "weeks", "event": "arrest"}, "none of the columns"),
        ({"time": "week", "event": "arrest", "group": "week"}, "one column each"),
        ({"time": "week", "event": "arrest"}, "and no other"),
    ],
)
def test_what_is_refused(chosen: dict[str, Any], why: str) -> None:
    frame, terms = loaded("rossi", {"week": "number", "arrest": "boolean", "fin": "boolean"})
    terms = [one for one in terms if one["name"] in chosen.values() or why == "and no other"]
    with pytest.raises(UsageError, match=why):
        plain("kaplan-meier", frame, terms, chosen)


def test_time_and_event_of_two_owners_are_refused(tmp_path: Path) -> None:
    frame, terms = leukemia()
    with pytest.raises(UsageError, match="tables of two owners"):
        split_by_columns(
            tmp_path, "kaplan-meier", frame, terms, parameters(terms, None), alice=["t"], privacy=SHOWN
        )


def grown(times: int) -> tuple[Frame, Terms]:
    frame, terms = rossi()
    return {name: np.tile(values, times) for name, values in frame.items()}, terms


def test_bands_contain_the_noise(tmp_path: Path) -> None:
    frame, terms = grown(5)
    chosen = parameters(terms, 13)
    found = split_by_rows(
        tmp_path,
        "kaplan-meier",
        frame,
        terms,
        chosen,
        privacy={"mechanism": "discrete-gaussian"},
        budget={"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
        release={"epsilon": 2.0, "delta": 1e-6},
    )
    exact = plain("kaplan-meier", frame, terms, chosen)
    for group in ("fin 0", "fin 1"):
        low, high = curve_of(found, group, "low"), curve_of(found, group, "high")
        told, times = curve_of(exact, group, "survival"), curve_of(exact, group, "time")
        at = np.searchsorted(times, curve_of(found, group, "time") + 1e-9) - 1
        truth = np.where(at < 0, 1.0, told[at])
        assert len(low) > 8
        assert ((low - 0.02 < truth) & (truth < high + 0.02)).all()
    assert 2 < found["noise"] < 12


def test_bands_cover_as_often_as_they_say() -> None:
    """Over samples and noise, at each time: about 95 of 100, and never many fewer."""
    from mpcpriv.agreement.model import ColumnTerms
    from mpcpriv.analyses.outline import Outline

    rng, rows, deviation = np.random.default_rng(5), 800, 8.0
    analysis: Any = analyses.find("kaplan-meier")
    columns = {
        "t": ColumnTerms(name="t", type="integer", low=1, high=12),
        "e": ColumnTerms(name="e", type="boolean"),
    }
    asked = analyses.Asked(
        analysis.parameters(time="t", event="e"), {"rows": Outline(rows, "patient", columns)}, 1.0
    )
    query = analysis.query(asked)
    truth = 0.94 ** np.arange(1, 13)
    hits = []
    for _ in range(150):
        died, left = rng.geometric(0.06, rows), rng.integers(4, 30, rows)
        observed = np.minimum(np.minimum(died, left), 12)
        sums = query.total({"t": observed, "e": (died <= observed) * 1})
        from mpcpriv.analyses.query import Noised

        noisy = sums + np.rint(16 * deviation * rng.standard_normal(len(sums))).astype(np.int64)
        found: Any = query.read(Noised(noisy, 16 * deviation))
        low, high = np.array(found["low"]), np.array(found["high"])
        hits.append(((low <= truth[: len(low)]) & (truth[: len(low)] <= high))[:10])
    assert np.mean(hits, axis=0).min() > 0.9
    # And not because they are as wide as can be.
    assert (high - low).max() < 0.5
    # A row counts in one cell, and its sensitivity is that of one cell.
    assert query.sensitivity().l1 == query.sensitivity().linf == 16
    one = query.total({"t": np.array([3]), "e": np.array([1])})
    assert np.abs(one).sum() == 16


def test_what_pooling_takes_is_planned(tmp_path: Path) -> None:
    frame, terms = rossi()
    names = [one["name"] for one in terms]
    part = {name: frame[name][:60].astype(int) for name in names}
    one = case(
        tmp_path,
        {"alice": part, "bob": part},
        {"alice": terms, "bob": terms},
        "kaplan-meier",
        parameters(terms, None),
        parties=("alice", "bob"),
    )
    admitted = one.admitted()
    reports, failed = outcomes([*(one.program(name).run for name in admitted.parties), mpcpriv.engine.deal])
    assert not failed
    planned = plan_job(admitted, reports[0].rows)
    assert planned.cost.rounds == reports[0].rounds
    assert reports[0].layout[0].size == 2 * 2 * 52
