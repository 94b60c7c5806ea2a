"""Jobs that are released with differential privacy: what is added, what it tells, what it costs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcpriv import analyses
from mpcpriv.analyses.query import Grouped, Query
from mpcpriv.errors import RangeError, Unsupported, UsageError
from mpcpriv.party.jobs import RunReport
from mpcpriv.party.planning import plan_job
from mpcpriv.privacy.mechanism import Noise, Sensitivity
from mpcpriv.release import charges, read_result
from mpcpriv.release.share import SALT_BYTES, combine
from tests.protocol.job_cases import NOW, OWNERS, Case, Tables, case, column
from tests.protocol.test_jobs import run

ROWS = {"alice": 200, "bob": 150, "carol": 250}
_whole = np.random.default_rng(5).normal(50, 10, sum(ROWS.values())).clip(0, 100)
TABLES: Tables = {
    owner: {"age": part, "ill": (part > 60).astype(np.int64)}
    for owner, part in zip(OWNERS, np.split(_whole, [200, 350]), strict=True)
}
POOLED = {name: np.concatenate([TABLES[owner][name] for owner in OWNERS]) for name in ("age", "ill")}
TERMS = [column("age", _whole, low=0.0, high=100.0), column("ill", _whole, "boolean")]
BUDGET = {"epsilon": 5.0, "delta": 1e-6, "period_days": 30}
GAUSSIAN = {"mechanism": "discrete-gaussian"}


def mean(
    folder: Path, epsilon: float, delta: float | None = 1e-6, privacy: Mapping[str, Any] = GAUSSIAN
) -> Case:
    release = {"epsilon": epsilon, **({} if delta is None else {"delta": delta})}
    terms = dict.fromkeys(OWNERS, TERMS)
    return case(folder, TABLES, terms, "count-and-mean", privacy=privacy, release=release, budget=BUDGET)


def document(one: Case, reports: list[RunReport]) -> dict[str, Any]:
    shares = [report.share for report in reports]
    analysis = analyses.find(one.job.job.analysis)
    result = read_result(one.admitted(), analysis, reports[0].rows, reports[0].layout, shares)
    found: dict[str, Any] = json.loads(result.canonical())
    return found


def opened(reports: list[RunReport]) -> np.ndarray:
    values, _ = combine(reports[0].layout, [report.share for report in reports])
    return values["query"]


def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Noise, size: int) -> np.ndarray:
        return np.zeros(size, dtype=np.int64)

    monkeypatch.setattr(Noise, "share", nothing)


def test_what_is_summed_is_the_rows_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_noise(monkeypatch)
    one = mean(tmp_path, 1.0)
    reports = run(one)
    t = (POOLED["age"] - 50) / 50
    u = 2.0 * POOLED["ill"] - 1
    expected = [sum(np.rint(2**20 * part)) for part in (t, 2 * t**2 - 1, u, 2 * u**2 - 1)]
    assert opened(reports).tolist() == expected
    found = document(one, reports)["result"]
    assert (found["rows"], found["columns"]) == (600, ["age", "ill"])
    for place, name in enumerate(("age", "ill")):
        assert found["mean"][place] == pytest.approx(POOLED[name].mean(), abs=1e-4)
        assert found["variance"][place] == pytest.approx(POOLED[name].var(ddof=1), rel=1e-4)


@pytest.mark.parametrize(
    ("collusion", "honest"), [(None, 1), pytest.param(2, 1, marks=pytest.mark.slow), (1, 2)]
)
def test_each_party_adds_its_own_noise_of_the_promised_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collusion: int | None, honest: int
) -> None:
    """The sum of 4 numbers' noise over 12 runs against 3 / honest sigma^2; alpha below 1e-6 on each side."""
    one = mean(tmp_path, 1.0, privacy={**GAUSSIAN, "collusion": collusion})
    reports = [run(one) for _ in range(12)]
    without_noise(monkeypatch)
    plain = opened(run(one))
    noise = np.concatenate([opened(found) - plain for found in reports]).astype(float)
    stated = document(one, reports[0])["statement"]["privacy"]
    assert stated["noise"] == pytest.approx(stated["scale"] * math.sqrt(3))
    assert stated["scale"] ** 2 * honest >= stated["sensitivity_l2"] ** 2 * 4.2**2  # z of (1, 1e-6)
    assert stated["sensitivity_l2"] == 2 * 2**20
    ratio = (noise**2).mean() / stated["noise"] ** 2  # chi-squared with 48 degrees of freedom
    assert 0.25 < ratio < 2.6


def test_the_intervals_hold_the_truth_with_the_noise_in_them(tmp_path: Path) -> None:
    """Of the mean of the rows themselves: 95 % intervals that hold the noise alone cover it more often."""
    one = mean(tmp_path, 0.5)
    covered, widths = 0, []
    for _ in range(12):
        found = document(one, run(one))["result"]
        low, high = found["mean_low"][0], found["mean_high"][0]
        covered += low <= POOLED["age"].mean() <= high
        widths.append(high - low)
        assert found["noise"][0] > 0
    assert covered >= 8
    assert min(widths) > 2 * 1.96 * POOLED["age"].std() / math.sqrt(600)


def test_a_party_s_own_sum_and_noise_leave_it_masked_only(tmp_path: Path) -> None:
    """Both are far below 2^40, so that without a mask all upper bits are the sign's; of a mask 2^-23 are."""
    reports = run(mean(tmp_path, 1.0))
    sent = np.concatenate([np.frombuffer(one.share, dtype="<i8", offset=SALT_BYTES) for one in reports])
    assert np.abs(opened(reports)).max() < 2**40
    assert not np.isin(sent >> 40, (0, -1)).any()


def test_a_result_says_how_it_was_released(tmp_path: Path) -> None:
    one = mean(tmp_path, 2.0, privacy={**GAUSSIAN, "collusion": 1})
    statement = document(one, run(one))["statement"]
    assert "differential privacy, epsilon 2, delta 1e-06, computed from 600 rows" in statement["text"]
    assert "up to 1 of the 3 computing parties" in statement["more"]
    assert statement["privacy"]["mechanism"] == "discrete-gaussian"
    assert (statement["privacy"]["epsilon"], statement["privacy"]["collusion"]) == (2.0, 1)


def test_pure_differential_privacy_has_laplace_noise_of_full_scale_at_every_party(tmp_path: Path) -> None:
    one = mean(tmp_path, 2.0, None, {"mechanism": "discrete-laplace", "collusion": 1})
    stated = document(one, run(one))["statement"]["privacy"]
    assert (stated["mechanism"], stated["delta"]) == ("discrete-laplace", 0)
    assert stated["scale"] == pytest.approx(stated["sensitivity_l1"] / 2.0)


def test_a_plan_says_what_noise_costs_and_what_it_hides(tmp_path: Path) -> None:
    one = mean(tmp_path, 1.0)
    plan = plan_job(one.admitted(), {f"{owner}-rows": rows for owner, rows in ROWS.items()})
    reports = run(one)
    assert [report.rounds for report in reports] == [plan.cost.rounds] * 3 == [1] * 3
    assert [report.sent for report in reports] == [sum(row) for row in plan.cost.sent]
    assert {len(report.share) for report in reports} == {plan.result} == {32 + 8 * 4}
    assert "epsilon 1 and delta 1e-06, against up to 2 colluding parties" in dict(plan.learns)["alice"]


def test_the_price_is_what_was_asked(tmp_path: Path) -> None:
    for epsilon in (0.1, 1.0, 4.0):
        one = mean(tmp_path, epsilon)
        agreement = one.admitted().agreement
        found = charges(agreement, one.job.job, analyses.find("count-and-mean"), NOW)
        assert set(found) == {f"{owner}-rows" for owner in OWNERS}
        for charge in found.values():
            assert 0.999 * epsilon < charge.loss.epsilon(1e-6) <= epsilon
            assert (charge.allowance.epsilon, charge.allowance.delta, charge.period) == (5.0, 1e-6, 0)


def test_who_runs_with_other_noise_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parties that would add noise of another scale have another transcript."""
    one = mean(tmp_path, 1.0)
    first = run(one)[0].transcript
    assert run(one)[0].transcript == first
    import mpcpriv.release.noise as module

    actual = module.calibrate
    monkeypatch.setattr(module, "calibrate", lambda kind, epsilon, *rest: actual(kind, epsilon / 2, *rest))
    assert run(one)[0].transcript != first


# -- queries


def query(**changes: Any) -> Query:
    given: dict[str, Any] = {
        "low": np.array([-3, 0]),
        "high": np.array([2, 5]),
        "contributions": lambda columns: np.stack([columns["a"], columns["b"]], 1),
        "read": lambda noised: {"sums": noised.values.tolist()},
    }
    return Query(**{**given, **changes})


def test_sensitivity_is_that_of_the_clipping() -> None:
    assert query().sensitivity() == Sensitivity(8, 34, 5)
    assert query(l1=6).sensitivity() == Sensitivity(6, 30, 5)
    assert query(l2_squared=25).sensitivity() == Sensitivity(8, 25, 5)


@pytest.mark.parametrize("limits", [{}, {"l1": 4}, {"l2_squared": 20}, {"l1": 6, "l2_squared": 26}])
def test_no_row_contributes_more_than_the_sensitivity(limits: dict[str, int]) -> None:
    one = query(**limits)
    most = one.sensitivity()
    values = np.array([-(2**62), -9, -3, -1, 0, 1, 2, 5, 9, 2**62])
    for a in values:
        for b in values:
            alone = one.total({"a": np.array([a]), "b": np.array([b])})
            assert np.abs(alone).sum() <= most.l1
            assert (alone.astype(object) ** 2).sum() <= most.l2_squared
            assert np.abs(alone).max() <= most.linf
            # And adding it to others changes the sum by that and nothing more.
            others = {"a": np.array([1, 2, 0]), "b": np.array([3, 1, 1])}
            whole = {"a": np.append(others["a"], a), "b": np.append(others["b"], b)}
            assert (one.total(whole) - one.total(others)).tolist() == alone.tolist()


def test_contributions_of_another_shape_or_type_are_refused() -> None:
    columns = {"a": np.arange(3), "b": np.arange(3)}
    with pytest.raises(UsageError, match=r"contributes int64 \(3, 1\); declared is int64 \(3, 2\)"):
        query(contributions=lambda c: c["a"][:, None]).total(columns)
    with pytest.raises(UsageError, match="contributes float64"):
        query(contributions=lambda c: np.zeros((3, 2))).total(columns)
    with pytest.raises(RangeError, match="leaves the ring"):
        query(high=np.array([2, 2**61])).total(columns)


def test_a_row_whose_norm_would_wrap_is_refused_and_not_taken_for_a_small_one() -> None:
    wide = np.array([2**62, 2**62])
    for changes in ({"low": -wide, "high": wide, "l1": 10}, {"low": np.array([-(2**63), 0]), "l1": 10}):
        with pytest.raises(RangeError, match="clip them to less"):
            query(**changes)


def test_all_owners_rows_together_fit_the_ring() -> None:
    one = query(high=np.array([2, 2**60]))
    one.fits(3)
    with pytest.raises(RangeError, match="over 4 rows of up to 1152921504606846976 each leaves the ring"):
        one.fits(4)


@pytest.mark.parametrize("grid", [0, -2, 3, 2**17])
def test_a_grid_is_a_power_of_two(grid: int) -> None:
    with pytest.raises(UsageError, match="power of two"):
        query(grid=grid)


def test_who_is_early_spends_of_the_first_period(tmp_path: Path) -> None:
    admitted = mean(tmp_path, 1.0).admitted()
    analysis = analyses.find("count-and-mean")
    early = admitted.agreement.valid_from - timedelta(seconds=30)
    for now in (early, early + timedelta(seconds=60)):
        found = charges(admitted.agreement, admitted.job, analysis, now)
        assert {charge.period for charge in found.values()} == {0}


def test_many_rows_are_taken_in_parts() -> None:
    a = np.arange(5_000_000) % 7 - 3
    seen: list[int] = []

    def contributions(columns: Mapping[str, np.ndarray]) -> np.ndarray:
        seen.append(len(columns["a"]))
        return np.stack([columns["a"], columns["a"] * 0], 1)

    total = query(contributions=contributions).total({"a": a})
    assert total.tolist() == [int(np.clip(a, -3, 2).sum()), 0]
    assert max(seen) <= 2**21
    assert sum(seen) == 5_000_000
    assert len(seen) == 3


def training(folder: Path, epsilon: float | None = 3.0, privacy: Mapping[str, Any] = GAUSSIAN) -> Case:
    release = {} if epsilon is None else {"epsilon": epsilon, "delta": 1e-6}
    return case(
        folder,
        TABLES,
        dict.fromkeys(OWNERS, TERMS),
        "private-logistic-regression",
        {"target": "ill", "steps": 5},
        privacy=privacy,
        release=release,
        budget=BUDGET if "mechanism" in privacy else None,
    )


def test_a_private_training_is_priced_noised_and_stated(tmp_path: Path) -> None:
    one = training(tmp_path)
    analysis = analyses.find("private-logistic-regression")
    found = charges(one.admitted().agreement, one.job.job, analysis, NOW)
    assert all(2.99 < charge.loss.epsilon(1e-6) <= 3.0 for charge in found.values())
    plan = plan_job(one.admitted(), {f"{owner}-rows": rows for owner, rows in ROWS.items()})
    reports = run(one)
    assert [report.rounds for report in reports] == [plan.cost.rounds] * 3
    told = document(one, reports)
    assert told["result"]["features"] == ["age"]
    assert told["result"]["coefficients"][0] > 0  # the older, the more are ill
    privacy = told["statement"]["privacy"]
    assert (privacy["steps"], privacy["sensitivity_l2"], privacy["collusion"]) == (5, 2**32, 2)
    # Steps cost together what one release of so much noise would, of five times the variance.
    once = mean(tmp_path, 3.0)
    stated = document(once, run(once))["statement"]["privacy"]
    relative = privacy["scale"] / privacy["sensitivity_l2"], stated["scale"] / stated["sensitivity_l2"]
    assert relative[0] / relative[1] == pytest.approx(math.sqrt(5), rel=1e-3)


def test_a_private_training_is_not_released_without_noise_or_with_another(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="released with noise only"):
        run(training(tmp_path, None, {"unnoised": True, "minimum_cohort": 2}))
    laplace = training(tmp_path, 3.0, {"mechanism": "discrete-laplace"})
    with pytest.raises(AssertionError, match="the discrete Laplace mechanism has none"):
        laplace.admitted()


# -- queries by group


def grouped(**changes: Any) -> Query:
    given: dict[str, Any] = {
        "low": np.array([0, -3, 0, -2]),
        "high": np.array([1, 3, 1, 5]),
        "contributions": lambda c: Grouped(c["g"], np.stack([c["a"] * 0 + 1, c["a"]], 1)),
        "groups": 2,
    }
    return query(**{**given, **changes})


def test_a_row_changes_one_group_and_that_by_no_more_than_the_sensitivity() -> None:
    assert grouped().sensitivity() == Sensitivity(6, 26, 5)
    assert grouped(l1=4).sensitivity() == Sensitivity(4, 16, 4)
    for group in (0, 1):
        for a in (-(2**62), -3, 0, 4, 2**62):
            for limits in ({}, {"l1": 4}, {"l2_squared": 17}):
                one = grouped(**limits)
                alone = one.total({"g": np.array([group]), "a": np.array([a])})
                assert not alone[2 - 2 * group :][:2].any()
                mine = alone[2 * group :][:2]
                most = one.sensitivity()
                assert (np.abs(mine).sum(), np.abs(mine).max()) <= (most.l1, most.linf)
                assert (mine**2).sum() <= most.l2_squared
                if not limits:
                    assert mine.tolist() == [1, min(max(a, [-3, -2][group]), [3, 5][group])]


def test_sums_by_group_are_those_of_dense_contributions() -> None:
    rng = np.random.default_rng(2)
    g, a = rng.integers(0, 2, 3_000_000), rng.integers(-9, 9, 3_000_000)

    def dense(columns: Mapping[str, np.ndarray]) -> np.ndarray:
        found = np.zeros((len(columns["g"]), 2, 2), dtype=np.int64)
        clipped = np.clip(columns["a"], np.array([-3, -2])[columns["g"]], np.array([3, 5])[columns["g"]])
        found[np.arange(len(found)), columns["g"]] = np.stack([clipped * 0 + 1, clipped], 1)
        return found.reshape(-1, 4)

    expected = grouped(contributions=dense, groups=None).total({"g": g, "a": a})
    assert grouped().total({"g": g, "a": a}).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("changes", "groups", "said"),
    [
        ({}, [0, 2], "group that is none of the 2 declared"),
        ({}, [-1, 0], "group that is none of the 2 declared"),
        ({}, [0.0, 1.0], "names groups as float64"),
        ({"groups": 3}, [0, 1], "4 sums of 3 groups"),
        ({"groups": None}, [0, 1], "contributes to groups where it declares none"),
        ({"groups": 4, "contributions": lambda c: Grouped(c["g"], c["a"])}, [0, 1], "declared is int64"),
    ],
)
def test_contributions_to_other_groups_are_refused(
    changes: dict[str, Any], groups: list[float], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        grouped(**changes).total({"g": np.array(groups), "a": np.arange(2)})
