"""What can be said of an analysis to somebody who wants to use it: what it takes and tells."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Analysis, Asked, Computed, Perturbed, Private
from mpcpriv.analyses.outline import Outline
from mpcpriv.documents import Document, parse_toml
from mpcpriv.errors import MpcprivError
from mpcpriv.job.model import Job

GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "summarise": (
        "aggregate-by-category",
        "count-and-mean",
        "count-by-category",
        "covariance",
        "describe",
        "most-frequent-category",
    ),
    "compare": (
        "anova",
        "chi-squared",
        "fisher-exact",
        "kolmogorov-smirnov",
        "mann-whitney",
        "private-mann-whitney",
        "private-wilcoxon",
        "t-test",
        "wilcoxon",
    ),
    "model": (
        "gamma-regression",
        "lasso",
        "linear-regression",
        "logistic-regression",
        "negative-binomial-regression",
        "poisson-regression",
        "private-logistic-regression",
        "ridge",
    ),
    "survival": ("cox-regression", "kaplan-meier", "log-rank"),
    "structure": ("k-means", "pca", "private-k-means"),
    "combine": ("meta-analysis",),
}
"""What people come for, and the analyses that do it; some of them may not be installed."""
OTHER: Final = "more"
"""All others: those of other packages."""

_COLUMN: Final = r"^[^\x00-\x1f]+$"
_TRIED: Final[Sequence[Mapping[str, Any]]] = (
    {"type": "number", "low": 0.0, "high": 1.0},
    {"type": "boolean"},
    {"type": "category", "categories": ["a", "b"]},
    {"type": "integer", "low": 0.0, "high": 10.0},
)
_MOST_TRIES: Final = 256


def grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """By group, which of these analyses are in it; groups without any are left out."""
    known = {name: group for group, members in GROUPS.items() for name in members}
    found: dict[str, list[str]] = {group: [] for group in [*GROUPS, OTHER]}
    for name in names:
        found[known.get(name, OTHER)].append(name)
    return {group: members for group, members in found.items() if members}


@dataclass(frozen=True)
class Parameter:
    """A parameter of an analysis, in words.

    Attributes:
        name: of the parameter.
        kind: what it may be.
        default: what it is when it is left out; None where it must be given.
        text: what it does; empty where nobody has said it.
    """

    name: str
    kind: str
    default: str | None
    text: str


def parameters(model: type[Document]) -> list[Parameter]:
    """Those of an analysis: types and bounds from the fields of their model, words from its docstring."""
    schema = model.model_json_schema()
    said: dict[str, str] = {}
    for base in reversed(model.__mro__):
        said |= _attributes(inspect.cleandoc(base.__doc__ or ""))
    required = schema.get("required", [])
    return [
        Parameter(
            name,
            _kind(field, schema.get("$defs", {})),
            None if name in required else _plainly(field.get("default")),
            said.get(name, ""),
        )
        for name, field in schema.get("properties", {}).items()
    ]


def example(analysis: Analysis, noised: bool) -> Job:
    """The job of an analysis's example, asked by alice for herself."""
    now = datetime.now(UTC).replace(microsecond=0)
    release: dict[str, Any] = {"recipients": ["alice"]}
    if noised:
        release |= {"epsilon": 1.0, "delta": 1e-6}
    return Job.model_validate(
        {
            "agreement": "study",
            "version": 1,
            "purpose": "research",
            "submitter": "alice",
            "created": now,
            "expires": now + timedelta(days=1),
            "nonce": "0" * 32,
            **parse_toml(analysis.example.encode(), "example"),
            "release": release,
        }
    )


def noise(analysis: Analysis) -> str:
    """Whether it can be released with differential privacy, in a sentence."""
    if isinstance(analysis, Perturbed):
        return "always: noise is added in each of its steps; a job has to name epsilon and delta"
    if not isinstance(analysis, Private) or not _answers(analysis, _as_asked, noised=True):
        return "no: it is released without noise, where the agreement permits that"
    if not _answers(analysis, _as_asked, noised=False):
        return "always: noise is added once, to sums over rows; a job has to name epsilon and delta"
    both = isinstance(analysis, Computed) and not _answers(analysis, _apart, noised=True)
    where = ", where rows are split" if both else ""
    return f"on request{where}: a job names epsilon and delta, and noise is added once, to sums over rows"


def splits(analysis: Analysis) -> str:
    """How rows and columns may lie with different owners; an analysis that says it itself has `splits`."""
    own = getattr(analysis, "splits", None)
    if own is not None:
        return str(own)
    if isinstance(analysis, Computed):
        return "rows (same columns, different people) or columns (same people, different columns)"
    return "rows (same columns, different people)"


def _answers(
    analysis: Private, split: Callable[[Job, Mapping[str, ColumnTerms]], _Tables], noised: bool
) -> bool:
    """Tried, on columns of such types that its query takes them: nothing else says it."""
    job = example(analysis, noised)
    taken = analysis.parameters.model_validate(dict(job.parameters))
    for columns in _typed(job):
        try:
            analysis.query(Asked(taken, split(job, columns), job.release.epsilon))
        except MpcprivError:
            continue
        return True
    return False


_Tables = Mapping[str, Outline]


def _typed(job: Job) -> Iterator[Mapping[str, ColumnTerms]]:
    names = list(dict.fromkeys(name for one in job.inputs for name in one.columns))
    for types in itertools.islice(itertools.product(_TRIED, repeat=len(names)), _MOST_TRIES):
        yield {name: ColumnTerms(name=name, **kind) for name, kind in zip(names, types, strict=True)}


def _as_asked(job: Job, columns: Mapping[str, ColumnTerms]) -> _Tables:
    return {one.dataset: _outline({name: columns[name] for name in one.columns}) for one in job.inputs}


def _apart(job: Job, columns: Mapping[str, ColumnTerms]) -> _Tables:
    """Each column at an owner of its own."""
    del job
    return {f"of-{place}": _outline({name: one}) for place, (name, one) in enumerate(columns.items())}


def _outline(columns: Mapping[str, ColumnTerms]) -> Outline:
    return Outline(1000, "person", columns)


def _attributes(docstring: str) -> dict[str, str]:
    """The entries below `Attributes:`; a line that is further in goes on with the one before."""
    _, _, below = docstring.partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in below.splitlines():
        entry = re.match(r"^ {4}(\w+(?:, \w+)*): (.*)$", line)
        if entry:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif line.startswith(" " * 5):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
    return found


def _kind(field: Mapping[str, Any], defined: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return _kind(defined[field["$ref"].rpartition("/")[2]], defined)
    if "anyOf" in field:
        return " or ".join(
            dict.fromkeys(_kind(one, defined) for one in field["anyOf"] if one.get("type") != "null")
        )
    if "enum" in field or "const" in field:
        words = [_plainly(word) for word in field.get("enum", [field.get("const")])]
        return f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    if field.get("type") == "array":
        size = [
            f"{word} {field[key]}"
            for key, word in {"minItems": "at least", "maxItems": "at most"}.items()
            if key in field
        ]
        of = _kind(field.get("items", {}), defined)
        return f"a list, {' and '.join(size)} long, each {of}" if size else f"a list, each {of}"
    rules = [f"{word} {field[key]:g}" for key, word in _RULES.items() if key in field]
    if field.get("pattern") == _COLUMN:
        return "a column"
    return ", ".join([_KINDS.get(field.get("type", ""), "a value"), *rules])


def _plainly(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "chosen by the analysis"
    return f"{value:g}" if isinstance(value, float) else str(value)


_KINDS: Final = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "string": "a text",
}
_RULES: Final = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
