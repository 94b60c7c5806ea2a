"""Whole jobs of one analysis on one table, split between real parties, and the same in plain.

    split_by_rows(folder, "describe", frame, terms, {...})      # three owners with a part of the rows each
    split_by_columns(folder, "describe", frame, terms, {...})   # two owners with some of the columns each
    plain("describe", frame, terms, {...})                      # float64 tensors, nothing shared

`frame` is by name a column, as numbers (a category as its code, a boolean as 0 and 1); `terms` its terms in
the agreement, by `column(...)`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import mpcpriv.engine
from mpcpriv import analyses
from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.outline import Outline
from mpcpriv.data.scale import Scale
from mpcpriv.release import read_result
from tests.protocol.job_cases import Case, case, column
from tests.protocol.parties import outcomes

mpcpriv.engine.activate()
from mpcpriv.analyses.table import Column, Table  # noqa: E402

__all__ = ["column", "plain", "split_by_columns", "split_by_rows"]

Frame = Mapping[str, np.ndarray]
Terms = Sequence[Mapping[str, Any]]
Answer = dict[str, Any]


def split_by_rows(
    folder: Path,
    analysis: str,
    frame: Frame,
    terms: Terms,
    parameters: Mapping[str, Any] | None = None,
    cuts: Sequence[int] = (),
    **options: Any,
) -> Answer:
    """The answer where alice, bob and carol have a part of the rows each.

    Args:
        cuts: the first row of bob's and of carol's; thirds where it is left out.
        options: see `case`: `release`, `privacy`, `budget`, ...
    """
    names = [one["name"] for one in terms]
    rows = len(frame[names[0]])
    parts = np.split(np.arange(rows), list(cuts) or [rows // 3, 2 * rows // 3])
    tables = {
        owner: {name: _written(frame[name][part], one) for name, one in zip(names, terms, strict=True)}
        for owner, part in zip(("alice", "bob", "carol"), parts, strict=True)
    }
    columns = {owner: [dict(one) for one in terms] for owner in tables}
    return answered(case(folder, tables, columns, analysis, parameters, **options))


def split_by_columns(
    folder: Path,
    analysis: str,
    frame: Frame,
    terms: Terms,
    parameters: Mapping[str, Any] | None = None,
    alice: Sequence[str] = (),
    **options: Any,
) -> Answer:
    """The answer where alice has some of the columns and bob the others.

    Args:
        alice: her columns; every second where it is left out.
        options: see `case`.
    """
    hers = list(alice) or [one["name"] for one in terms[::2]]
    mine = {
        "alice": [one for one in terms if one["name"] in hers],
        "bob": [one for one in terms if one["name"] not in hers],
    }
    tables = {
        owner: {one["name"]: _written(frame[one["name"]], one) for one in some}
        for owner, some in mine.items()
    }
    columns = {owner: [dict(one) for one in some] for owner, some in mine.items()}
    return answered(case(folder, tables, columns, analysis, parameters, parties=("alice", "bob"), **options))


def answered(one: Case) -> Answer:
    """What the recipient of a job is told; each party and the dealer is a thread."""
    admitted = one.admitted()
    results, failed = outcomes([*(one.program(name).run for name in admitted.parties), mpcpriv.engine.deal])
    if failed:
        raise results[failed[0]]
    reports = results[:-1]
    analysis = analyses.find(one.job.job.analysis)
    shares = [report.share for report in reports]
    found = read_result(admitted, analysis, reports[0].rows, reports[0].layout, shares)
    answer: Answer = json.loads(found.canonical())["result"]
    return answer


def plain(
    analysis: str,
    frame: Frame,
    terms: Terms,
    parameters: Mapping[str, Any] | None = None,
    shares: bool = False,
    absent: int = 0,
) -> Answer:
    """The answer on float64 tensors, without parties, without noise: the oracle.

    Args:
        shares: whether to take what is computed on shares also where the same could be summed.
        absent: how many rows there are besides, of zeros, which are not there.
    """
    found = analyses.find(analysis)
    columns = {str(one["name"]): ColumnTerms.model_validate(dict(one)) for one in terms}
    numbers = {name: np.asarray(frame[name], dtype=np.float64) for name in columns}
    outline = Outline(len(next(iter(numbers.values()))), "patient", columns)
    asked = analyses.Asked(found.parameters.model_validate(dict(parameters or {})), {"rows": outline})
    context = analyses.Context(("alice", "bob", "carol"), 0, steps)
    if isinstance(found, analyses.Private) and not (shares and isinstance(found, analyses.Computed)):
        from mpcpriv.analyses.query import Noised

        query = found.query(asked)
        total = query.total(numbers)
        if isinstance(found, analyses.Finished):
            made: Any = found.finish(context, torch.from_numpy(total).double(), asked)
            return dict(found.read(asked, {name: np.asarray(one).ravel() for name, one in made.items()}))
        return dict(query.read(Noised(total, 0.0)))
    assert isinstance(found, analyses.Computed)
    if isinstance(found, analyses.Derived):
        features = found.features(outline, asked.parameters)
        outline = replace(outline, columns={one.terms.name: one.terms for one in features})
        numbers = {one.terms.name: one.values(numbers) for one in features}
    if absent:
        present = torch.cat([torch.ones(outline.rows), torch.zeros(absent)]).double()
        context = replace(context, present=cast(Any, present))
        asked = replace(asked, count=outline.rows + absent)
    shared = {}
    for name, one in outline.columns.items():
        scale = Scale.of(one)
        tensor: Any = torch.from_numpy(scale.scaled(numbers[name]))
        tensor = torch.cat([tensor, torch.zeros(absent, dtype=tensor.dtype)])
        shared[name] = Column(one, scale, tensor)
    opened = found.run(
        context, {"rows": Table(outline.rows + absent, outline.unit, shared)}, asked.parameters
    )
    return dict(found.read(asked, {name: np.asarray(one).ravel() for name, one in opened.items()}))


def steps(turns: int, what: str) -> Iterator[int]:
    """As `mpcpriv.steps`, where there is nobody to wait for."""
    del what
    yield from range(turns)


def _written(values: np.ndarray, terms: Mapping[str, Any]) -> np.ndarray:
    """As the owner's table has it: categories in words, nothing where a value is missing."""
    if terms.get("missing"):
        words = [*terms.get("categories", ["0", "1"]), ""]
        if terms["type"] in ("category", "boolean"):
            return np.array([words[-1 if np.isnan(one) else int(one)] for one in values])
        return np.array(["" if np.isnan(one) else repr(float(one)) for one in values])
    if terms["type"] == "category":
        return np.array(terms["categories"])[np.asarray(values, dtype=np.int64)]
    if terms["type"] in ("boolean", "integer"):
        return np.asarray(values, dtype=np.int64)
    return np.asarray(values, dtype=np.float64)
