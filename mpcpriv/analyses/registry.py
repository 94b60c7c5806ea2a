"""Which analyses there are: our own, and those that other packages declare by entry point."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

from mpcpriv import engine
from mpcpriv.analyses.analysis import Analysis
from mpcpriv.errors import UsageError

GROUP: Final = "mpcpriv.analyses"
"""The entry-point group: `[project.entry-points."mpcpriv.analyses"]`, `name = "module:OBJECT"`."""

_HOME: Final = "mpcpriv.analyses"
_OWN: Final = {
    "aggregate-by-category": f"{_HOME}.aggregate_by_category:ANALYSIS",
    "anova": f"{_HOME}.anova:ANALYSIS",
    "chi-squared": f"{_HOME}.chi_squared:ANALYSIS",
    "count-and-mean": f"{_HOME}.count_and_mean:ANALYSIS",
    "count-by-category": f"{_HOME}.count_by_category:ANALYSIS",
    "covariance": f"{_HOME}.covariance:ANALYSIS",
    "cox-regression": f"{_HOME}.cox_regression:ANALYSIS",
    "describe": f"{_HOME}.describe:ANALYSIS",
    "fisher-exact": f"{_HOME}.fisher_exact:ANALYSIS",
    "gamma-regression": f"{_HOME}.gamma_regression:ANALYSIS",
    "k-means": f"{_HOME}.k_means:ANALYSIS",
    "kaplan-meier": f"{_HOME}.kaplan_meier:ANALYSIS",
    "kolmogorov-smirnov": f"{_HOME}.kolmogorov_smirnov:ANALYSIS",
    "lasso": f"{_HOME}.lasso:ANALYSIS",
    "linear-regression": f"{_HOME}.linear_regression:ANALYSIS",
    "log-rank": f"{_HOME}.log_rank:ANALYSIS",
    "logistic-regression": f"{_HOME}.logistic_regression:ANALYSIS",
    "mann-whitney": f"{_HOME}.mann_whitney:ANALYSIS",
    "meta-analysis": f"{_HOME}.meta_analysis:ANALYSIS",
    "most-frequent-category": f"{_HOME}.most_frequent_category:ANALYSIS",
    "negative-binomial-regression": f"{_HOME}.negative_binomial_regression:ANALYSIS",
    "pca": f"{_HOME}.pca:ANALYSIS",
    "poisson-regression": f"{_HOME}.poisson_regression:ANALYSIS",
    "private-k-means": f"{_HOME}.private_k_means:ANALYSIS",
    "private-logistic-regression": f"{_HOME}.private_logistic_regression:ANALYSIS",
    "private-mann-whitney": f"{_HOME}.private_mann_whitney:ANALYSIS",
    "private-wilcoxon": f"{_HOME}.private_wilcoxon:ANALYSIS",
    "ridge": f"{_HOME}.ridge:ANALYSIS",
    "t-test": f"{_HOME}.t_test:ANALYSIS",
    "wilcoxon": f"{_HOME}.wilcoxon:ANALYSIS",
}


def _declared() -> Mapping[str, EntryPoint]:
    """All of them, by name; nothing is imported.

    Raises:
        UsageError: two have one name.
    """
    found = {name: EntryPoint(name, value, GROUP) for name, value in _OWN.items()}
    for point in entry_points(group=GROUP):
        first = found.setdefault(point.name, point)
        if first.value != point.value:
            raise UsageError(
                f"analysis {point.name}: both {first.module} and {point.module} declare it; uninstall one"
            )
    return dict(sorted(found.items()))


def find(name: str) -> Analysis:
    """The analysis of this name; its code is imported.

    Raises:
        UsageError: there is none, or its package is broken.
    """
    declared = _declared()
    if name not in declared:
        raise UsageError(f"analysis {name!r}: not installed; there are {', '.join(declared)}")
    try:
        try:
            analysis: Analysis = declared[name].load()
        except ImportError:  # it imports tensors as it is imported, and those CrypTen
            engine.activate()
            analysis = declared[name].load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"analysis {name}: {declared[name].value} cannot be imported ({error}); reinstall its package"
        ) from None
    if analysis.name != name:
        raise UsageError(f"analysis {name}: it calls itself {analysis.name!r}; correct its package")
    return analysis


def installed() -> dict[str, str]:
    """By name, the digest of the code of each; no analysis is imported for it.

    Raises:
        UsageError: two have one name, or one has no source files.
    """
    return {name: _digest(point.module) for name, point in _declared().items()}


def digest(analysis: str) -> str:
    """SHA-256, in hexadecimal, over the code of the analysis of this name.

    That is each file of the package that its entry point's module stands in, with its name: a plug-in's
    helpers and tables are as much what was agreed as its first file. Our own are one file each, and the
    digest is over that file; what they share is held by the version, which the parties compare on connecting.

    Raises:
        UsageError: there is none, or it has no source files.
    """
    declared = _declared()
    if analysis not in declared:
        raise UsageError(f"analysis {analysis!r}: not installed; there are {', '.join(declared)}")
    return _digest(declared[analysis].module)


def _digest(module: str) -> str:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    origin = Path(spec.origin) if spec and spec.has_location and spec.origin else None
    if origin is None or not origin.is_file():
        raise UsageError(f"module {module}: its source files cannot be found; reinstall its package")
    whole = spec is not None and spec.submodule_search_locations is not None
    package = module if whole else module.rpartition(".")[0]
    alone = not package or package == _HOME
    files = [origin] if alone else [path for path in origin.parent.rglob("*") if _is_code(path)]
    total = hashlib.sha256()
    for path in sorted(files, key=lambda one: one.relative_to(origin.parent).as_posix()):
        name, content = path.relative_to(origin.parent).as_posix().encode(), path.read_bytes()
        # Lengths first: no bytes can move from one field to the next.
        total.update(len(name).to_bytes(8) + name + len(content).to_bytes(8) + content)
    return total.hexdigest()


def _is_code(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
