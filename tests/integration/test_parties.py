"""The walk in parties/README.md, its commands run as written."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.daemons import free_port

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FILES = ("alice.toml", "bob.toml", "carol.toml", "dealer.toml", "job.toml")
PORTS = ("9400", "9401", "9402", "9403")


def blocks() -> list[str]:
    text = (ROOT / "parties" / "README.md").read_text()
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def in_a_terminal_each(block: str) -> str:
    """Daemons in the background; each command after them waits until what it needs has come."""
    lines = []
    for line in block.splitlines():
        if line.startswith("mpcpriv party serve"):
            lines.append(f"{line} > daemon.log.$RANDOM 2>&1 &")
        elif "agreement add" in line or "job approve" in line or "job status" in line:
            lines.append(f"for try in $(seq 200); do {line.strip()} && break; sleep 0.2; done")
        else:
            lines.append(line)
    return "\n".join(lines)


def test_the_walk(tmp_path: Path) -> None:
    (tmp_path / "parties").mkdir()
    (tmp_path / "bin").mkdir()
    # Nobody else may have the README's ports while the tests run.
    ports = dict(zip(PORTS, map(str, (free_port() for _ in PORTS)), strict=True))

    def moved(text: str) -> str:
        return re.sub(r"127\.0\.0\.1:(940\d)", lambda found: f"127.0.0.1:{ports[found[1]]}", text)

    for name in FILES:
        (tmp_path / "parties" / name).write_text(moved((ROOT / "parties" / name).read_text()))
    shim = tmp_path / "bin" / "mpcpriv"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from mpcpriv.cli import app; app()" "$@"\n')
    shim.chmod(0o755)
    script = "set -e\n" + "\n".join(map(in_a_terminal_each, map(moved, blocks()))) + "\necho WALKED\n"
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=240)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    logs = "".join(log.read_text()[-2000:] for log in tmp_path.glob("daemon.log.*"))
    assert process.returncode == 0, out + err + logs
    assert out.rstrip().endswith("WALKED"), out + err
    assert "within study version 1" in out
    assert "Who could learn what" in out
    assert "120 rows" in out
    mean = re.search(r"^age +([\d.]+) ", out, re.MULTILINE)
    assert mean, out
    assert abs(float(mean[1]) - 49.5) < 1e-3
    shutil.rmtree(tmp_path / "parties")
