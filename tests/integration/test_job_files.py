"""Every job file of examples/jobs, through real daemons on real tables."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mpcpriv import analyses
from mpcpriv.client.connection import Connection, Handle, connect
from mpcpriv.documents import parse_toml
from mpcpriv.errors import DaemonError, MpcprivError
from mpcpriv.estimators import LogisticRegression
from mpcpriv.party.config import FILE
from tests.integration import warm

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "jobs"
AT_ONCE = 2
PATIENCE = 300.0


def script() -> ModuleType:
    """`examples/jobs/run.py`."""
    spec = importlib.util.spec_from_file_location("examples_jobs_run", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUN = script()
FILES: list[Path] = RUN.files()


@contextmanager
def daemons(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """The daemons run; their workers start at once (`warm.py`)."""
    address = str(folder / "workers")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        warm.ADDRESS: address,
    }
    commands = {"warm": ["tests.integration.warm", address, "engine", "analyses"]}
    commands |= {
        name: ["tests.integration.daemon_entry", str(folder / name / FILE), "warm"] for name in names
    }
    running = []
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("ab") as log:
                running.append(
                    subprocess.Popen(
                        [sys.executable, "-m", *command],
                        cwd=ROOT,
                        env=environment,
                        stdin=subprocess.PIPE,
                        stdout=log,
                        stderr=log,
                    )
                )
        for name in names:
            answers(folder / name / FILE)
        while not Path(address).exists():
            time.sleep(0.1)
        yield
    finally:
        for process in running:
            process.kill()
            process.communicate()  # closes its standard input, too


def answers(config: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with connect(config) as daemon:
                daemon.agreements()
                return
        except DaemonError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def fault(handle: Handle, path: Path, connections: Mapping[str, Connection]) -> str:
    """What is wrong with a job that has come back, or nothing."""
    asked = parse_toml(path.read_bytes(), "job")
    try:
        result = handle.result(PATIENCE, show=False)
    except MpcprivError as error:
        return str(error)
    document = handle.document()
    outputs = analyses.find(asked["analysis"]).outputs(handle.status().job)
    if set(result) != set(outputs):
        return f"its answer has {sorted(result)}, and its outputs say {sorted(outputs)}"
    if ("privacy" in document["statement"]) != ("epsilon" in asked["release"]):
        return f"asked for {asked['release']}, and the statement says {document['statement']}"
    report = result.report
    if set(report.rows) != {one["dataset"] for one in asked["inputs"]}:
        return f"its report says {dict(report.rows)} rows"
    if not report.tables or f"<title>{asked['analysis']}" not in report.html():
        return "its report shows nothing"
    for name in set(RUN.OWNERS) - set(asked["release"]["recipients"]):
        try:
            connections[name].job(handle.id).document()
        except MpcprivError:
            continue
        return f"{name} is no recipient, and has the result"
    return ""


def estimator_is_the_pooled_one(connection: Connection) -> None:
    """A model by `fit`, beside scikit-learn's on everybody's rows in one place."""
    columns = ["radius", "texture", "malignant"]
    names = [f"cancer-{region}" for region in ("north", "south", "east")]
    model: Any = LogisticRegression(
        connection, agreement="examples", purpose=RUN.PURPOSE, target="malignant", timeout=PATIENCE
    )
    model.fit(dict.fromkeys(names, columns))
    own = {one.name: one for one in RUN.tables.datasets()}
    pooled = np.array([row for name in names for row in own[name].rows], dtype=object)
    x, y = pooled[:, :2].astype(float), pooled[:, 3].astype(int)
    pipeline = make_pipeline(StandardScaler(), Reference()).fit(x, y)
    assert model.feature_names_in_.tolist() == columns[:2]
    assert np.abs(model.predict_proba(x) - pipeline.predict_proba(x)).max() < 1e-3
    assert "malignant" in repr(model)
    assert "radius" in model.summary()


def results(folder: Path, paths: Sequence[Path], besides: Callable[[Connection], None]) -> dict[str, str]:
    """What is wrong with these jobs, by file, after all have run; and something besides, at alice's."""
    members = RUN.settle(folder, AT_ONCE)
    with daemons(folder, members), RUN.connected(folder, members) as connections:
        handles = {path: RUN.submit(connections, path) for path in paths}
        faults = {path.stem: fault(handle, path, connections) for path, handle in handles.items()}
        besides(connections["alice"])
    return {name: found for name, found in faults.items() if found}


@pytest.mark.timeout(900)
def test_every_job_file_gives_its_result(tmp_path: Path) -> None:
    paths = [path for path in FILES if "private" not in path.stem]
    assert results(tmp_path, paths, estimator_is_the_pooled_one) == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_job_file_with_noise_gives_its_result(tmp_path: Path) -> None:
    paths = [path for path in FILES if "private" in path.stem]
    assert results(tmp_path, paths, lambda _: None) == {}


def test_every_analysis_has_a_page() -> None:
    pages = Path(__file__).parents[2] / "docs/analyses"
    assert {page.stem for page in pages.glob("*.md")} == set(analyses.installed())
    for page in pages.glob("*.md"):
        said = page.read_text(encoding="utf-8").lower()
        for what in (
            "opened" if "**opened" in said else "revealed",
            "differential privacy",
            "checked against",
        ):
            assert what in said, f"{page.name} does not say what is {what}"


def test_every_analysis_has_a_job_file() -> None:
    asked = {path.stem: parse_toml(path.read_bytes(), "job") for path in FILES}
    for name, job in asked.items():
        assert name.removesuffix("-private") == job["analysis"] or name.startswith(f"{job['analysis']}-")
        assert ("epsilon" in job["release"]) == ("private" in name), name
    assert set(analyses.installed()) == {job["analysis"] for job in asked.values()}
