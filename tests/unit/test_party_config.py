"""`party.toml` as a daemon reads it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs
from typer.testing import CliRunner

from mpcpriv.cli import commands
from mpcpriv.data.declared import Postgres, TableFile
from mpcpriv.documents import public_key
from mpcpriv.errors import UsageError
from mpcpriv.party.config import create, read_party
from mpcpriv.party.daemon import Daemon
from mpcpriv.party.pipe import Setup
from mpcpriv.party.worker import _bind
from mpcpriv.transport.base import Limits
from mpcpriv.transport.tls import save_identity, self_signed


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


def test_what_init_writes_is_a_daemon_that_can_be_started(tmp_path: Path) -> None:
    done = CliRunner().invoke(commands, ["init", str(tmp_path / "alice"), "--name", "alice"])
    assert done.exit_code == 0, done.output
    path = tmp_path / "alice" / "party.toml"
    path.write_text(path.read_text().replace(":9400", ":0"))
    process = subprocess.Popen(
        [sys.executable, "-c", "from mpcpriv.cli import app; app()", "party", "serve", "--config", str(path)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert '"event": "serving"' in process.stderr.readline()
    finally:
        process.terminate()
        process.communicate()
    assert process.returncode == 0
    party = read_party(path)
    assert party.daemon is not None
    assert (party.daemon.data_ports, party.daemon.seconds) == (None, 3600)
    # The examples in comments are settings, too.
    path.write_text(re.sub(r"^# (?=\[data\]|[\w-]+ =)", "", path.read_text(), flags=re.MULTILINE))
    party = read_party(path)
    assert party.daemon is not None
    assert party.daemon.data_ports == (9410, 9419)
    assert list(party.data) == ["alice-patients", "alice-visits", "alice-deaths"]


def test_settings_take_the_place_of_the_defaults(tmp_path: Path) -> None:
    settings = tmp_path / "own.toml"
    settings.write_text('[daemon]\nlisten = "127.0.0.1:7"\n')
    command = ["init", str(tmp_path / "alice"), "--name", "alice", "--settings", str(settings)]
    assert CliRunner().invoke(commands, command).exit_code == 0
    assert read_party(tmp_path / "alice" / "party.toml").control == "127.0.0.1:7"
    for wrong in ('[daemon]\nlisten = "7"\n', 'name = "bob"\n', "[daemon\n"):
        with pytest.raises(UsageError, match="settings"):
            create(tmp_path / "bob", "bob", wrong)
        assert not (tmp_path / "bob").exists()


@pytest.mark.parametrize("ports", ["[9410]", "[9411, 9410]", "[0, 5]", "[9410, 9411]", "[65535, 65536]"])
def test_ports_of_workers_are_a_range_with_one_for_each_job(folder: Path, ports: str) -> None:
    text = f'[daemon]\nlisten = "a:1"\nconcurrent_jobs = 3\ndata_ports = {ports}\n'
    with pytest.raises(UsageError, match="data_ports"):
        read_party(write(folder, text))


def test_workers_listen_within_the_ports_that_they_are_given(folder: Path) -> None:
    identity = read_party(folder / "party.toml").identity
    low = next(port for port in range(20_000, 30_000) if free(port) and free(port + 1))
    setup = Setup(
        members=(identity.certificate,),
        rank=0,
        identity=identity,
        job=bytes(16),
        facts={},
        limits=Limits(),
        main=None,
        program=b"",
        ports=(low, low + 1),
    )
    first, second = _bind(setup), _bind(setup)
    assert [first.port, second.port] == [low, low + 1]
    with pytest.raises(UsageError, match=f"none of {low} to {low + 1} at 127.0.0.1 is free"):
        _bind(setup)
    first.close()
    second.close()


def free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_a_daemon_warns_of_certificates_that_end(tmp_path: Path) -> None:
    settings = '[daemon]\nlisten = "127.0.0.1:0"\n'
    party = create(tmp_path, "alice", settings)
    for file in (party.key, party.certificate):
        file.unlink()
    save_identity(self_signed("alice", days=20), party.certificate, party.key)
    daemon = Daemon(read_party(party.path))
    with capture_logs() as logs:
        daemon._daily()
        daemon._daily()
    assert [one["why"].split(" on ")[0] for one in logs] == ["the certificate of alice ends"]


def test_a_password_of_the_database_is_its_owners_alone(folder: Path) -> None:
    path = write(folder, '[daemon]\nlisten = "a:1"\nstate = "postgresql+psycopg://me:secret@host/db"\n')
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600") as found:
        read_party(path)
    assert "secret" not in str(found.value)
    path.chmod(0o600)
    party = read_party(path)
    assert party.daemon is not None
    assert "secret" not in repr(party)


def test_tables_are_declared_by_where_they_are(folder: Path) -> None:
    path = write(
        folder,
        '[data]\na = "a.csv"\nb = { file = "b.duckdb", table = "s.t" }\n'
        '[data.c]\npostgres = "host=db user=me"\ntable = "t"\n[data.d]\nfile = "d.arrow"\n',
    )
    path.chmod(0o644)
    assert dict(read_party(path).data) == {
        "a": folder / "a.csv",
        "b": TableFile(folder / "b.duckdb", "s.t"),
        "c": Postgres("host=db user=me", "t"),
        "d": folder / "d.arrow",
    }


@pytest.mark.parametrize(
    "server", ["postgresql://me:hidden@db/x", "host=db password=hidden", "postgresql://db/x?password=hidden"]
)
def test_a_password_of_a_table_is_its_owners_alone(folder: Path, server: str) -> None:
    path = write(folder, f'[data]\nc = {{ postgres = "{server}", table = "t" }}\n')
    path.chmod(0o640)
    with pytest.raises(UsageError, match=r"password in data\.c\.postgres; run chmod 600") as found:
        read_party(path)
    assert "hidden" not in str(found.value)
    path.chmod(0o600)
    party = read_party(path)
    assert party.data["c"] == Postgres(server, "t")
    assert "hidden" not in repr(party)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('{ postgres = "password=hidden" }', "data.c: .*table"),
        ('{ postgres = "password=hidden", file = "a.csv", table = "t" }', "data.c: .*one of the two"),
        ('{ postgres = "password=hidden", table = "" }', "data.c.table: "),
        ('{ postgres = "password=hidden", table = "t", sheet = 1 }', "data.c.sheet: no such field"),
        ('{ postgres = ["password=hidden"], table = "t" }', "data.c.postgres: "),
        ('{ table = "t" }', "data.c: write file, or postgres"),
        ("7", "data.c: "),
    ],
)
def test_what_declares_no_table(folder: Path, table: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as found:
        read_party(write(folder, f"[data]\nc = {table}\n"))
    assert "hidden" not in str(found.value)
