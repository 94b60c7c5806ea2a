"""The budget ledger: what fits is taken, what is debited stays, and sums are exact."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from mpcpriv.party import state as state_module
from mpcpriv.party.state import State
from mpcpriv.privacy import ledger as module
from mpcpriv.privacy.ledger import Charge, Ledger, NotReserved, period_end, period_of, total
from mpcpriv.privacy.loss import ORDERS, Allowance, Loss
from tests.privacy.budgets import END, INPUTS, NOW, STUDY, charge, debit, job, opened


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    state = State(url)
    yield state.ledger
    state.close()


def reserve(ledger: Ledger, number: int, **charges: Charge) -> list[str]:
    return ledger.reserve(job(number), STUDY, charges, NOW)


def test_what_is_reserved_counts_as_spent(ledger: Ledger) -> None:
    assert reserve(ledger, 1, north=charge(0.75)) == []
    assert reserve(ledger, 2, north=charge(0.5)) != []
    assert reserve(ledger, 3, north=charge(0.25)) == []
    assert ledger.spent(STUDY, "north", 0) == Loss.pure_dp(0.75) + Loss.pure_dp(0.25)
    assert ledger.spent(STUDY, "north", 0, reserved=False) == Loss.none()
    debit(ledger, job(3), b"x")
    assert ledger.spent(STUDY, "north", 0, reserved=False) == Loss.pure_dp(0.25)


def test_a_refusal_says_what_is_left_and_what_was_asked(ledger: Ledger) -> None:
    reserve(ledger, 1, north=charge(1.69, 2))
    has = "budget: data set north has epsilon 0.31 left of 2 at delta 1e-06"
    would = "and this job would spend 0.5; ask for less"
    assert reserve(ledger, 2, north=charge(0.5, 2)) == [f"{has} until 2027-01-31, {would}, or wait"]
    assert reserve(ledger, 2, north=replace(charge(0.5, 2), until=None)) == [f"{has}, {would}"]


def test_jobs_that_cost_less_together_are_told_both_prices(ledger: Ledger) -> None:
    gaussian = Charge(Loss.zcdp(0.05), Allowance(2, 1e-6), 0)
    reserve(ledger, 1, north=gaussian)
    (reason,) = reserve(ledger, 2, north=gaussian)
    assert reason.endswith("would spend 0.6706 (1.472 by itself); ask for less")


def test_a_mechanism_that_has_no_epsilon_there_is_refused(ledger: Ledger) -> None:
    (reason,) = reserve(ledger, 1, north=Charge(Loss.zcdp(1e-9), Allowance(2, 0), 0))
    assert "has no epsilon at that delta" in reason
    failing = Loss.of([0.0] * len(ORDERS), delta=1e-3)
    assert reserve(ledger, 1, north=Charge(failing, Allowance(1e6, 1e-6), 0)) != []
    assert ledger.entries() == []


def test_all_data_sets_are_charged_or_none(ledger: Ledger) -> None:
    reserve(ledger, 1, north=charge(0.75), south=charge(0.125))
    reasons = reserve(ledger, 2, north=charge(0.5), south=charge(0.5), west=charge(1.5))
    assert [reason.split()[3] for reason in reasons] == ["north", "west"]
    assert {entry.job for entry in ledger.entries()} == {job(1)}
    assert reserve(ledger, 2, south=charge(0.875)) == [], "nothing of the refused one is kept"


def test_budgets_do_not_mix(ledger: Ledger) -> None:
    assert reserve(ledger, 1, north=charge(1.0)) == []
    assert reserve(ledger, 2, south=charge(1.0)) == []
    assert reserve(ledger, 3, north=charge(1.0, period=1)) == []
    assert ledger.reserve(job(4), "other", {"north": charge(1.0)}, NOW) == []
    assert reserve(ledger, 5, north=charge(1e-9)) != []


@pytest.mark.parametrize("count", [1, 8, 64])
def test_a_budget_that_fits_n_charges_takes_n(ledger: Ledger, count: int) -> None:
    one = charge(1 / count, delta=0)
    taken = [reserve(ledger, number, north=one) == [] for number in range(count + 2)]
    assert taken == [True] * count + [False, False]


@pytest.mark.parametrize("count", [1, 7, 30])
def test_a_budget_that_fits_n_gaussians_takes_n(ledger: Ledger, count: int) -> None:
    loss = Loss.zcdp(0.003)
    allowance = Allowance((loss * count).epsilon(1e-6), 1e-6)
    one = Charge(loss, allowance, 0)
    taken = [reserve(ledger, number, north=one) == [] for number in range(count + 2)]
    assert taken == [True] * count + [False, False]


def test_the_same_reservation_again_changes_nothing(ledger: Ledger) -> None:
    same = {"north": charge(0.75), "south": charge(0.5)}
    for _ in range(3):
        assert reserve(ledger, 1, **same) == []
    debit(ledger, job(1), b"x")
    before = ledger.entries()
    assert reserve(ledger, 1, **same) == []
    assert ledger.entries() == before


def test_a_job_is_charged_at_one_price(ledger: Ledger) -> None:
    reserve(ledger, 1, north=charge(0.5))
    for others in (
        {"north": charge(0.25)},
        {"north": charge(0.5, period=1)},
        {"south": charge(0.5)},
        {"north": charge(0.5), "south": charge(0.5)},
        {},
    ):
        assert "another price" in reserve(ledger, 1, **others)[0]
    assert "another price" in ledger.reserve(job(1), "other", {"north": charge(0.5)}, NOW)[0]
    assert ledger.spent(STUDY, "north", 0) == Loss.pure_dp(0.5)


def test_a_new_version_with_other_periods_opens_no_fresh_budget(ledger: Ledger) -> None:
    """A budget of a month is spent; a version with weeks, or that begins today, comes in the middle of it."""
    assert reserve(ledger, 1, north=charge(1.0)) == []
    assert reserve(ledger, 2, north=charge(0.5, period=3)) == []  # what the numbers alone say
    ledger.lapse(job(2))
    week = replace(charge(0.5, period=3), since=END - timedelta(days=10), until=END - timedelta(days=3))
    assert reserve(ledger, 2, north=week) != []
    assert reserve(ledger, 3, south=week) == []
    # The month is over: what was spent in it counts no more.
    after = replace(charge(0.5, period=5), since=END, until=END + timedelta(days=7))
    assert reserve(ledger, 4, north=after) == []


def test_what_lapses_is_free_again_and_may_be_reserved_anew(ledger: Ledger) -> None:
    reserve(ledger, 1, north=charge(1.0))
    ledger.lapse(job(1))
    ledger.lapse(job(1))
    ledger.lapse(job(99))
    assert ledger.spent(STUDY, "north", 0) == Loss.none()
    with pytest.raises(NotReserved):
        debit(ledger, job(1), b"x")
    assert reserve(ledger, 2, north=charge(0.5)) == []
    assert reserve(ledger, 1, north=charge(1.0)) != [], "not at the old price of others"
    assert reserve(ledger, 1, north=charge(0.25)) == []
    assert debit(ledger, job(1), b"x") == b"x"
    assert [(entry.job, entry.state) for entry in ledger.entries()] == [
        (job(2), "reserved"),
        (job(1), "debited"),
    ]


def test_a_debit_is_never_given_back(ledger: Ledger) -> None:
    reserve(ledger, 1, north=charge(1.0))
    debit(ledger, job(1), b"x")
    ledger.lapse(job(1))
    assert ledger.payload(job(1)) == b"x"
    assert reserve(ledger, 2, north=charge(0.5)) != []


def test_a_retry_is_handed_the_bytes_of_the_first_time(ledger: Ledger) -> None:
    reserve(ledger, 1, north=charge(0.5))
    assert ledger.payload(job(1)) is None
    first = bytes(range(256)) * 1000
    assert debit(ledger, job(1), first) == first
    assert debit(ledger, job(1), b"another sample") == first
    assert ledger.payload(job(1)) == first
    (entry,) = ledger.entries()
    assert (entry.state, entry.inputs) == ("debited", INPUTS)
    assert entry.settled is not None


def test_empty_bytes_are_bytes(ledger: Ledger) -> None:
    reserve(ledger, 1, north=charge(0.5))
    assert debit(ledger, job(1), b"") == b""
    assert debit(ledger, job(1), b"more") == b""
    assert ledger.payload(job(1)) == b""


def test_without_a_reservation_nothing_is_released(ledger: Ledger) -> None:
    with pytest.raises(NotReserved, match="may release nothing"):
        debit(ledger, job(1), b"x")
    assert ledger.payload(job(1)) is None


def test_a_debit_is_of_the_callers_transaction(ledger: Ledger) -> None:
    reserve(ledger, 1, north=charge(0.5))
    with ledger._engine.begin() as connection:
        ledger.debit(connection, job(1), INPUTS, b"x")
        connection.rollback()
    assert ledger.payload(job(1)) is None
    assert ledger.entries()[0].state == "reserved"


def test_a_release_that_costs_nothing_is_written_once_too(ledger: Ledger) -> None:
    assert reserve(ledger, 1) == []
    assert debit(ledger, job(1), b"x") == b"x"
    assert debit(ledger, job(1), b"y") == b"x"
    assert ledger.entries() == []


def test_a_negative_loss_is_refused(ledger: Ledger) -> None:
    none = Loss.none()
    for wrong in (
        {"pure": -1},
        {"delta": -1},
        {"rdp": (-1, *none.rdp[1:])},
        {"rdp": (*none.rdp[1:], -1), "pure": None},
    ):
        with pytest.raises(ValueError, match="what was spent does not come back"):
            reserve(ledger, 1, north=Charge(replace(none, **wrong), Allowance(1, 1e-6), 0))
    assert ledger.entries() == []


def test_an_allowance_that_is_no_number_covers_nothing(ledger: Ledger) -> None:
    assert reserve(ledger, 1, north=charge(0.5, float("nan"))) != []


def test_entries_tell_everything(ledger: Ledger) -> None:
    reserve(ledger, 1, north=charge(0.5, delta=1e-300), south=charge(0.1, 0.3, period=7))
    ledger.reserve(job(2), "other", {"north": charge(0.25)}, NOW + timedelta(hours=1))
    one, two, three = ledger.entries()
    assert (one.job, one.agreement, one.dataset, one.period, one.until) == (job(1), STUDY, "north", 0, END)
    assert (one.loss, one.allowance) == (Loss.pure_dp(0.5), Allowance(1.0, 1e-300))
    assert (one.state, one.reserved, one.settled, one.inputs) == ("reserved", NOW, None, None)
    assert (two.dataset, two.period, two.allowance) == ("south", 7, Allowance(0.3, 1e-6))
    assert three.reserved == NOW + timedelta(hours=1)
    assert ledger.entries(STUDY) == [one, two]
    assert ledger.entries(dataset="north") == [one, three]
    assert ledger.entries("other", "north") == [three]
    assert ledger.entries("other", "south") == []


def random_loss(chance: random.Random) -> Loss:
    bits = [chance.randrange(80) for _ in ORDERS]
    return Loss(tuple(map(chance.getrandbits, bits)), chance.getrandbits(70), chance.getrandbits(60))


def test_ten_thousand_losses_add_up_to_the_unit(ledger: Ledger) -> None:
    chance = random.Random(5)
    losses = [random_loss(chance) for _ in range(10_000)]
    releases = [
        {"job": job(number), "state": "reserved" if number % 2 else "lapsed", "reserved": 0}
        for number in range(len(losses))
    ]
    charges = [
        module._row(job(number), STUDY, "north", Charge(loss, Allowance(1, 0), 0))
        for number, loss in enumerate(losses)
    ]
    with ledger._engine.begin() as connection:
        connection.execute(module._releases.insert(), releases)
        connection.execute(module._charges.insert(), charges)
    found = ledger.spent(STUDY, "north", 0)
    assert found.pure == sum(loss.pure or 0 for loss in losses[1::2])
    assert found.delta == sum(loss.delta for loss in losses[1::2])
    assert found.rdp == tuple(sum(column) for column in zip(*(one.rdp for one in losses[1::2]), strict=True))


def test_a_thousand_tiny_charges_do_not_drift(ledger: Ledger) -> None:
    tiny = Charge(Loss.pure_dp(0.001), Allowance(1.0, 0), 0)
    sets = [f"set-{number}" for number in range(40)]
    for number in range(25):
        assert ledger.reserve(job(number), STUDY, dict.fromkeys(sets, tiny), NOW) == []
    for name in sets:
        assert ledger.spent(STUDY, name, 0) == tiny.loss * 25
    assert total(entry.loss for entry in ledger.entries()) == tiny.loss * 1000


def test_a_ledger_opened_anew_has_it_all(url: str, ledger: Ledger) -> None:
    reserve(ledger, 1, north=charge(0.75))
    debit(ledger, job(1), b"x")
    with opened(url) as other:
        assert other.entries() == ledger.entries()
        assert other.payload(job(1)) == b"x"
        assert reserve(other, 2, north=charge(0.5)) != []


def test_the_database_refuses_a_debit_without_its_bytes(ledger: Ledger) -> None:
    reserve(ledger, 1, north=charge(0.5))
    table = module._releases
    for wrong in (
        {"state": "debited"},
        {"state": "debited", "payload": b"x"},
        {"payload": b"x"},
        {"state": "free"},
    ):
        with pytest.raises(sa.exc.IntegrityError), ledger._engine.begin() as connection:
            connection.execute(table.update().where(table.c.job == job(1)).values(wrong))


def test_the_migrations_make_what_the_ledger_uses(url: str, ledger: Ledger) -> None:
    found = sa.inspect(ledger._engine)
    for table in module.TABLES.tables.values():
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {column.name: bool(column.nullable) for column in table.columns}
        assert {check["name"] for check in found.get_check_constraints(table.name)} == {
            one.name for one in table.constraints if isinstance(one, sa.CheckConstraint)
        }
        assert {index["name"] for index in found.get_indexes(table.name)} >= {
            one.name for one in table.indexes
        }


def test_a_state_from_before_gets_a_ledger(url: str) -> None:
    engine = state_module._open(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(state_module.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    assert "budget_releases" not in sa.inspect(engine).get_table_names()
    engine.dispose()
    state = State(url)
    assert reserve(state.ledger, 1, north=charge(0.5)) == []
    assert debit(state.ledger, job(1), b"x") == b"x"
    state.close()


def test_losses_are_kept_as_text(ledger: Ledger) -> None:
    huge = Loss(tuple([2**200 + 1] * len(ORDERS)), 2**300 + 1, 3)
    reserve(ledger, 1, north=Charge(huge, Allowance(1e300, 1e-6), 0))
    assert ledger.spent(STUDY, "north", 0) == huge
    with ledger._engine.begin() as connection:
        text = connection.execute(sa.select(module._charges.c.loss)).scalar_one()
    assert json.loads(text) == huge.to_json()


def test_a_server_that_reports_commits_early_is_told_not_to(server: str) -> None:
    State(server).close()
    engine = sa.create_engine(server, connect_args={"options": "-c synchronous_commit=off"})
    ledger = Ledger(engine)
    reserve(ledger, 1, north=charge(0.5))
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "off"
        ledger.debit(connection, job(1), INPUTS, b"x")
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
    engine.dispose()


def test_periods_follow_one_another() -> None:
    start = datetime(2027, 1, 1, 6, tzinfo=UTC)
    for days in (1, 30, 365):
        length = timedelta(days=days)
        for number in (-1, 0, 1, 7):
            first = start + number * length
            assert period_of(start, days, first) == number
            assert period_of(start, days, first + length - timedelta(microseconds=1)) == number
            assert period_end(start, days, number) == first + length
