"""Shared tables: one shared tensor per column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses import outline
from mpcpriv.analyses.analysis import Computed, Derived
from mpcpriv.analyses.outline import Outline, Split
from mpcpriv.data.scale import Scale
from mpcpriv.engine.tensor import SharedTensor


@dataclass(frozen=True)
class Column:
    """A shared column.

    Attributes:
        terms: what is public of it.
        scale: how its numbers are shared.
        shared: (rows,), (x - scale.centre) / scale.unit, with its bounds.
    """

    terms: ColumnTerms
    scale: Scale
    shared: SharedTensor


@dataclass(frozen=True)
class Table:
    """The shared columns of a data set, or of several together.

    Attributes:
        rows: how many; public.
        unit: whom a row is about.
        columns: by name, in the order of the job.
    """

    rows: int
    unit: str
    columns: Mapping[str, Column]

    @property
    def outline(self) -> Outline:
        """What is public of it."""
        return Outline(self.rows, self.unit, {name: column.terms for name, column in self.columns.items()})


def derived(
    analysis: Computed, outline: Outline, parameters: Any, own: Mapping[str, np.ndarray] | None
) -> tuple[Outline, Mapping[str, np.ndarray] | None]:
    """What is shared of a table, columns or features, and its values at their owner; None elsewhere.

    Args:
        analysis: that is to compute on it.
        outline: what is public of the table.
        parameters: of the analysis.
        own: by name, (rows,), at the owner.
    """
    if not isinstance(analysis, Derived):
        return outline, own
    features = analysis.features(outline, parameters)
    values = None if own is None else {one.terms.name: one.values(own) for one in features}
    return replace(outline, columns={one.terms.name: one.terms for one in features}), values


def share(outline: Outline, own: Mapping[str, np.ndarray] | None, owner: int) -> Table:
    """Shares one owner's columns; nothing is sent.

    Args:
        outline: what is public of them; the same at every party.
        own: by name, (rows,), at the owner; None elsewhere.
        owner: the owner's rank.

    Raises:
        UsageError: a number has no agreed bounds.
        RangeError: a value is outside them.
    """
    shared = {}
    for name, terms in outline.columns.items():
        scale = Scale.of(terms)
        value = None if own is None else torch.from_numpy(scale.scaled(own[name]))
        # The bounds are stated at every party: an operation that could leave the ring is refused for them.
        tensor = SharedTensor(value, size=(outline.rows,), src=owner, bound=(scale.low, scale.high))
        shared[name] = Column(terms, scale, tensor)
    return Table(outline.rows, outline.unit, shared)


def together(inputs: Mapping[str, Table]) -> tuple[Table, Split]:
    """All tables as one: see `outline`.

    Raises:
        UsageError: the tables go together in neither way.
    """
    tables = list(inputs.values())
    whole, split = outline.together({name: table.outline for name, table in inputs.items()})
    columns = {}
    for name in whole.columns:
        parts = [table.columns[name] for table in tables if name in table.columns]
        shared: Any = parts[0].shared if len(parts) == 1 else torch.cat([part.shared for part in parts])
        columns[name] = Column(parts[0].terms, parts[0].scale, shared)
    return Table(whole.rows, whole.unit, columns), split
