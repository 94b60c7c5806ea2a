"""Each example as a user starts it, but for how its processes come to have torch (`warm.py`). They check
themselves; here we see that they do, and that they agree.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration import warm

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

slow = pytest.mark.slow

PROGRAMS = {"private_aggregate", "aligned_tables"}
"""Those that are not launched: one has no parties (test_private_aggregate.py runs it), one starts daemons."""

RUNS = [
    pytest.param("hello", 3, r"mean salary: 49,500\.00", id="hello-3"),
    pytest.param(
        "tutorial", 2, r"largest difference from torch: \d\.\de-0[4-9] in \d+ results", id="tutorial-2"
    ),
    pytest.param(
        "tutorial", 3, r"largest difference from torch: \d\.\de-0[4-9] in \d+ results", id="tutorial-3"
    ),
    pytest.param(
        "tutorial",
        5,
        r"largest difference from torch: \d\.\de-0[4-9] in \d+ results",
        id="tutorial-5",
        marks=slow,
    ),
    pytest.param(
        "vertical_split",
        2,
        r"largest difference from the weights of plain torch: \d\.\de-0\d",
        id="vertical-2",
    ),
    pytest.param(
        "vertical_split",
        3,
        r"largest difference from the weights of plain torch: \d\.\de-0\d",
        id="vertical-3",
        marks=slow,
    ),
    pytest.param(
        "horizontal_split",
        3,
        r"largest difference of the coefficients: \d\.\de-0\d",
        id="horizontal-3",
        marks=slow,
    ),
    pytest.param(
        "secret_model",
        2,
        r"100 of 100 predictions are those of plain inference",
        id="secret-model-2",
        marks=slow,
    ),
    pytest.param(
        "secret_model",
        3,
        r"100 of 100 predictions are those of plain inference",
        id="secret-model-3",
        marks=slow,
    ),
    pytest.param(
        "secret_onnx_model",
        2,
        r"100 of 100 predictions are those of plain inference",
        id="secret-onnx-model-2",
        marks=slow,
    ),
    pytest.param(
        "train_network",
        3,
        r"last loss: 0\.\d+ on shares, 0\.\d+ in plain torch",
        id="train-network-3",
        marks=slow,
    ),
    pytest.param(
        "private_training",
        3,
        r"right about 0\.9\d\d of the patients it has not seen; without noise 0\.9\d\d",
        id="private-training-3",
        marks=slow,
    ),
]


def launch(example: Path, parties: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*warm.COMMAND, "launch", "-n", str(parties), str(example)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), warm.ADDRESS: warm.server("engine")},
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.mark.parametrize(("name", "parties", "agreement"), RUNS)
def test_an_example_agrees_with_the_plain_computation(name: str, parties: int, agreement: str) -> None:
    result = launch(EXAMPLES / f"{name}.py", parties)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(agreement, result.stdout), result.stdout
    assert "Warning" not in result.stderr, result.stderr


def test_two_owners_find_whom_they_both_know_and_compute_on_those() -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "aligned_tables.py")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    people = re.search(r"320 people in the clinic, 400 in the registry, (\d+) in both", result.stdout)
    assert people
    assert 220 <= int(people[1]) < 320
    found = re.search(r"largest difference from scikit-learn on the joined table: (\S+)", result.stdout)
    assert found
    assert float(found[1]) < 1e-3


@slow
def test_an_example_that_disagrees_fails(tmp_path: Path) -> None:
    spoilt = (EXAMPLES / "hello.py").read_text().replace("expected = 48_000.0", "expected = 48_001.0")
    (tmp_path / "hello.py").write_text(spoilt)
    result = launch(tmp_path / "hello.py", 2)
    assert result.returncode == 1
    assert "the mean is" in result.stderr


def test_the_vertical_example_opens_to_one_party_only() -> None:
    """What it says in words: every opening names its recipient."""
    module = ast.parse((EXAMPLES / "vertical_split.py").read_text())
    openings = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "get_plain_text"
    ]
    assert openings
    assert all(any(keyword.arg == "dst" for keyword in call.keywords) for call in openings)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_teaches_and_is_run(path: Path) -> None:
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring
    assert "Opened to" in docstring
    if path.stem in PROGRAMS:
        assert f" examples/{path.name}\n" in docstring
    elif path.stem == "tutorial":
        assert "mpcpriv" not in text  # a program of CrypTen's own kind, from the first line to the last
    else:
        assert f" examples/{path.name}\n" in docstring
        assert "import mpcpriv" not in text
        # What CrypTen has no name for.
        ours = ["from mpcpriv import PrivacyEngine"] if path.stem == "private_training" else []
        assert re.findall(r"^from mpcpriv.*$", text, re.MULTILINE) == ours
    assert path.stem in {run.values[0] for run in RUNS} | PROGRAMS
    overview = (EXAMPLES / "README.md").read_text()
    assert f"]({path.name})" in overview
    assert f"examples/{path.name}`" in overview
