"""Which analyses there are, whose code they are, and how tables go together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpcpriv import analyses
from mpcpriv.analyses import registry
from mpcpriv.errors import UsageError

OURS = [
    "aggregate-by-category",
    "anova",
    "chi-squared",
    "count-and-mean",
    "count-by-category",
    "covariance",
    "cox-regression",
    "describe",
    "fisher-exact",
    "gamma-regression",
    "k-means",
    "kaplan-meier",
    "kolmogorov-smirnov",
    "lasso",
    "linear-regression",
    "log-rank",
    "logistic-regression",
    "mann-whitney",
    "meta-analysis",
    "most-frequent-category",
    "negative-binomial-regression",
    "pca",
    "poisson-regression",
    "private-k-means",
    "private-logistic-regression",
    "private-mann-whitney",
    "private-wilcoxon",
    "ridge",
    "t-test",
    "wilcoxon",
]

CODE = """
class Hello:
    name = "hello"
    title = "hello"
ANALYSIS = Hello()
"""


def package(folder: Path, name: str = "hello", analysis: str = "hello") -> Path:
    """What installing a small package leaves: its files and what it declares."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("")
    (folder / name / "core.py").write_text(CODE)
    (folder / name / "table.json").write_text("[1]")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{analyses.GROUP}]\n{analysis} = {name}.core:ANALYSIS\n")
    return folder


def test_our_own() -> None:
    found = analyses.installed()
    assert list(found) == OURS
    for name, code in found.items():
        analysis = analyses.find(name)
        assert (analysis.name, analyses.digest(name)) == (name, code)
        assert analysis.title
        assert f'analysis = "{name}"' in analysis.example
    assert len(set(found.values())) == len(OURS)


def test_another_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package(tmp_path)))
    before = analyses.installed()["hello"]
    assert analyses.find("hello").title == "hello"
    (tmp_path / "hello" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "hello" / "__pycache__" / "core.pyc").write_bytes(b"x")
    assert analyses.digest("hello") == before
    # Its helpers and tables are its code as well.
    (tmp_path / "hello" / "table.json").write_text("[2]")
    changed = analyses.digest("hello")
    (tmp_path / "hello" / "more.py").write_text("")
    assert len({before, changed, analyses.digest("hello")}) == 3


def test_one_name_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package(tmp_path, "other", "count-and-mean")))
    with pytest.raises(UsageError, match=r"count_and_mean and other.core"):
        analyses.installed()


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="there are aggregate-by-category, "):
        analyses.find("nothing")
    monkeypatch.syspath_prepend(str(package(tmp_path, "wrong", "another")))
    with pytest.raises(UsageError, match="calls itself 'hello'"):
        analyses.find("another")
    (tmp_path / "wrong" / "core.py").unlink()
    with pytest.raises(UsageError, match="source files"):
        analyses.installed()


def test_digests_need_no_torch() -> None:
    code = "import sys; from mpcpriv import analyses; analyses.installed(); print('torch' in sys.modules)"
    root = str(Path(registry.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, env=environment).stdout.strip() == "False"
