"""Rank tests with differential privacy: what one row can change; the error of the first kind; jobs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import mpcpriv.engine
from mpcpriv import analyses
from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.outline import Outline
from mpcpriv.data.scale import Scale
from mpcpriv.engine.session import Session
from mpcpriv.errors import Unsupported, UsageError
from mpcpriv.party.planning import plan_job
from mpcpriv.privacy.mechanism import Noise
from mpcpriv.release import charges, read_result
from tests.analyses.answers import split_by_columns, split_by_rows, steps
from tests.analyses.grouped_tables import Loaded, elections, iris, prisoners, some
from tests.analyses.test_ranks import few, pairs
from tests.protocol.job_cases import NOW, case
from tests.protocol.parties import outcomes, run

mpcpriv.engine.activate()
from mpcpriv.analyses import private_mann_whitney, private_wilcoxon  # noqa: E402
from mpcpriv.analyses.table import Column, Table, derived, share  # noqa: E402
from mpcpriv.engine import perturb  # noqa: E402

SPLITS = pytest.mark.parametrize("split", [split_by_rows, split_by_columns])
GROUPS = {"value": "v", "group": "g"}
PAIRS = {"value": "v", "paired": "p"}
WHOLE = {"type": "integer", "low": 0.0, "high": 4.0}
TERMS = {
    "private-mann-whitney": [{"name": "v", **WHOLE}, {"name": "g", "type": "boolean"}],
    "private-wilcoxon": [{"name": "v", **WHOLE}, {"name": "p", **WHOLE}],
}
ASKED = {"private-mann-whitney": GROUPS, "private-wilcoxon": PAIRS}
NAMES = pytest.mark.parametrize("name", list(TERMS))
PRIVATE = {
    "privacy": {"mechanism": "discrete-gaussian"},
    "release": {"epsilon": 1.0, "delta": 1e-6},
    "budget": {"epsilon": 5.0, "delta": 1e-6, "period_days": 30},
}


class Silent:
    """No noise, where it would be added."""

    def __init__(self, noise: Noise, size: int, times: int) -> None:
        self.size = size

    def perturb(self, x: Any) -> Any:
        assert len(x) == self.size
        return x


@cache
def noise_of(name: str, epsilon: float = 1.0, parties: int = 3) -> Noise:
    found: Any = analyses.find(name)
    composition = found.composition(found.parameters.model_validate(ASKED[name]))
    return composition.noise(composition.multiplier(epsilon, 1e-6), parties, parties - 1)


def released(name: str, frame: Mapping[str, np.ndarray]) -> np.ndarray:
    """The numbers that get noise, before it, by the analysis's own code on float64."""
    found: Any = analyses.find(name)
    parameters = found.parameters.model_validate(ASKED[name])
    columns = {one["name"]: ColumnTerms.model_validate(one) for one in TERMS[name]}
    outline = Outline(len(frame["v"]), "person", columns)
    made = {}
    for one in found.features(outline, parameters):
        scale, values = Scale.of(one.terms), one.values(frame)
        tensor: Any = torch.from_numpy(scale.scaled(values))
        made[one.terms.name] = Column(one.terms, scale, tensor)
    context = analyses.Context(("a", "b", "c"), 0, steps, noise_of(name))
    table = Table(outline.rows, outline.unit, made)
    return np.asarray(found.run(context, {"t": table}, parameters)["noised"])


def asked_of(name: str, rows: int, noise: Noise) -> analyses.Asked:
    found = analyses.find(name)
    columns = {one["name"]: ColumnTerms.model_validate(one) for one in TERMS[name]}
    given = found.parameters.model_validate(ASKED[name])
    return analyses.Asked(given, {"t": Outline(rows, "person", columns)}, epsilon=1.0, noise=noise)


def excess_of_groups(value: np.ndarray, group: np.ndarray) -> float:
    """2 U - n1 n2 as it is defined; the first group is 0."""
    return float(np.sign(value[group == 0][:, None] - value[group == 1][None]).sum())


def excess_of_pairs(difference: np.ndarray) -> float:
    return float((np.sign(difference) * stats.rankdata(np.abs(difference))).sum())


# -- what one row can change


def changes(name: str, kinds: list[tuple[int, int]], most: int) -> list[tuple[int, float]]:
    """Of all tables with these kinds of rows, and all that have one row less: n, and the change's norm.

    The weights are those of the larger table: how many rows there are is public, whoever is there.
    """
    weight: Any = {"private-mann-whitney": private_mann_whitney, "private-wilcoxon": private_wilcoxon}[name]
    second = "g" if name == "private-mann-whitney" else "p"
    known: dict[tuple[tuple[int, int], ...], np.ndarray] = {}
    found = []
    for rows in range(2, most + 1):
        for table in itertools.combinations_with_replacement(kinds, rows):
            values = np.array(table, dtype=float)
            known[table] = released(name, {"v": values[:, 0], second: values[:, 1]})
            if rows == 2:
                continue
            for gone in set(range(rows)):
                less = known[table[:gone] + table[gone + 1 :]].copy()
                less[-1] *= weight._weight(rows) / weight._weight(rows - 1)
                found.append((rows, math.hypot(*(known[table] - less))))
    return found


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("private-mann-whitney", list(itertools.product((0, 1, 2), (0, 1)))),
        ("private-wilcoxon", [(0, 2), (1, 2), (2, 2), (3, 2), (4, 2)]),
    ],
)
def test_no_row_can_change_more_than_is_paid_for(
    name: str, kinds: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tables of up to six rows, ties, zeros and empty groups among them; and the bound is reached."""
    monkeypatch.setattr(perturb, "Ahead", Silent)
    found: Any = analyses.find(name)
    paid = found.composition(found.parameters.model_validate(ASKED[name])).l2
    moved = changes(name, kinds, 6)
    assert len(moved) > 1000
    for rows in range(3, 7):
        most = max(norm for many, norm in moved if many == rows)
        assert paid * (1 - 1e-6) < most <= paid


@pytest.mark.parametrize("rows", [2, 3, 7, 1000, 99_991, 1 << 17])
def test_what_is_released_fits_however_many_rows(rows: int) -> None:
    """The weights are whole, and never more than what one row may change; little is lost by rounding."""
    whole = private_mann_whitney._weight(rows) * (rows - 1)
    assert 0.999 < whole / (12 << 26) <= 1
    assert (5 << 26) ** 2 + whole**2 <= (13 << 26) ** 2
    assert 0.999 < private_wilcoxon._weight(rows) * 2 * rows / 2**30 <= 1
    assert private_wilcoxon._weight(rows) * rows * (rows + 1) < 2**48
    assert private_mann_whitney._weight(rows) * rows**2 / 4 < 2**48


# -- jobs between parties


@SPLITS
@pytest.mark.parametrize("loaded", [prisoners, elections, iris])
def test_groups_without_the_noise(
    tmp_path: Path, loaded: Callable[[], Loaded], split: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is computed is exact: beneath the noise it is scipy's U."""
    value, group = {prisoners: ("age", "arrest"), elections: ("income", "vote"), iris: ("length", "large")}[
        loaded
    ]
    frame, terms = loaded()
    if loaded is iris:
        frame = {**frame, "large": (frame["species"] > 0).astype(float)}
        terms = [*terms, {"name": "large", "type": "boolean"}]
    frame, terms = few(some((frame, terms), value, group), 120)
    monkeypatch.setattr(perturb, "Ahead", Silent)
    parameters = {"value": value, "group": group}
    found = split(tmp_path, "private-mann-whitney", frame, terms, parameters, **PRIVATE)
    first, second = (frame[value][frame[group] == code] for code in (0, 1))
    u = stats.mannwhitneyu(first, second).statistic
    assert found["counts"] == [len(first), len(second)]
    assert found["excess"] == pytest.approx(2 * u - len(first) * len(second), abs=1e-9)
    assert found["rank_biserial"] == pytest.approx(2 * u / len(first) / len(second) - 1, abs=1e-9)
    # With the noise that it should have had, by hand.
    noise = noise_of("private-mann-whitney", parties=3 if split is split_by_rows else 2)
    of_count, of_excess = (
        math.sqrt(noise.variance) / w for w in (5 << 26, (12 << 26) / (len(first) + len(second) - 1))
    )
    assert found["counts_margin"] == pytest.approx(1.96 * of_count, rel=1e-4)
    assert found["excess_margin"] == pytest.approx(1.96 * of_excess, rel=1e-4)
    n = len(first) + len(second)
    apart = max(abs(len(first) - n / 2) - 3.8906 * of_count, 0)
    z = found["excess"] / math.sqrt((n * n / 4 - apart**2) * (n + 1) / 3 + of_excess**2)
    assert found["z"] == pytest.approx(z, rel=1e-4)
    assert found["p_value"] == pytest.approx(2 * stats.norm.sf(abs(z)) + 1e-4, rel=1e-3)


@SPLITS
@pytest.mark.parametrize("table", ["iris", "elections", "prisoners"])
def test_pairs_without_the_noise(
    tmp_path: Path, table: str, split: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, terms = pairs(table)
    first, second = frame
    parameters = {"value": first, "paired": second, **({"resolution": 0.1} if table == "iris" else {})}
    monkeypatch.setattr(perturb, "Ahead", Silent)
    found = split(tmp_path, "private-wilcoxon", frame, terms, parameters, **PRIVATE)
    excess = excess_of_pairs(np.round(frame[first] - frame[second], 6))
    n = len(frame[first])
    assert found["excess"] == pytest.approx(excess, abs=1e-9)
    assert found["rank_biserial"] == pytest.approx(2 * excess / n / (n + 1), abs=1e-9)
    noise = noise_of("private-wilcoxon", parties=3 if split is split_by_rows else 2)
    deviation = math.sqrt(noise.variance) / 2**30 * n
    assert found["excess_margin"] == pytest.approx(1.96 * deviation, rel=1e-4)
    z = excess / math.sqrt(n * (n + 1) * (2 * n + 1) / 6 + deviation**2)
    assert found["z"] == pytest.approx(z, rel=1e-5)
    assert found["p_value"] == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-3)


@NAMES
def test_every_party_adds_its_noise_to_all_that_is_opened(name: str) -> None:
    noise, times = noise_of(name, parties=2), 60
    rng = np.random.default_rng(3)
    frame = {"v": rng.integers(0, 5, 12) * 1.0, "g": rng.integers(0, 2, 12) * 1.0}
    frame["p"] = rng.integers(0, 5, 12) * 1.0
    columns = [one["name"] for one in TERMS[name]]
    found: Any = analyses.find(name)
    asked = asked_of(name, 12, noise)

    def program(s: Session) -> np.ndarray:
        own = {one: frame[one] for one in columns} if s.rank == 0 else None
        table: Any = share(*derived(found, asked.tables["t"], asked.parameters, own), 0)
        context = analyses.Context(s.parties, s.rank, s.steps, noise)
        drawn = [found.run(context, {"t": table}, asked.parameters) for _ in range(times)]
        assert all(list(one) == ["noised"] for one in drawn)
        return np.array([one["noised"].reveal().numpy() / 2.0 ** one["noised"].bits for one in drawn])

    opened = run(2, program)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perturb, "Ahead", Silent)
        apart = opened - released(name, frame)
    composition = found.composition(asked.parameters)
    assert (composition.rate, composition.steps) == (1.0, 1)
    # Both parties add all of it: one might take its own off again.
    expected = 2 * (composition.multiplier(1.0, 1e-6) * composition.l2) ** 2
    assert noise.variance == pytest.approx(expected, rel=1e-9)
    low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], times) / times
    assert ((low < (apart**2).mean(0) / expected) & ((apart**2).mean(0) / expected < high)).all()
    if apart.shape[1] > 1:  # each number has a noise of its own
        assert abs(np.corrcoef(apart.T)[0, 1]) < 0.6


@NAMES
def test_only_with_noise(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(4)
    frame = {one["name"]: rng.integers(0, 2, 30) * 1.0 for one in TERMS[name]}
    with pytest.raises(Unsupported, match="released with noise only"):
        split_by_rows(tmp_path, name, frame, TERMS[name], ASKED[name])
    found: Any = analyses.find(name)
    context = analyses.Context(("a", "b"), 0, steps)
    with pytest.raises(UsageError, match="nothing is released without noise"):
        found.run(context, {}, found.parameters.model_validate(ASKED[name]))
    with pytest.raises(UsageError, match="rows"):
        found.read(asked_of(name, 1 if "mann" in name else 1 << 18, noise_of(name)), {"noised": np.zeros(2)})


@NAMES
def test_a_plan_knows_what_it_costs(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(4)
    columns = [one["name"] for one in TERMS[name]]
    tables = {
        owner: {one: rng.integers(0, 2, rows) for one in columns}
        for owner, rows in (("alice", 20), ("bob", 15), ("carol", 25))
    }
    job = case(tmp_path, tables, dict.fromkeys(tables, TERMS[name]), name, ASKED[name], **PRIVATE)
    plan = plan_job(job.admitted(), {"alice-rows": 20, "bob-rows": 15, "carol-rows": 25})
    found, failed = outcomes([*(job.program(one).run for one in tables), mpcpriv.engine.deal])
    assert not failed
    assert [report.rounds for report in found[:-1]] == [plan.cost.rounds] * 3
    assert [report.sent for report in found[:-1]] == [sum(row) for row in plan.cost.sent]
    told = read_result(
        job.admitted(), analyses.find(name), found[0].rows, found[0].layout, [one.share for one in found[:-1]]
    )
    analysis: Any = analyses.find(name)
    paid = analysis.composition(None)
    assert told.statement["privacy"]["sensitivity_l2"] == paid.l2
    assert told.statement["privacy"]["scale"] == pytest.approx(paid.multiplier(1.0, 1e-6) * paid.l2, rel=1e-9)
    for charge in charges(job.admitted().agreement, job.job.job, analysis, NOW).values():
        assert 0.99 < charge.loss.epsilon(1e-6) <= 1.0


# -- what is told


def rejected(
    name: str, excesses: np.ndarray, counts: np.ndarray | None, rows: int, noise: Noise, rng: Any
) -> float:
    """How often p <= 0.05, each time with fresh noise."""
    found: Any = analyses.find(name)
    asked = asked_of(name, rows, noise)
    unit = private_mann_whitney._weight(rows) if counts is not None else 2 * private_wilcoxon._weight(rows)
    parts = [excesses * unit] if counts is None else [counts * float(5 << 26), excesses * unit]
    drawn = np.stack(parts, 1)
    drawn = drawn + rng.normal(scale=math.sqrt(noise.variance), size=drawn.shape)
    return float(np.mean([found.read(asked, {"noised": one})["p_value"] <= 0.05 for one in drawn]))


TIMES = 2000
NOISES = pytest.mark.parametrize("epsilon", [0.3, 1.0, 50.0])


def ranked(rng: np.random.Generator, rows: int, ties: str) -> np.ndarray:
    """(TIMES, rows), exchangeable."""
    if ties == "none":
        return rng.normal(size=(TIMES, rows))
    if ties == "some":
        return rng.integers(0, 5, size=(TIMES, rows)).astype(float)
    return (rng.random((TIMES, rows)) < 0.1).astype(float)


@NOISES
@pytest.mark.parametrize("ties", ["none", "some", "nearly all"])
@pytest.mark.parametrize(("rows", "first"), [(40, 20), (40, 3), (150, 75), (150, 10), (400, 120)])
def test_groups_the_error_of_the_first_kind(rows: int, first: int, ties: str, epsilon: float) -> None:
    """Of 2,000 tests where nothing is there 100 have p <= 0.05; 140 are four standard deviations more."""
    rng = np.random.default_rng(abs(hash((rows, first, ties == "none"))) % 1000)
    values = ranked(rng, rows, ties)
    ranks = stats.rankdata(values, axis=1)
    excesses = 2 * ranks[:, :first].sum(1) - first * (rows + 1)
    noise = noise_of("private-mann-whitney", epsilon)
    found = rejected("private-mann-whitney", excesses, np.full(TIMES, first), rows, noise, rng)
    assert found < 0.07
    if ties == "none" and first * 2 == rows:
        assert found > 0.03  # and it is not that nothing is ever rejected


@NOISES
@pytest.mark.parametrize("ties", ["none", "some", "nearly all"])
@pytest.mark.parametrize("rows", [10, 40, 150, 400])
def test_pairs_the_error_of_the_first_kind(rows: int, ties: str, epsilon: float) -> None:
    rng = np.random.default_rng(rows)
    difference = ranked(rng, rows, ties) * rng.choice([-1.0, 1.0], size=(TIMES, rows))
    excesses = (np.sign(difference) * stats.rankdata(np.abs(difference), axis=1)).sum(1)
    noise = noise_of("private-wilcoxon", epsilon)
    found = rejected("private-wilcoxon", excesses, None, rows, noise, rng)
    assert found < 0.07
    if ties == "none":
        assert found > 0.03


def test_groups_that_differ_are_found() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(size=(TIMES, 500)) + np.where(np.arange(500) < 250, 0.5, 0.0)
    excesses = 2 * stats.rankdata(values, axis=1)[:, :250].sum(1) - 250 * 501
    noise = noise_of("private-mann-whitney", 1.0)
    counts = np.full(TIMES, 250)
    assert rejected("private-mann-whitney", excesses, counts, 500, noise, rng) > 0.5
    noise = noise_of("private-wilcoxon", 1.0)
    excesses = np.array([excess_of_pairs(one) for one in rng.normal(0.3, size=(TIMES // 4, 500))])
    assert rejected("private-wilcoxon", excesses, None, 500, noise, rng) > 0.5


@NAMES
def test_what_noise_leaves_of_nothing_is_told_in_numbers(name: str) -> None:
    """Noise can make counts negative and excesses larger than there are pairs."""
    found: Any = analyses.find(name)
    asked = asked_of(name, 10, noise_of(name))
    for one in itertools.product((-1e12, 0.0, 1e12), repeat=2):
        told = found.read(asked, {"noised": np.array(one)})
        assert -1 <= told["rank_biserial"] <= 1
        assert 0 <= told["p_value"] <= 1
        assert all(np.isfinite(value) for value in told.values() if isinstance(value, float))
        assert [table.title for table in found.show(told)][-1].endswith("with noise")
