"""The commands in docs/operations.md, run as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mpcpriv.party.config import read_party
from mpcpriv.party.daemon import Daemon

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    shim = tmp_path / "bin" / "mpcpriv"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from mpcpriv.cli import app; app()" "$@"\n')
    shim.chmod(0o755)
    return {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def test_backup_restore_and_renewal(tmp_path: Path, shell: dict[str, str]) -> None:
    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", script], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    backup, restore, renewal = re.findall(
        r"^```sh\n(.*?)^```$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE | re.DOTALL
    )
    run("mpcpriv init alice --name alice")

    def served(cancelled: int) -> None:
        daemon = Daemon(read_party(tmp_path / "alice" / "party.toml"))
        for _ in range(cancelled):
            daemon._audit.append("cancelled", job="1" * 64, by="alice")
        daemon._audit.close()
        daemon._state.close()

    served(2)
    run(backup)
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    served(3)
    # Log and database are of one moment here; of two, the daemon would have said so.
    said = run(restore)
    assert "recorded as entry 3" in said
    assert "entries 0 to 3 are as they were written" in said
    served(1)
    run(renewal)
    assert (tmp_path / "renewed" / "tls.crt").exists()
