"""The databases that a daemon keeps its state in, empty: SQLite, and PostgreSQL on a server of our own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL server of our own, on a socket in a folder."""
    tools = {name: shutil.which(name) for name in ("initdb", "pg_ctl")}
    missing = [name for name, path in tools.items() if path is None]
    if missing:
        pytest.skip(f"PostgreSQL is left out: {', '.join(missing)} not found")
    # Not pytest's folder: the path of a socket has at most 107 bytes, and another user is to come there.
    folder = Path(tempfile.mkdtemp(prefix="mpcpriv-pg-", dir="/tmp"))
    user = _other_user() if os.geteuid() == 0 else None  # the server refuses to be root's
    if user is not None:
        shutil.chown(folder, user)

    def call(*command: str) -> None:
        done = subprocess.run(command, user=user, capture_output=True, text=True, cwd="/", timeout=100)
        if done.returncode:
            pytest.skip(f"PostgreSQL is left out: {done.stdout[-300:]} {done.stderr[-300:]}")

    control = (str(tools["pg_ctl"]), "-D", str(folder / "data"))
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    try:
        call(str(tools["initdb"]), "-D", str(folder / "data"), "-A", "trust", "-U", "mpcpriv", "--no-sync")
        # Its log is a file: a pipe would stay open as long as the server runs.
        call(*control, "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql+psycopg://mpcpriv@/postgres?host={folder}"
        call(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _other_user() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in known:
            return name
    pytest.skip("PostgreSQL is left out: it does not run as root, and there is no other user")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.sqlite'}"
    found: str = request.getfixturevalue("server")
    engine = sa.create_engine(found)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
    return found
