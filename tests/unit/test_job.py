"""Jobs: as TOML with what may be left out, and signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.job.toml import parse_job, read_job, write_job
from tests.unit import agreements as example
from tests.unit.agreements import key

SHORT = b"""
agreement = "breast-cancer"
version = 3
analysis = "mean"
purpose = "research"
[[inputs]]
dataset = "alice-patients"
columns = ["age"]
[release]
recipients = ["carol"]
"""


def test_what_a_file_leaves_out_is_filled_in() -> None:
    now = datetime(2027, 3, 1, 13, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))
    job = parse_job(SHORT, submitter="bob", now=now)
    assert job.submitter == "bob"
    assert job.created == datetime(2027, 3, 1, 12, tzinfo=UTC)
    assert job.expires - job.created == timedelta(days=1)
    assert job.parameters == {}
    assert job.nonce != parse_job(SHORT, submitter="bob", now=now).nonce
    assert parse_job(b'submitter = "carol"\n' + SHORT, submitter="bob", now=now).submitter == "carol"


def test_files(tmp_path: Path) -> None:
    job = example.job()
    write_job(job, tmp_path / "job.toml")
    assert read_job(tmp_path / "job.toml", submitter="zoe", now=datetime.now(UTC)) == job
    with pytest.raises(UsageError, match=r"job\.toml: is there already"):
        write_job(job, tmp_path / "job.toml")
    with pytest.raises(UsageError, match=r"there is no such file; name the file of the job"):
        read_job(tmp_path / "none.toml", submitter="zoe", now=datetime.now(UTC))


def test_all_that_is_wrong_is_listed() -> None:
    bad = SHORT.replace(b'"mean"', b'"Mean"').replace(b"version = 3", b"parameters = {a = nan, b = [1, 'x']}")
    with pytest.raises(UsageError) as error:
        parse_job(bad, submitter="bob", now=datetime.now(UTC))
    kinds = (
        "write true or false, a finite number, a text of up to 10000 characters, or, for a parameter, "
        "a list of one of these"
    )
    assert str(error.value).splitlines() == [
        "job: 4 problems",
        "  - version: missing; write it into the file",
        "  - analysis: 'Mean': write a lower-case letter, then letters, digits, - or _, up to 63",
        f"  - parameters.a: nan: {kinds}",
        f"  - parameters.b: {kinds}",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (2.0, 2),
        ([1.0, -0.0], [1, 0]),
        ([1.0, 2.5], [1.0, 2.5]),
        (True, True),
        ([True], [True]),
        ([], []),
        ("x", "x"),
        (-0.0, 0),
    ],
)
def test_a_parameter_is_what_it_will_be_when_it_is_read_back(before: object, after: object) -> None:
    job = example.job(parameters={"b": 1, "a": before})
    assert list(job.parameters) == ["a", "b"]
    assert repr(job.parameters["a"]) == repr(after)
    again = Job.from_canonical(job.canonical())
    assert repr(again.parameters) == repr(job.parameters)


@pytest.mark.parametrize("value", [2**53, -(2**53), 1e20, [1, 2**60], [1e300]])
def test_a_number_that_json_cannot_hold_exactly_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"write a number between -2\^53 and 2\^53"):
        example.job(parameters={"a": value})


def test_a_signature_is_for_one_job_and_one_key() -> None:
    job = example.job()
    signed = SignedJob.sign(job, key("alice"))
    agreement = example.agreement()
    keys = {member.name: member.signing_key for member in agreement.members}
    assert signed.verify(keys["alice"])
    assert not signed.verify(keys["bob"])
    assert not signed.verify("")
    other = SignedJob(job=example.job(), signature=signed.signature)
    assert not other.verify(keys["alice"]), "another nonce is another job"
    assert SignedJob.from_bytes(signed.to_bytes()) == signed


def test_each_byte_of_a_signed_job_matters() -> None:
    """Every bit of every byte flipped, and every byte made a space."""
    signed = example.signed_job()
    data, public = signed.to_bytes(), example.agreement().members[0].signing_key
    survived = []
    for place, old in enumerate(data):
        for byte in {old ^ 1, old ^ 2, old ^ 4, old ^ 8, old ^ 16, old ^ 32, old ^ 64, old ^ 128, 32} - {old}:
            try:
                changed = SignedJob.from_bytes(data[:place] + bytes([byte]) + data[place + 1 :])
            except UsageError:
                continue
            if changed.verify(public):
                survived.append((place, byte))
    assert not survived
