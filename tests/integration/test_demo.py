"""The demo as a user starts it: on real data, between real daemons, measured beside scikit-learn."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer

from mpcpriv.agreement.signed import read_signed
from mpcpriv.audit.verify import verify
from mpcpriv.cli.demo import demo as command
from mpcpriv.demo import story, study, table
from mpcpriv.demo.measure import Comparison
from mpcpriv.errors import UsageError

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-c", "import sys; from mpcpriv.cli import app; sys.exit(app())"]
PATIENTS = 569
MEMBERS = ("alice", "bob", "carol", "dealer")


def start(temporary: Path, *args: str) -> subprocess.Popen[str]:
    temporary.mkdir()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell that runs the tests in its background has them ignore interrupts, and that is handed down.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [*CLI, "demo", *args],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left(temporary: Path) -> list[str]:
    """Files in the folder, and processes that name it."""
    found = [str(path) for path in temporary.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command_line = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(temporary) in command_line:
            found.append(command_line)
    return found


def accuracy_of(model: dict[str, object]) -> float:
    """The accuracy of a saved model, computed from the file alone and the unscaled table."""
    features, labels = table.load()
    held_out = table.split(labels)[-1]
    coefficients = model["coefficients"]
    assert isinstance(coefficients, dict)
    assert isinstance(model["intercept"], float)
    scores = features[held_out] @ np.array(list(coefficients.values())) + model["intercept"]
    return float(((scores > 0) == labels[held_out]).mean())


def test_the_demo_is_as_accurate_as_pooled_rows_and_leaves_its_output_only(tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = start(tmp_path / "temporary", "--output", str(output))
    out, err = process.communicate(timeout=115)
    assert process.returncode == 0, out + err
    assert left(tmp_path / "temporary") == []
    difference = re.search(r"accuracy difference (\d\.\d{4}): within 0.01", out)
    assert difference, out
    assert float(difference[1]) <= 0.01
    assert "column 'patient' of bob-patients is not permitted for logistic-regression" in out
    assert "recipients: dealer may not get results of logistic-regression" in out
    for hospital in MEMBERS[:-1]:
        assert f"{hospital}'s steward approves" in out
    assert re.search(r"fitting after the first step: step \d of \d", out)
    assert "dealer has nothing to fetch" in out
    assert re.search(r"a copy with one word changed does not: line \d", out)
    model = json.loads((output / "model.json").read_text())
    assert list(model["coefficients"]) == list(table.CODEBOOK)
    assert accuracy_of(model) == model["held-out accuracy"] > 0.9
    # What is kept can be verified by anybody, without the demo.
    agreement = read_signed(output / f"{study.NAME}.agreement.json")
    assert agreement.problems() == []
    keys = {member.name: member.signing_key for member in agreement.agreement.members}
    for name in MEMBERS:
        assert f"{name:<7} " in out
        others = [output / f"{other}.audit.jsonl" for other in MEMBERS if other != name]
        peers = {other: key for other, key in keys.items() if other != name}
        assert verify(output / f"{name}.audit.jsonl", keys[name], peers, others, owner=name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    temporary = tmp_path / "temporary"
    process = start(temporary)
    assert process.stdout is not None
    # In the middle: the daemons are there, and a job is on its way.
    for line in process.stdout:
        if "asks for more than was agreed" in line:
            break
    assert len(left(temporary)) == 1 + len(MEMBERS)
    time.sleep(0.3)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert err == "mpcpriv: interrupted; the daemons are stopped and their folder is gone\n"
    assert left(temporary) == []


def test_the_hospitals_hold_disjoint_rows() -> None:
    _, labels = table.load()
    *hospitals, held_out = table.split(labels)
    rows = np.concatenate([*hospitals, held_out])
    assert sorted(rows.tolist()) == list(range(PATIENTS))
    assert 0.2 <= len(held_out) / PATIENTS <= 0.25
    assert abs(labels[held_out].mean() - labels.mean()) < 0.01


def test_the_table_is_scikit_learns() -> None:
    from sklearn.datasets import load_breast_cancer

    features, labels = table.load()
    reference = load_breast_cancer()
    assert np.array_equal(features, reference.data)
    assert np.array_equal(labels, reference.target)
    assert list(table.CODEBOOK) == list(reference.feature_names)
    assert list(table.CLASSES) == list(reference.target_names)


def test_the_agreed_bounds_hold_for_every_patient_and_are_close() -> None:
    """The published ranges are rounded to three digits; a bound that cuts a patient off would be refused."""
    features, _ = table.load()
    for column, name in zip(features.T, table.CODEBOOK, strict=True):
        low, high = table.bounds(name)
        assert low <= column.min()
        assert column.max() <= high
        assert high - low < 1.2 * (column.max() - column.min())


def test_a_file_holds_its_own_rows_and_no_other(tmp_path: Path) -> None:
    features, labels = table.load()
    rows = table.split(labels)[1]
    table.write(tmp_path / "rows.csv", rows, features, labels)
    head, *lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert head.split(",") == ["patient", *table.CODEBOOK, "diagnosis"]
    assert [int(line.split(",")[0]) for line in lines] == rows.tolist()
    first = lines[0].split(",")
    assert [float(value) for value in first[1:-1]] == features[rows[0]].tolist()
    assert first[-1] == table.CLASSES[labels[rows[0]]]


def test_without_scikit_learn_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"mpcpriv\[demo\]") as caught:
        table.load()
    assert "\n" not in str(caught.value)


def test_a_file_in_the_place_of_the_output_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = start(tmp_path / "temporary", "--output", str(tmp_path / "file"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith("mpcpriv: --output")
    assert "Traceback" not in err


@pytest.mark.parametrize(("shared", "status"), [(0.9648, None), (0.9549, None), (0.9507, 1), (0.9789, 1)])
def test_the_exit_status_follows_from_the_measured_difference(
    monkeypatch: pytest.MonkeyPatch, shared: float, status: int | None
) -> None:
    measured = Comparison(shared=shared, pooled=0.9648, agreeing=140, held_out=142)
    monkeypatch.setattr(story, "run", lambda output: measured)
    if status is None:
        command()
    else:
        with pytest.raises(typer.Exit) as caught:
            command()
        assert caught.value.exit_code == status
