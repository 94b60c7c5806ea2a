"""Counts by category: exact, suppressed where small, noised where asked; and cohorts that differ by few."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mpcpriv.engine
from mpcpriv.analyses.cells import suppress
from mpcpriv.analyses.count_by_category import ANALYSIS as COUNT_BY_CATEGORY
from mpcpriv.analyses.query import Query
from mpcpriv.engine.session import Session
from mpcpriv.errors import RangeError, Unsupported, UsageError
from mpcpriv.party.jobs import RunReport
from mpcpriv.party.planning import plan_job
from mpcpriv.privacy.discrete import laplace_tail
from mpcpriv.privacy.mechanism import Kind, Noise
from mpcpriv.release.cells import above, rounded
from mpcpriv.release.rules import Cohort, difference
from mpcpriv.release.share import combine
from tests.protocol.job_cases import OWNERS, Case, Tables, case, column
from tests.protocol.parties import run as run_parties
from tests.protocol.test_jobs import run, summary, values
from tests.protocol.test_private_jobs import BUDGET, GAUSSIAN, document

mpcpriv.engine.activate()

from mpcpriv.engine.tensor import SharedTensor  # noqa: E402

REGIONS = ["north", "south", "west", "east"]


def tables(counts: Mapping[tuple[str, int], tuple[int, int, int]]) -> Tables:
    """Three owners' rows, so many of each region and state of health."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for place, owner in enumerate(OWNERS):
        rows = [key for key, numbers in counts.items() for _ in range(numbers[place])]
        found[owner] = {
            "region": np.array([region for region, _ in rows]),
            "ill": np.array([ill for _, ill in rows]),
        }
    return found


TERMS = [
    column("region", np.array([0]), "category", categories=REGIONS),
    column("ill", np.array([0]), "boolean"),
]
COUNTS = dict(
    zip(
        itertools.product(REGIONS, (0, 1)),
        [(9, 8, 7), (2, 1, 1), (30, 0, 1), (1, 1, 3), (0, 0, 0), (4, 5, 6), (10, 20, 30), (1, 2, 2)],
        strict=True,
    )
)
TOTALS = [sum(one) for one in COUNTS.values()]


def counting(folder: Path, privacy: dict[str, Any], counts: Any = COUNTS, **options: Any) -> Case:
    return case(
        folder, tables(counts), dict.fromkeys(OWNERS, TERMS), "count-by-category", privacy=privacy, **options
    )


def unnoised(**changes: Any) -> dict[str, Any]:
    return {"unnoised": True, "minimum_cohort": 10, **changes}


def test_counts_are_exact_and_cells_are_named(tmp_path: Path) -> None:
    one = counting(tmp_path, unnoised(smallest_cell=1))
    found = values(one, run(one))
    assert found["counts"] == TOTALS
    assert found["cells"][:3] == ["north / ill 0", "north / ill 1", "south / ill 0"]
    assert found["rows"] == sum(TOTALS)


def test_small_cells_are_suppressed_before_anybody_sees_them(tmp_path: Path) -> None:
    one = counting(tmp_path, unnoised(smallest_cell=6))
    assert values(one, run(one))["counts"] == [24, -1, 31, -1, -1, -1, 60, -1]


def test_one_small_cell_takes_the_smallest_other_with_it(tmp_path: Path) -> None:
    one = counting(tmp_path, unnoised(smallest_cell=1))
    assert 0 in values(one, run(one))["counts"]
    one = counting(tmp_path, unnoised(smallest_cell=4))
    # The empty cell alone would be the rows less all others.
    assert values(one, run(one))["counts"] == [24, -1, 31, 5, -1, 15, 60, 5]


def suppressed(counts: list[int], least: int) -> list[int]:
    hidden = {n for n, count in enumerate(counts) if count < least}
    if 0 < len(hidden) < len(counts):
        hidden.add(min((n for n in range(len(counts)) if n not in hidden), key=lambda n: counts[n]))
    return [-1 if n in hidden else count for n, count in enumerate(counts)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9) | st.integers(0, 2**28), min_size=1, max_size=7), st.integers(1, 9))
def test_suppression_is_as_documented(counts: list[int], least: int) -> None:
    def program(_: object) -> list[int]:
        secret = SharedTensor(np.array(counts, dtype=float), src=0)
        shown: list[float] = suppress(secret, least).get_plain_text().tolist()
        return [round(one) for one in shown]

    found = run_parties(2, program)[0]
    expected = suppressed(counts, least)
    ties = [count for count in counts if count >= least]
    if found != expected:  # of equal smallest ones either goes
        assert sorted(found) == sorted(expected)
        assert ties.count(min(ties)) > 1


def test_noised_counts_are_near_and_nothing_is_suppressed(tmp_path: Path) -> None:
    one = counting(tmp_path, dict(GAUSSIAN), release={"epsilon": 2.0, "delta": 1e-6}, budget=BUDGET)
    found = document(one, run(one))
    noise = found["statement"]["privacy"]["noise"] / GRID
    assert found["result"]["margin"] == pytest.approx(1.96 * noise, rel=1e-3)
    assert np.abs(np.array(found["result"]["counts"]) - TOTALS).max() < 7 * noise
    assert found["statement"]["privacy"]["sensitivity_l2"] == GRID


# -- rounding


def opened(reports: list[RunReport]) -> list[int]:
    """What any recipient can read, whatever its daemon does: in units of the grid."""
    values, _ = combine(reports[0].layout, [report.share for report in reports])
    found: list[int] = values["query"].tolist()
    return found


def nearest(count: int, base: int) -> int:
    return (2 * count + base) // (2 * base) * base


def test_counts_are_rounded_before_anybody_sees_them(tmp_path: Path) -> None:
    for base in (3, 5, 10):
        one = counting(tmp_path, unnoised(smallest_cell=1, rounding=base))
        reports = run(one)
        assert opened(reports) == [nearest(count, base) for count in TOTALS]
        found = document(one, reports)
        assert found["result"]["counts"] == opened(reports)
        assert f"nearest multiple of {base}, " in found["statement"]["rounding"]


def test_small_counts_are_suppressed_by_what_they_are_and_not_by_what_they_round_to(tmp_path: Path) -> None:
    one = counting(tmp_path, unnoised(smallest_cell=4, rounding=10))
    reports = run(one)
    # 5 rounds to 10 and is shown, 24 to 20; 4 goes with the empty cell.
    assert opened(reports) == values(one, reports)["counts"] == [20, -1, 30, 10, -1, 20, 60, 10]
    one = counting(tmp_path, unnoised(smallest_cell=6, rounding=10))
    assert opened(run(one)) == [20, -1, 30, -1, -1, -1, 60, -1]


def test_a_plan_knows_what_rounding_costs(tmp_path: Path) -> None:
    one = counting(tmp_path, unnoised(smallest_cell=4, rounding=5))
    rows = {f"{owner}-rows": sum(c[n] for c in COUNTS.values()) for n, owner in enumerate(OWNERS)}
    plan = plan_job(one.admitted(), rows)
    reports = run(one)
    assert [report.rounds for report in reports] == [plan.cost.rounds] * 3
    assert [report.sent for report in reports] == [sum(row) for row in plan.cost.sent]
    assert "without noise, counts rounded to multiples of 5: " in dict(plan.learns)["alice"]


def test_a_choice_is_no_number_and_noised_counts_are_not_rounded(tmp_path: Path) -> None:
    terms = dict.fromkeys(OWNERS, TERMS)
    rounding = unnoised(rounding=5)
    one = case(tmp_path, tables(COUNTS), terms, "most-frequent-category", privacy=rounding)
    assert values(one, run(one))["category"] == "east / ill 0"
    asked = {"release": {"epsilon": 50.0}, "budget": {**BUDGET, "epsilon": 50.0}}
    one = counting(tmp_path, {**rounding, "mechanism": "discrete-laplace"}, **asked)
    found = document(one, run(one))
    assert "rounding" not in found["statement"]
    assert any(count % 5 for count in found["result"]["counts"])


def test_what_cannot_be_rounded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = summary(tmp_path, privacy={"unnoised": True, "minimum_cohort": 2, "rounding": 5})
    for refused in (lambda: run(one), lambda: plan_job(one.admitted())):
        with pytest.raises(Unsupported, match="rounded to multiples of 5, and only counts of rows can be"):
            refused()
    one = counting(tmp_path, unnoised(rounding=5))
    actual = COUNT_BY_CATEGORY.query
    monkeypatch.setattr(
        type(COUNT_BY_CATEGORY), "query", lambda self, asked: dataclasses.replace(actual(asked), grid=None)
    )
    with pytest.raises(Unsupported, match="only counts of rows can be"):
        run(one)


BASES = [2, 3, 5, 10, 16, 999, 10_000]


@pytest.mark.parametrize("parties", [2, 3])
@pytest.mark.parametrize("most", [0, 1, 5_000, 2**30 - 1, 2**34])
def test_rounding_is_exact_for_every_remainder(parties: int, most: int) -> None:
    chance = np.random.default_rng(most)
    lines = []
    for base in BASES:
        unit = 16 * base if most == 2**34 else base
        around = np.arange(-3, 4) + unit * chance.integers(0, most // unit + 1, (40, 1))
        halves = around + unit // 2
        ends = np.array([0, 1, most - 1, most, most // 2])
        counts = np.concatenate([around.ravel(), halves.ravel(), ends, np.arange(min(most + 1, 300))])
        lines.append((unit, counts.clip(0, most)))

    def program(session: Session) -> list[list[int]]:
        found = []
        for unit, counts in lines:
            secret = torch.from_numpy(counts if session.rank == 0 else 0 * counts)
            share = session.given(secret) + session.zero_share(tuple(counts.shape))
            (whole,) = session.open("test", [rounded(session, share, unit, most)])
            found.append(whole.tolist())
        return found

    for (unit, counts), found in zip(lines, run_parties(parties, program)[0], strict=True):
        assert found == [nearest(count, unit) for count in counts.tolist()]


def test_rounding_takes_five_rounds_and_two_thresholds() -> None:
    def program(session: Session) -> int:
        counts = session.zero_share((7,))
        before = session.cost.rounds
        rounded(session, counts, 5 * 16, 1_000_000 * 16)
        return session.cost.rounds - before

    assert run_parties(2, program) == [5, 5]


def test_more_rows_than_can_be_compared_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcpriv.party.jobs.MOST_COUNTED", sum(TOTALS))
    for rule in ({"rounding": 5, "smallest_cell": 1}, {"smallest_cell": 2}):
        with pytest.raises(RangeError, match="up to 143 only"):
            run(counting(tmp_path, unnoised(**rule)))
    assert values(one := counting(tmp_path, unnoised(smallest_cell=1)), run(one))["counts"] == TOTALS


# -- counts with noise


GRID = 2**14
"""What a row counts for beneath noise."""
LAPLACE = {"mechanism": "discrete-laplace"}


def noised(folder: Path, epsilon: float, privacy: dict[str, Any] = LAPLACE, **parameters: Any) -> Case:
    delta = {} if privacy is LAPLACE else {"delta": 1e-6}
    release, budget = {"epsilon": epsilon, **delta}, {**BUDGET, "epsilon": 50.0}
    return counting(folder, dict(privacy), parameters=parameters, release=release, budget=budget)


def test_truncated_counts_are_between_nothing_and_all(tmp_path: Path) -> None:
    one = noised(tmp_path, 0.02, truncated=True)
    reports = run(one)
    found = document(one, reports)["result"]
    noisy = [count / GRID for count in opened(reports)]
    assert found["counts"] == [min(max(round(count), 0), 144) for count in noisy]
    assert min(noisy) < 0 or max(noisy) > 144
    assert "threshold" not in found


@pytest.mark.parametrize("privacy", [LAPLACE, GAUSSIAN])
def test_cells_below_the_threshold_are_opened_to_nobody(tmp_path: Path, privacy: dict[str, Any]) -> None:
    one = noised(tmp_path, 3.0, privacy, spurious=1e-6)
    reports = run(one)
    told = document(one, reports)
    found = told["result"]
    if privacy is LAPLACE:  # so seldom that all eight cells together are shown as seldom as is asked
        least, scale = round(GRID * found["threshold"]), told["statement"]["privacy"]["scale"]
        assert laplace_tail(scale, 3, least) <= 1e-6 / 8 < laplace_tail(scale, 3, least - 1)
    for count, open_to_all in zip(found["counts"], opened(reports), strict=True):
        assert (count == -1) == (open_to_all == -GRID)
    shown = [count for count in found["counts"] if count != -1]
    assert min(shown) >= found["threshold"] - 0.5 > 2
    assert found["counts"][4] == -1  # nobody is there
    assert found["counts"][6] == pytest.approx(60, abs=25)
    assert 0 < len(shown) < 8


def test_a_threshold_is_of_noise_and_what_is_truncated_stays_suppressed(tmp_path: Path) -> None:
    one = noised(tmp_path, 3.0, truncated=True, spurious=1e-6)
    assert document(one, run(one))["result"]["counts"][4] == -1
    without = counting(tmp_path, unnoised(), parameters={"spurious": 0.01})
    with pytest.raises(UsageError, match="spurious: cells that noise alone would show"):
        run(without)
    truncated = counting(tmp_path, unnoised(smallest_cell=6), parameters={"truncated": True})
    assert values(truncated, run(truncated))["counts"] == [24, -1, 31, -1, -1, -1, 60, -1]


def test_what_is_shown_is_described(tmp_path: Path) -> None:
    told = COUNT_BY_CATEGORY.outputs(noised(tmp_path, 1.0, truncated=True, spurious=1e-6).job.job)
    assert "small ones are too large; -1 where that is below the threshold" in told["counts"]
    assert "threshold" in told
    plain = COUNT_BY_CATEGORY.outputs(noised(tmp_path, 1.0).job.job)
    assert (plain["counts"], "threshold" in plain) == ("how many rows are in each, with noise", False)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-(2**60), 2**60) | st.integers(95, 105), min_size=1, max_size=9))
def test_the_threshold_is_exact(sums: list[int]) -> None:
    def program(session: Session) -> list[int]:
        secret = torch.tensor(sums) if session.rank == 0 else torch.zeros(len(sums), dtype=torch.int64)
        share = session.given(secret) + session.zero_share((len(sums),))
        found: list[int] = session.open("test", [above(session, share, 100, 16)])[0].tolist()
        return found

    assert run_parties(2, program)[0] == [one if one >= 100 else -16 for one in sums]


@pytest.mark.parametrize("kind", ["discrete-gaussian", "discrete-laplace"])
@pytest.mark.parametrize("parties", [1, 3])
def test_empty_cells_are_shown_as_seldom_as_is_said(kind: Kind, parties: int) -> None:
    noise = Noise(kind, Fraction(400 if kind == "discrete-gaussian" else 20), parties, 0)
    size, chance = 10_000, 0.01
    drawn = sum(np.asarray(noise.share(size)) for _ in range(parties))
    least = noise.exceeded(chance)
    reached = int((drawn >= least).sum())
    assert stats.binomtest(reached, size, chance, "greater").pvalue > 1e-6
    if kind == "discrete-laplace":  # and a little less would not do
        more = int((drawn >= least - 3).sum())
        assert stats.binomtest(more, size, chance, "less").pvalue > 1e-6
    else:
        assert least < 1.5 * np.quantile(drawn, 1 - chance)


def test_a_query_of_what_are_no_counts_has_no_threshold() -> None:
    ends = np.zeros(2, dtype=np.int64), np.ones(2, dtype=np.int64)

    def query(**given: Any) -> Query:
        return Query(*ends, lambda _: np.zeros((1, 2), dtype=np.int64), lambda _: {}, **given)

    for wrong in ({"spurious": 0.1}, {"grid": 16, "spurious": 0.0}, {"grid": 16, "spurious": 1.0}):
        with pytest.raises(UsageError, match="spurious"):
            query(**wrong)
    assert query(grid=16, spurious=0.1).spurious == 0.1
    with pytest.raises(UsageError, match="no threshold"):
        Noise("one-sided-geometric", Fraction(1), 2, 1).exceeded(0.1)


def test_cohorts_that_differ_by_few_rows_are_not_both_released(tmp_path: Path) -> None:
    one = counting(tmp_path, unnoised())
    rows = {"alice-rows": 57, "bob-rows": 37, "carol-rows": 50}
    assert values(one, run(one, earlier=[Cohort(rows)]))["rows"] == 144
    for changed in ({**rows, "bob-rows": 38}, {**rows, "alice-rows": 50, "carol-rows": 48}):
        with pytest.raises(UsageError, match=r"differs by [19] rows from one that was released"):
            run(one, earlier=[Cohort(rows), Cohort(changed)])
    assert values(one, run(one, earlier=[Cohort({**rows, "bob-rows": 27})]))["rows"] == 144
    assert difference(rows, {"alice-rows": 57}) == 87


def test_what_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    terms = [column("region", np.array([0.0, 9.0]))]
    data: Tables = {owner: {"region": np.arange(5.0)} for owner in OWNERS}
    one = case(tmp_path, data, dict.fromkeys(OWNERS, terms), "count-by-category", privacy=unnoised())
    with pytest.raises(UsageError, match="is a number; a category or a boolean"):
        run(one)
    many = [column(f"c{n}", np.array([0]), "category", categories=REGIONS) for n in range(7)]
    data = {owner: {f"c{n}": np.array(REGIONS) for n in range(7)} for owner in OWNERS}
    one = case(tmp_path, data, dict.fromkeys(OWNERS, many), "count-by-category", privacy=unnoised())
    with pytest.raises(UsageError, match="16384 cells; ask for fewer columns"):
        run(one)
