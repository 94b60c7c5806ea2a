"""The demo as a user starts it: on real data, between real processes, measured beside scikit-learn."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from mpcpriv.cli.demo import demo as command
from mpcpriv.demo import story, table
from mpcpriv.errors import UsageError

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-c", "import sys; from mpcpriv.cli import app; sys.exit(app())"]
PATIENTS = 569


def demo(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, "demo", *args], cwd=ROOT, capture_output=True, text=True, timeout=110)


def accuracy_of(model: dict[str, object]) -> float:
    """The accuracy of a saved model, computed from the file alone and the unscaled table."""
    features, labels = table.load()
    held_out = table.split(labels)[-1]
    coefficients = model["coefficients"]
    assert isinstance(coefficients, dict)
    assert isinstance(model["intercept"], float)
    scores = features[held_out] @ np.array(list(coefficients.values())) + model["intercept"]
    return float(((scores > 0) == labels[held_out]).mean())


def test_the_demo_is_as_accurate_as_pooled_rows(tmp_path: Path) -> None:
    result = demo("--output", str(tmp_path / "out"))
    assert result.returncode == 0, result.stdout + result.stderr
    difference = re.search(r"accuracy difference (\d\.\d{4}): within 0.01", result.stdout)
    assert difference, result.stdout
    assert float(difference[1]) <= 0.01
    for party in ("alice", "bob", "carol"):
        assert re.search(
            rf"{party} saw [\d,]+ messages of uniformly random numbers, and the model", result.stdout
        )
    assert "dealer saw" in result.stdout
    assert "step 8 of 8" in result.stdout
    model = json.loads((tmp_path / "out" / "model.json").read_text())
    assert list(model["coefficients"]) == list(table.CODEBOOK)
    assert accuracy_of(model) == model["held-out accuracy"] > 0.9


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


def test_the_codebook_is_the_published_one() -> None:
    """Within rounding: the description prints three digits."""
    features, _ = table.load()
    assert float(np.abs(table.scale(features)).max()) < 4.5


def test_without_scikit_learn_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"mpcpriv\[demo\]") as caught:
        table.load()
    assert "\n" not in str(caught.value)


def test_a_file_in_the_place_of_the_output_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = demo("--output", str(tmp_path / "file"))
    assert result.returncode == 2
    assert result.stderr.startswith("mpcpriv: --output")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("shared", "status"), [(0.9648, None), (0.9549, None), (0.9507, 1), (0.9789, 1)])
def test_the_exit_status_follows_from_the_measured_difference(
    monkeypatch: pytest.MonkeyPatch, shared: float, status: int | None
) -> None:
    measured = story.Comparison(shared=shared, pooled=0.9648, agreeing=140, held_out=142)
    monkeypatch.setattr(story, "run", lambda output: measured)
    if status is None:
        command()
    else:
        with pytest.raises(typer.Exit) as caught:
            command()
        assert caught.value.exit_code == status
