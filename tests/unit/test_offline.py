"""`mpcpriv job check` and `plan`: what they say about files, without any daemon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mpcpriv import analyses
from mpcpriv.agreement.model import Agreement
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.agreement.toml import write_agreement
from mpcpriv.cli import commands
from mpcpriv.errors import UsageError
from mpcpriv.party.config import create
from tests.unit.agreements import OWNERS, content, sign_all

JOB = """
agreement = "breast-cancer"
version = 3
analysis = "{analysis}"
purpose = "{purpose}"
{submitter}
parameters = {parameters}
release = {{ recipients = ["{recipient}"] }}
inputs = [
    {{ dataset = "alice-patients", columns = ["age", "{column}"] }},
    {{ dataset = "bob-patients", columns = ["age", "{column}"] }},
    {{ dataset = "carol-patients", columns = ["age", "{column}"] }},
]
"""
WITHIN: dict[str, Any] = {
    "analysis": "logistic-regression",
    "purpose": "research",
    "submitter": 'submitter = "alice"',
    "parameters": '{ target = "malignant", steps = 3 }',
    "recipient": "alice",
    "column": "malignant",
}


@pytest.fixture
def terms() -> Agreement:
    """The agreement of the other tests, valid now and about the code that is installed."""
    now = datetime.now(UTC).replace(microsecond=0)
    whole = content()
    (terms, mean) = whole["analyses"]
    terms["code"] = analyses.digest("logistic-regression")
    terms["parameters"] = {"target": {"choices": ["malignant"]}, "steps": {"low": 1.0, "high": 20.0}}
    dates = {"valid_from": now - timedelta(days=1), "valid_until": now + timedelta(days=1)}
    return Agreement.model_validate({**whole, **dates, "analyses": [terms, mean]})


@pytest.fixture
def signed(terms: Agreement, tmp_path: Path) -> Path:
    path = tmp_path / "study.agreement.json"
    path.write_bytes(sign_all(terms).to_bytes())
    return path


def job(tmp_path: Path, **changes: str) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(**{**WITHIN, **changes}))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, ["job", *map(str, arguments)])


def test_a_job_within_the_agreement(tmp_path: Path, signed: Path) -> None:
    result = run("check", job(tmp_path), "--agreement", signed)
    assert result.exit_code == 0, result.output
    assert "within breast-cancer version 3: logistic-regression for research" in result.output
    assert "the result goes to alice" in result.output
    assert "as soon as all daemons have admitted it" in result.output


def test_every_broken_term_is_listed(tmp_path: Path, signed: Path) -> None:
    outside = job(
        tmp_path,
        purpose="profit",
        submitter='submitter = "bob"',
        parameters='{ target = "age", steps = 21 }',
        recipient="carol",
        column="stage",
    )
    result = run("check", outside, "--agreement", signed)
    assert result.exit_code == 1
    reasons = [line for line in result.output.splitlines() if line.startswith("  - ")]
    fields = [
        "submitter: bob",
        "purpose: profit",
        "parameters: target",
        "parameters: steps",
        "recipients: carol",
    ]
    fields += [f"inputs: column 'stage' of {owner}-patients" for owner in OWNERS]
    for field in fields:
        assert sum(field in reason for reason in reasons) == 1, (field, reasons)
    assert len(reasons) == len(fields), reasons
    assert f"{len(fields)} broken terms" in result.output


def test_a_draft_is_said_to_be_one(tmp_path: Path, terms: Agreement) -> None:
    draft = tmp_path / "study.toml"
    write_agreement(terms, draft)
    result = run("check", job(tmp_path), "--agreement", draft)
    assert result.exit_code == 0, result.output
    assert "is a draft: nobody has signed it" in result.output


def test_signatures_that_are_missing_or_of_another_text_are_broken_terms(
    tmp_path: Path, terms: Agreement, signed: Path
) -> None:
    whole = sign_all(terms)
    rest = {name: mark for name, mark in whole.signatures.items() if name != "bob"}
    signed.write_bytes(SignedAgreement(agreement=terms, signatures=rest).to_bytes())
    result = run("check", job(tmp_path), "--agreement", signed)
    assert result.exit_code == 1
    assert "1 broken term\n" in result.output
    assert "the signature of bob is missing" in result.output


def test_a_signing_key_that_the_agreement_does_not_know(tmp_path: Path, signed: Path) -> None:
    party = create(tmp_path / "alice", "alice")
    result = run("check", job(tmp_path, submitter=""), "--agreement", signed, "--config", party.path)
    assert result.exit_code == 1
    assert "1 broken term\n" in result.output
    assert "so that others accept it" in result.output


def test_who_submits_must_be_said(tmp_path: Path, signed: Path) -> None:
    result = run("check", job(tmp_path, submitter=""), "--agreement", signed)
    assert isinstance(result.exception, UsageError)
    assert "submitter: missing" in str(result.exception)


def test_a_plan_says_costs_and_who_learns_what(tmp_path: Path, signed: Path) -> None:
    rows = [part for owner in OWNERS for part in ("--rows", f"{owner}-patients=20")]
    result = run("plan", job(tmp_path), "--agreement", signed, *rows)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    rounds = int(lines[0].removeprefix("rounds ").replace(",", ""))
    assert rounds > 50
    for pair in ("alice to bob", "bob to carol", "carol to alice", "the dealer to bob"):
        (line,) = [line for line in lines if line.endswith(pair)]
        assert int(line.split()[1].replace(",", "")) > 1000
    (lan,) = [line for line in lines if "on a LAN" in line]
    (wan,) = [line for line in lines if "on a WAN" in line]
    assert float(wan.split()[1]) >= 0.02 * rounds - 0.1 > float(lan.split()[1]) > 0
    learns = lines[lines.index("Who could learn what") + 1 :]
    assert any(line.startswith("bob and carol: ") for line in learns), learns
    assert any(line.startswith("dealer: which operations run") for line in learns)


@pytest.mark.parametrize(
    "rows", ["alice-patients", "alice-patients=", "alice-patients=-3", "alice-patients=x"]
)
def test_rows_that_are_no_number(tmp_path: Path, signed: Path, rows: str) -> None:
    result = run("plan", job(tmp_path), "--agreement", signed, "--rows", rows)
    assert isinstance(result.exception, UsageError)
    assert "write DATASET=ROWS" in str(result.exception)


def test_nothing_is_planned_outside_the_agreement(tmp_path: Path, signed: Path) -> None:
    result = run("plan", job(tmp_path, purpose="profit"), "--agreement", signed)
    assert isinstance(result.exception, UsageError)
    assert "purpose: profit" in str(result.exception)


def test_an_analysis_that_needs_to_know_the_rows_in_common_is_refused_by_check(
    tmp_path: Path, terms: Agreement
) -> None:
    whole = terms.model_dump()
    names = ["alice-patients", "bob-patients"]
    for one in whole["datasets"]:
        one["columns"].append({"name": "who", "type": "identifier"})
    keys = {name: [{"column": "who"}] for name in names}
    whole["alignments"] = [{"name": "people", "keys": keys, "mode": "secret"}]
    regression, mean = whole["analyses"]
    whole["analyses"] = [regression, {**regression, "name": "count-and-mean", "parameters": {}}]
    whole["analyses"][1]["code"] = analyses.digest("count-and-mean")
    del mean
    signed = tmp_path / "study.agreement.json"
    signed.write_bytes(sign_all(Agreement.model_validate(whole)).to_bytes())
    said = tmp_path / "job.toml"
    for analysis, parameters, expected in (
        ("logistic-regression", '{ target = "malignant" }', "within breast-cancer"),
        ("count-and-mean", "{}", "nobody learns which rows take part, and it needs to know"),
    ):
        said.write_text(
            f'agreement = "breast-cancer"\nversion = 3\nanalysis = "{analysis}"\npurpose = "research"\n'
            f'submitter = "alice"\nalignment = "people"\nparameters = {parameters}\n'
            'release = { recipients = ["alice"] }\ninputs = [\n'
            '    { dataset = "alice-patients", columns = ["age"] },\n'
            '    { dataset = "bob-patients", columns = ["malignant"] },\n]\n'
        )
        result = run("check", said, "--agreement", signed)
        assert expected in result.output, result.output
        assert result.exit_code == (0 if analysis == "logistic-regression" else 1)
