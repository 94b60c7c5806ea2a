"""Jobs whose owners first find the rows that are about the same people: results, costs, who learns what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpcpriv.engine
from mpcpriv import analyses
from mpcpriv.agreement.admit import LedgerView, Refusal, admit
from mpcpriv.errors import DataError, PeerError, UsageError
from mpcpriv.party import aligning
from mpcpriv.party.jobs import RunReport
from mpcpriv.party.planning import plan_job
from mpcpriv.release import Cohort, Result, read_result
from tests.protocol.job_cases import NOW, OWNERS, Case, case
from tests.protocol.parties import Sight, outcomes

BORN = [f"{1 + i % 28:02d}.{1 + i % 12:02d}.{1940 + i % 60}" for i in range(400)]
PEOPLE = np.array([f"Person Nr. {i}" for i in range(400)])
RULES = {
    "alice": (["casefold"], ["date-dmy"]),
    "bob": (["nfkc", "casefold", "single-spaces"], ["date-mdy"]),
    "carol": (["casefold"], ["date-dmy"]),
}
VALUES = {"alice": "age", "bob": "dose", "carol": "weight"}
NUMBERS = {name: np.random.default_rng(i).uniform(0, 50, 400) for i, name in enumerate(VALUES.values())}


def written(owner: str, people: np.ndarray) -> dict[str, np.ndarray]:
    """The key columns as this owner writes them."""
    names, born = PEOPLE[people], [BORN[i] for i in people]
    if owner == "bob":
        names = np.array([f"  {name.upper()} ".replace(" NR", "   NR") for name in names])
        born = [f"{month}/{day}/{year}" for day, month, year in (one.split(".") for one in born)]
    return {"name": names, "born": np.array(born)}


def aligned(
    folder: Path,
    people: Sequence[np.ndarray],
    parties: Sequence[str] = OWNERS,
    *,
    minimum: int = 1,
    tables: dict[str, dict[str, np.ndarray]] | None = None,
    **options: Any,
) -> Case:
    """A job of means over who is in the tables of all owners, the first of the parties.

    Args:
        people: of each owner, in the order of its rows.
        tables: instead of theirs.
    """
    owners = OWNERS[: len(people)]
    tables = tables or {
        owner: {**written(owner, some), VALUES[owner]: NUMBERS[VALUES[owner]][some]}
        for owner, some in zip(owners, people, strict=True)
    }
    identifiers = [{"name": name, "type": "identifier"} for name in ("name", "born")]
    columns = {
        owner: [{"name": VALUES[owner], "type": "number", "low": 0.0, "high": 50.0}, *identifiers]
        for owner in owners
    }
    keys = {
        f"{owner}-rows": [
            {"column": column, "rules": rules}
            for column, rules in zip(("name", "born"), RULES[owner], strict=True)
        ]
        for owner in owners
    }
    alignment = {"name": "people", "keys": keys, "mode": "all", "minimum_rows": minimum}
    return case(folder, tables, columns, "count-and-mean", parties=parties, alignment=alignment, **options)


def some(seed: int, size: int, first: int = 0, last: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.arange(first, last))[:size]


def run(
    one: Case, parties: Sequence[str] = OWNERS, sight: Sight | None = None, **changes: Any
) -> list[RunReport]:
    results, failed = attempt(one, parties, sight, **changes)
    if failed:
        raise results[failed[0]]
    return results[:-1]


def attempt(
    one: Case, parties: Sequence[str], sight: Sight | None = None, **changes: Any
) -> tuple[list[Any], list[int]]:
    programs = [one.program(name, **changes) for name in parties]
    return outcomes([*(program.run for program in programs), mpcpriv.engine.deal], sight=sight)


def answer(one: Case, reports: list[RunReport]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(opened(one, reports).canonical())["result"]
    return result


def opened(one: Case, reports: list[RunReport]) -> Result:
    shares = [report.share for report in reports]
    analysis = analyses.find(one.job.job.analysis)
    return read_result(one.admitted(), analysis, reports[0].rows, reports[0].layout, shares)


CASES = [
    pytest.param([some(1, 300), some(2, 250)], ("alice", "bob"), id="two"),
    pytest.param([some(3, 300), some(4, 250)], OWNERS, id="two of three"),
    pytest.param([some(5, 300), some(6, 250), some(7, 350)], OWNERS, id="three"),
]


@pytest.mark.parametrize(("people", "parties"), CASES)
def test_the_means_are_of_those_whom_all_have_and_cost_what_was_planned(
    tmp_path: Path, people: list[np.ndarray], parties: tuple[str, ...]
) -> None:
    one = aligned(tmp_path, people, parties)
    common = np.array(sorted(set(people[0].tolist()).intersection(*map(np.ndarray.tolist, people[1:]))))
    assert 50 < len(common) < 250
    reports = run(one, parties)
    owners = OWNERS[: len(people)]
    assert [report.rows for report in reports] == [{f"{o}-rows": len(common) for o in owners}] * len(parties)
    found = answer(one, reports)
    assert found["rows"] == len(common)
    means = [NUMBERS[VALUES[owner]][common].mean() for owner in owners]
    np.testing.assert_allclose(found["mean"], means, atol=50 / 2**18)

    counts = {f"{owner}-rows": len(who) for owner, who in zip(owners, people, strict=True)}
    plan = plan_job(one.admitted(), {**counts, "people": len(common)}).cost
    assert max(report.rounds for report in reports) == plan.rounds
    assert [report.sent for report in reports] == [sum(row) for row in plan.sent]
    assert sum(report.dealt for report in reports) == pytest.approx(sum(plan.dealt_to), rel=0.05)
    assert len({report.transcript for report in reports}) == 1


def predicting(folder: Path, analysis: str, parameters: dict[str, Any], **options: Any) -> tuple[Case, int]:
    """Whether alice's x is above 48, as bob knows it of people; and how many both have."""
    people = [some(8, 300), some(9, 300)]
    tables = {
        "alice": {**written("alice", people[0]), "x": (people[0] % 97).astype(float)},
        "bob": {**written("bob", people[1]), "yes": (people[1] % 97 > 48).astype(int)},
    }
    identifiers = [{"name": name, "type": "identifier"} for name in ("name", "born")]
    columns = {
        "alice": [{"name": "x", "type": "number", "low": 0.0, "high": 97.0}, *identifiers],
        "bob": [{"name": "yes", "type": "boolean"}, *identifiers],
    }
    keys = {
        f"{owner}-rows": [{"column": "name", "rules": RULES["bob"][0]}, {"column": "born", "rules": [rule]}]
        for owner, rule in (("alice", "date-dmy"), ("bob", "date-mdy"))
    }
    one = case(
        folder,
        tables,
        columns,
        analysis,
        {"target": "yes", **parameters},
        parties=("alice", "bob"),
        alignment={"name": "people", "keys": keys, "mode": "all"},
        **options,
    )
    return one, len(set(people[0].tolist()) & set(people[1].tolist()))


def test_rows_stand_beside_those_of_the_same_person(tmp_path: Path) -> None:
    one, common = predicting(tmp_path, "logistic-regression", {"steps": 4, "penalty": 10.0})
    reports = run(one, ("alice", "bob"))
    found: Any = opened(one, reports).answer
    # In any other order the two would have nothing to do with each other.
    (slope,) = found["coefficients"]
    assert slope > 0.05
    assert -found["intercept"] / slope == pytest.approx(48.5, abs=4)
    assert found["rows"] == common


def test_training_with_noise_is_of_those_in_common(tmp_path: Path) -> None:
    one, common = predicting(
        tmp_path,
        "private-logistic-regression",
        {"steps": 5},
        privacy={"mechanism": "discrete-gaussian"},
        release={"epsilon": 50.0, "delta": 1e-5},
        budget={"epsilon": 100.0, "delta": 1e-3, "period_days": 30},
    )
    plan = plan_job(one.admitted(), {"alice-rows": 300, "bob-rows": 300, "people": common}).cost
    reports = run(one, ("alice", "bob"))
    assert reports[0].rows == {"alice-rows": common, "bob-rows": common}
    found: Any = opened(one, reports)
    assert found.answer["coefficients"][0] > 0
    assert f"computed from {common} rows" in found.statement["text"]
    assert [report.rounds for report in reports] == [plan.rounds] * 2


def test_no_identifier_reaches_who_has_no_table(tmp_path: Path) -> None:
    """Carol computes and the dealer deals: of the alignment they are told how many rows there are."""
    people = [some(10, 300), some(11, 250)]
    common = len(set(people[0].tolist()) & set(people[1].tolist()))
    sight = Sight()
    run(aligned(tmp_path, people), sight=sight)
    to_carol = [message for sender in (0, 1) for message in sight.received[2, sender]]
    # Of each owner: its part of a key of 32 bytes, then frames of the session; the first says the rows.
    for sender in (0, 1):
        key, first, *_ = sight.received[2, sender]
        assert len(key) == 32
        assert first.startswith(b"step 1: all_gather")
        assert np.frombuffer(first[-16:], "<i8").tolist()[sender] == common
    points = [m for m in sight.received[1, 0] if len(m) == 300 * 32]
    assert len(points) == 1
    assert all(points[0][:32] not in message for message in to_carol)
    assert max(len(message) for message in sight.received[3, 0] + sight.received[3, 1]) < 16 * 32
    for receiver in (2, 3):
        for sender in (0, 1):
            assert b"mpcpriv alignment" not in b"".join(sight.received[receiver, sender])
    assert b"mpcpriv alignment" in b"".join(sight.received[1, 0])


def spoilt(owner: str, people: np.ndarray, column: str, place: int, value: str) -> dict[str, np.ndarray]:
    table = written(owner, people)
    cells = table[column].astype(object)
    cells[place] = value
    return {**table, column: cells.astype(str), VALUES[owner]: NUMBERS[VALUES[owner]][people]}


BAD = {
    "no name": ("name", "", "column 'name' is missing in 1 row"),
    "no date": ("born", "yesterday", "key column 'born' is not what the rules date-mdy are for in 1 row"),
    "nothing left": ("name", "\x1f", "key column 'name' is missing, or empty once normalised, in 1 row"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_keys_are_counted_for_their_owner_before_anything_is_sent(tmp_path: Path, what: str) -> None:
    column, value, said = BAD[what]
    people = [some(12, 40), some(13, 40)]
    tables = {
        "alice": {**written("alice", people[0]), "age": NUMBERS["age"][people[0]]},
        "bob": spoilt("bob", people[1], column, 3, value),
    }
    one = aligned(tmp_path, people, ("alice", "bob"), tables=tables)
    with pytest.raises(DataError) as caught:
        one.program("bob").load()
    assert said in str(caught.value)
    assert str(caught.value).startswith("data set bob-rows of bob")
    assert "yesterday" not in str(caught.value)
    told = f"data set bob-rows of bob, column {column}: the table does not hold what was agreed"
    assert (caught.value.columns, caught.value.told) == ((column,), told)


def test_two_rows_of_one_person_are_refused(tmp_path: Path) -> None:
    people = [some(14, 40), np.append(some(15, 40), some(15, 40)[:2])]
    with pytest.raises(
        DataError, match=r"alignment people \(name, born\): 4 of 42 rows share their key"
    ) as caught:
        aligned(tmp_path, people, ("alice", "bob")).program("bob").load()
    assert caught.value.told == (
        "data set bob-rows of bob, columns name, born: the table does not hold what was agreed"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"minimum": 21}, "have 20 rows in common; the agreement asks for 21"),
        ({"minimum_rows": 21}, "data set alice-rows has 20 rows; the agreement asks for 21"),
        ({"privacy": {"unnoised": True, "minimum_cohort": 21}}, "the cohort has 20 rows"),
    ],
)
def test_the_minimum_numbers_are_of_those_in_common(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    people = [some(16, 50, 0, 50), some(17, 50, 30, 80)]
    with pytest.raises(UsageError, match=said):
        run(aligned(tmp_path, people, ("alice", "bob"), **options), ("alice", "bob"))
    with pytest.raises(UsageError, match=said):
        plan_job(
            aligned(tmp_path, people, ("alice", "bob"), **options).admitted(),
            {"alice-rows": 50, "bob-rows": 50, "people": 20},
        )
    exactly = {
        name: 20 if isinstance(value, int) else {**value, "minimum_cohort": 20}
        for name, value in options.items()
    }
    assert run(aligned(tmp_path, people, ("alice", "bob"), **exactly), ("alice", "bob"))


def test_nobody_in_common_is_said_by_the_owners(tmp_path: Path) -> None:
    people = [some(18, 30, 0, 40), some(19, 30, 40, 80)]
    with pytest.raises(UsageError, match="0 rows in common"):
        run(aligned(tmp_path, people, ("alice", "bob")), ("alice", "bob"))


def test_a_cohort_a_little_smaller_than_one_before_is_refused(tmp_path: Path) -> None:
    people = [some(20, 50, 0, 50), some(21, 50, 20, 70)]
    one = aligned(tmp_path, people, ("alice", "bob"), privacy={"unnoised": True, "minimum_cohort": 10})
    before = [
        Cohort({"alice-rows": 39}),
        Cohort({"bob-rows": 39}),
    ]  # as `release.cohorts` has an aligned job of 39
    with pytest.raises(UsageError, match="differs by 9 rows"):
        run(one, ("alice", "bob"), earlier=before)
    # The whole of one table, without the other: the two results differ by whom they have not in common.
    with pytest.raises(UsageError, match="differs by 5 rows"):
        run(one, ("alice", "bob"), earlier=[Cohort({"alice-rows": 35})])
    far = [Cohort(rows) for rows in ({"alice-rows": 50}, {"bob-rows": 30}, {"alice-rows": 30})]
    assert run(one, ("alice", "bob"), earlier=far)
    with pytest.raises(UsageError, match="another alignment found"):
        run(one, ("alice", "bob"), earlier=[*far, Cohort({"alice-rows": 30}, "other keys")])


def test_what_cannot_be_computed_is_refused_before_anybody_learns_whom_they_share(tmp_path: Path) -> None:
    people = [some(22, 40), some(23, 40)]
    budget = {"epsilon": 10.0, "delta": 1e-5, "period_days": 30}
    one = aligned(
        tmp_path,
        people,
        ("alice", "bob"),
        privacy={"mechanism": "discrete-gaussian"},
        release={"epsilon": 1.0, "delta": 1e-6},
        budget=budget,
    )
    with pytest.raises(UsageError, match="each owner adds up its own rows"):
        one.program("alice").load()
    with pytest.raises(UsageError, match="each owner adds up its own rows"):
        plan_job(one.admitted(), {"alice-rows": 40, "bob-rows": 40})


def test_who_aligns_under_other_terms_is_noticed_before_points_are_sent(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    people = [some(24, 40), some(25, 40)]
    one, other = (aligned(tmp_path / name, people, ("alice", "bob")) for name in ("one", "other"))
    sight = Sight()
    programs = [one.program("alice").run, other.program("bob").run]
    results, failed = outcomes([*programs, mpcpriv.engine.deal], sight=sight)
    assert set(failed) >= {0, 1}
    assert all(isinstance(results[rank], PeerError) for rank in failed)
    assert "another job" in str(results[0]) + str(results[1])
    assert all(len(message) < 1000 for message in sight.received[1, 0] + sight.received[0, 1])


def test_without_pynacl_an_owner_refuses_and_others_need_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = aligned(tmp_path, [some(26, 40), some(27, 40)])
    monkeypatch.setattr(aligning, "find_spec", lambda name: None)
    assert not aligning.installed()
    said = r"alignment: it needs PyNaCl, which is not installed at alice; pip install 'mpcpriv\[alignment\]'"
    with pytest.raises(UsageError, match=said):
        one.program("alice").load()
    one.program("carol").load()
    assert plan_job(one.admitted(), {"alice-rows": 40, "bob-rows": 40})
    verdict = admit(
        one.agreement,
        one.job,
        now=NOW,
        me="bob",
        ledger=LedgerView(),
        newest=1,
        analyses=analyses.installed(),
        aligns=False,
    )
    assert isinstance(verdict, Refusal)
    assert "not installed at bob" in verdict.reasons[0]


def test_a_plan_says_who_learns_what_of_whom(tmp_path: Path) -> None:
    two = aligned(tmp_path, [some(28, 40), some(29, 40)])
    plan = plan_job(two.admitted(), {"alice-rows": 40, "bob-rows": 30})
    told = dict(plan.learns)
    assert "how many rows alice-rows and bob-rows have in common" in told["everybody who takes part"]
    assert "which of its own rows" in told["each of alice and bob"]
    assert "no identifier" in told["carol"]
    # Nobody knows beforehand how many there will be: as many as the smallest has is the most.
    most = plan_job(two.admitted(), {"alice-rows": 40, "bob-rows": 30, "people": 30})
    assert most.cost == plan.cost
    with pytest.raises(UsageError, match="31 rows in common"):
        plan_job(two.admitted(), {"alice-rows": 40, "bob-rows": 30, "people": 31})
    with pytest.raises(UsageError, match="rows of folk: the job has no such data set"):
        plan_job(two.admitted(), {"folk": 31})
    three = aligned(tmp_path, [some(28, 40), some(29, 40), some(30, 40)])
    plan = plan_job(three.admitted(), dict.fromkeys([f"{owner}-rows" for owner in OWNERS], 40))
    assert not any("no identifier" in what for _, what in plan.learns)
    assert ("alice and bob", "together: which people of alice carol has, too") in plan.learns
    assert ("alice and carol", "together: which people of alice bob has, too") in plan.learns
    assert not any(who == "bob and carol" and "people" in what for who, what in plan.learns)


def test_progress_is_told(tmp_path: Path) -> None:
    one = aligned(tmp_path, [some(31, 300), some(32, 200)], ("alice", "bob"))
    seen: list[tuple[str, int, int, bool]] = []

    def watch(loops: Any) -> None:
        seen.extend((loop.name, loop.done, loop.turns, loop.over) for loop in loops)

    programs = [one.program(name) for name in ("alice", "bob")]
    programs[1].watch(watch)
    results, failed = outcomes([*(program.run for program in programs), mpcpriv.engine.deal])
    assert not failed, results
    found = [one for one in seen if one[0] == "aligning by people"]
    assert found[-1] == ("aligning by people", 500, 500, True)
    assert [one[1] for one in found] == sorted(one[1] for one in found)
    assert len(found) > 2


def test_an_input_digest_covers_all_rows_and_their_keys(tmp_path: Path) -> None:
    from mpcpriv.party.jobs import input_digest

    people = [some(33, 40), some(34, 40)]
    salt = b"s" * 32

    def digest(who: np.ndarray, name: str, born: str | None = None) -> str:
        (tmp_path / name).mkdir()
        one = aligned(tmp_path / name, [who, people[1]], ("alice", "bob"))
        if born is not None:
            table = one.data["alice"].read_text().replace(BORN[who[0]], born, 1)
            one.data["alice"].write_text(table)
        program = one.program("alice")
        program.load()
        return input_digest(program._prepared[2], salt)  # type: ignore[attr-defined]

    whole = digest(people[0], "a")
    assert whole == digest(people[0], "b")
    assert whole != digest(people[0][:-1], "c")
    assert whole != digest(people[0], "d", "31.12.2001")


def test_a_job_that_names_no_alignment_is_not_aligned(tmp_path: Path) -> None:
    one = aligned(tmp_path, [some(35, 40), some(36, 40)], ("alice", "bob"))
    bare = one.job.job.model_copy(update={"alignment": None})
    assert "alignment" not in json.loads(bare.canonical())
    with pytest.raises(UsageError, match='write alignment = "people"'):
        replace(one, job=one.job.model_copy(update={"job": bare})).program("alice").load()
