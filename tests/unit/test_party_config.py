"""`party.toml` as a daemon reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mpcpriv.documents import public_key
from mpcpriv.errors import UsageError
from mpcpriv.party.config import create, read_party


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create(tmp_path / "alice", "alice")
    return tmp_path / "alice"


def write(folder: Path, text: str) -> Path:
    path = folder / "party.toml"
    with path.open("a") as file:
        file.write(text)
    return path


def test_a_party_without_a_daemon_is_read_as_before(folder: Path) -> None:
    party = read_party(folder / "party.toml")
    assert (party.name, party.daemon, party.control, dict(party.data)) == ("alice", None, None, {})
    assert public_key(party.signing_key()) == public_key(party.signing_key())


def test_paths_are_relative_to_the_file(folder: Path) -> None:
    path = write(folder, '[daemon]\nlisten = "0.0.0.0:9400"\n[data]\npatients = "p.csv"\n')
    party = read_party(path)
    assert party.daemon is not None
    assert party.daemon.state == f"sqlite:///{folder / 'state.sqlite'}"
    assert party.daemon.audit == folder / "audit.jsonl"
    assert dict(party.data) == {"patients": folder / "p.csv"}
    assert party.control == "127.0.0.1:9400"


def test_a_url_is_taken_as_it_is_and_the_client_may_go_elsewhere(folder: Path) -> None:
    text = '[daemon]\nlisten = "[::]:1"\nstate = "postgresql+psycopg://a/b"\n[control]\nsocket = "here:2"\n'
    party = read_party(write(folder, text))
    assert party.daemon is not None
    assert party.daemon.state == "postgresql+psycopg://a/b"
    assert party.control == "here:2"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[daemon]\n", "daemon.listen"),
        ('[daemon]\nlisten = "a\\u0007:1"\n', "daemon.listen"),
        ('[daemon]\nlisten = "a:1"\naudit = "a\\u0000"\n', "daemon.audit"),
        ("x = " + "[" * 5000, "nested too deeply"),
        ("x = " + "9" * 5000, "not TOML"),
        ('[daemon]\nlisten = "9400"\n', "daemon.listen"),
        ('[daemon]\nlisten = "a:1"\nconcurrent_jobs = 0\n', "daemon.concurrent_jobs"),
        ('[daemon]\nlisten = "a:1"\nmemory_gb = -1.0\n', "daemon.memory_gb"),
        ('[daemon]\nlisten = "a:1"\ncolour = "red"\n', "daemon.colour"),
        ('[data]\n"Not a name" = "p.csv"\n', "data"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, text: str, field: str) -> None:
    with pytest.raises(UsageError, match=field):
        read_party(write(folder, text))


def test_a_signing_key_that_others_may_read_or_of_another_kind_is_refused(folder: Path) -> None:
    party = read_party(folder / "party.toml")
    signing = folder / "signing.key"
    signing.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        party.signing_key()
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    signing.write_bytes(pem)
    signing.chmod(0o600)
    with pytest.raises(UsageError, match="Ed25519"):
        party.signing_key()
    signing.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        party.signing_key()
