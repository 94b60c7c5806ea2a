"""`mpcpriv agreement`, from an empty file to one that all have signed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner, Result

from mpcpriv.agreement.signed import read_signed
from mpcpriv.agreement.toml import read_agreement
from mpcpriv.cli import commands as all_commands
from mpcpriv.cli.agreement import commands
from mpcpriv.documents import public_key
from mpcpriv.errors import UsageError
from tests.unit.agreements import certificate, key

MEMBERS = ("alice", "bob", "dealer")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of three parties; of bob's only what is public, as another organisation has it."""
    for name in MEMBERS:
        party = tmp_path / name
        party.mkdir()
        (party / "tls.crt").write_text(certificate(name))
        (party / "party.toml").write_text(f'name = "{name}"\nsigning_key = "signing.key"\n')
        (party / "signing.key").touch(0o600)
        (party / "signing.key").write_bytes(
            key(name).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    public = tmp_path / "public"
    public.mkdir()
    (public / "tls.crt").write_text(certificate("bob"))
    (public / "signing.pub").write_text(public_key(key("bob")) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mpcpriv(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, arguments, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def begin() -> None:
    mpcpriv("new", "study.toml", "--party", "alice", "--party", "public", "--party", "dealer")


def test_from_nothing_to_all_signed(folder: Path) -> None:
    begin()
    assert (
        "study.toml: nothing is wrong with it\nstudy version 1, digest "
        in mpcpriv("check", "study.toml").output
    )
    mpcpriv("sign", "study.toml", "--config", "alice/party.toml")
    result = mpcpriv("verify", "study.toml", status=1)
    assert "alice: signed\nbob: has not signed\ndealer: has not signed\n" in result.output
    mpcpriv("sign", "study.toml", "--config", "bob/party.toml")
    assert "; all signed\n" in mpcpriv("sign", "study.toml", "--config", "dealer/party.toml").output
    for file in ("study.toml", "study.agreement.json"):
        result = mpcpriv("verify", file)
        assert read_agreement(folder / "study.toml").digest() in result.output
        assert "has not" not in result.output
    assert not read_signed(folder / "study.agreement.json").problems()
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        "study.agreement.json",
        "study.toml",
    ]


def test_a_text_that_was_changed_after_signing(folder: Path) -> None:
    begin()
    mpcpriv("sign", "study.toml", "--config", "alice/party.toml")
    path = folder / "study.toml"
    path.write_text(path.read_text() + "# a comment changes nothing\n")
    mpcpriv("sign", "study.toml", "--config", "bob/party.toml")
    path.write_text(path.read_text().replace("minimum_cohort = 50", "minimum_cohort = 5"))
    assert (
        "study.toml holds another text than the one that was signed"
        in mpcpriv("verify", str(path), status=1).output
    )
    with pytest.raises(
        UsageError, match=r"signed by alice, bob, but for another text than study\.toml holds now"
    ):
        mpcpriv("sign", "study.toml", "--config", "dealer/party.toml")
    mpcpriv("sign", "study.toml", "--config", "dealer/party.toml", "--force")
    assert read_signed(folder / "study.agreement.json").missing() == ["alice", "bob"]


def test_copies_that_were_signed_side_by_side_are_merged(folder: Path) -> None:
    begin()
    text = (folder / "study.toml").read_text()
    for name in ("bob", "dealer"):
        (folder / name / "study.toml").write_text(text)
        mpcpriv("sign", f"{name}/study.toml", "--config", f"{name}/party.toml")
    # Nobody has signed this copy yet; then one has.
    assert "; alice, dealer have still to sign" in merge("study.toml", "bob").output
    mpcpriv("sign", "study.toml", "--config", "alice/party.toml")
    assert "; all signed" in merge("study.toml", "bob", "dealer").output
    mpcpriv("verify", "study.toml")
    # Of the signed form alone, and again.
    (folder / "study.toml").unlink()
    merge("study.agreement.json", "dealer")
    mpcpriv("verify", "study.agreement.json")


def test_copies_of_another_text_or_with_anothers_signature_are_not_merged(folder: Path) -> None:
    begin()
    mpcpriv("sign", "study.toml", "--config", "alice/party.toml")
    before = (folder / "study.agreement.json").read_bytes()
    text = (folder / "study.toml").read_text()
    (folder / "bob" / "study.toml").write_text(text.replace("minimum_cohort = 50", "minimum_cohort = 5"))
    mpcpriv("sign", "bob/study.toml", "--config", "bob/party.toml")
    with pytest.raises(UsageError, match=r"bob/study\.agreement\.json: another text: study version 1"):
        merge("study.toml", "bob")
    signed = read_signed(folder / "study.agreement.json")
    stolen = signed.model_copy(update={"signatures": {"bob": signed.signatures["alice"]}})
    (folder / "dealer" / "study.agreement.json").write_bytes(stolen.to_bytes())
    with pytest.raises(UsageError, match="the signature of bob is not for this text"):
        merge("study.toml", "dealer")
    assert (folder / "study.agreement.json").read_bytes() == before


def merge(file: str, *names: str) -> Result:
    copies = [f"{name}/study.agreement.json" for name in names]
    arguments = ["agreement", "merge", file, *copies]
    result = CliRunner().invoke(all_commands, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_who_cannot_sign(folder: Path) -> None:
    begin()
    (folder / "bob" / "party.toml").write_text('name = "zoe"\nsigning_key = "signing.key"\n')
    with pytest.raises(
        UsageError, match=r"zoe is no member of agreement study; its members are alice, bob, dealer"
    ):
        mpcpriv("sign", "study.toml", "--config", "bob/party.toml")
    (folder / "bob" / "party.toml").write_text('name = "alice"\nsigning_key = "signing.key"\n')
    with pytest.raises(UsageError, match=r"the signing key of alice is .*, but the agreement gives it"):
        mpcpriv("sign", "study.toml", "--config", "bob/party.toml")
    (folder / "bob" / "signing.key").chmod(0o644)
    with pytest.raises(
        UsageError, match=r"signing\.key: others than its owner may use this key; run chmod 600"
    ):
        mpcpriv("sign", "study.toml", "--config", "bob/party.toml")
    path = folder / "study.toml"
    path.write_text(path.read_text().replace('approval = "steward"', 'approval = "nobody"'))
    with pytest.raises(UsageError, match=r"study\.toml: agreement: approval: 'nobody'"):
        mpcpriv("sign", "study.toml", "--config", "alice/party.toml")
    assert not (folder / "study.agreement.json").exists()


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    begin()
    before = (folder / "study.toml").read_bytes()
    with pytest.raises(
        UsageError, match=r"study\.toml: is there already; choose another name, or replace it"
    ):
        mpcpriv("new", "study.toml")
    with pytest.raises(UsageError, match="is there already"):
        mpcpriv("export", "study.toml", "--json", "-o", "study.toml")
    assert (folder / "study.toml").read_bytes() == before
    mpcpriv("new", "study.toml", "--force")
    assert (folder / "study.toml").read_bytes() != before


def test_other_forms(folder: Path) -> None:
    begin()
    mpcpriv("export", "study.toml", "--odrl", "-o", "study.jsonld")
    mpcpriv("new", "again.toml", "--from-odrl", "study.jsonld")
    agreement = read_agreement(folder / "study.toml")
    assert read_agreement(folder / "again.toml") == agreement
    assert mpcpriv("export", "study.toml", "--json").stdout_bytes == agreement.canonical()
    assert json.loads(mpcpriv("export", "--schema").output)["title"] == "Agreement"
    for arguments in (("study.toml",), ("study.toml", "--json", "--odrl"), ("--json",)):
        with pytest.raises(UsageError, match="export: "):
            mpcpriv("export", *arguments)


def test_show_says_who_may_learn_what(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    begin()
    out = mpcpriv("show", "study.toml").output
    for words in (
        "Who may learn what",
        "count-and-mean",
        "target: 'ill'",
        "age: integer from 0 to 120",
        "deals randomness, sees no data",
        "Results may be released without noise if they are of 50 rows or more;",
        "A person at each data owner approves each job.",
        "GDPR Art. 9(2)(j)",
    ):
        assert words in out


@pytest.mark.parametrize("command", ["new", "check", "sign", "merge", "verify", "show", "export"])
def test_help_teaches(command: str) -> None:
    assert len(mpcpriv(command, "--help").output.splitlines()) > 8
