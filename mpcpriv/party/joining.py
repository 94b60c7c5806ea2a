"""The tables of a job over rows in common that nobody knows: each owner's features, joined on shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import torch

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.analyses import Asked, Computed
from mpcpriv.analyses.outline import Outline
from mpcpriv.analyses.table import Column, Table, derived
from mpcpriv.analyses.told import Cells, inside, size
from mpcpriv.data.scale import Scale
from mpcpriv.engine.interval import Interval
from mpcpriv.engine.joining import joined
from mpcpriv.engine.session import Session
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.party.aligning import Unaligned

if TYPE_CHECKING:
    from mpcpriv.data.held import Columns


@dataclass(frozen=True)
class Tables:
    """The joined table, by data set.

    Attributes:
        tables: its columns; rows of zeros where a row is not in common.
        present: (rows,), which are.
        members: of the parts of tables that were asked for, shares of whether each row is in each cell.
    """

    tables: Mapping[str, Table]
    present: SharedTensor
    members: Mapping[tuple[str, Cells], torch.Tensor]

    def inside(self, name: str, part: Cells) -> torch.Tensor:
        """Shares of 0 and 1, (rows, cells): whether each row of a data set is in each cell."""
        return self.members[name, part]


def join(
    session: Session,
    admitted: AdmittedJob,
    analysis: Computed,
    public: Asked,
    own: Mapping[str, Unaligned],
    fewest: int,
    parts: Mapping[str, Sequence[Cells]],
) -> Tables:
    """Joins what the owners have of a job.

    Args:
        session, admitted, analysis: of the job.
        public: with as many rows as the joined table has.
        own: by data set of this party, its table.
        fewest: how many rows the smaller table has.
        parts: by data set, parts of tables that are counted.

    Raises:
        PeerError: a member failed, or aligns something else.
    """
    ranks = {one.name: admitted.parties.index(one.owner) for one in admitted.agreement.datasets}
    names = sorted(public.tables, key=ranks.__getitem__)
    outlines, mine = [], {}
    for name in names:
        columns = own[name].columns if name in own else None
        outline, values = derived(analysis, public.tables[name], public.parameters, columns)
        outlines.append(outline)
        if columns is not None and values is not None:
            cells = [inside(part, columns) for part in parts[name]]
            # These stay integers: in a product of ring elements 0 and 1 are 0 and 1.
            mine[name] = np.concatenate([_encoded(session, outline, values, own[name].rows), *cells], axis=1)
    widths = [
        len(outline.columns) + sum(map(size, parts[name]))
        for name, outline in zip(names, outlines, strict=True)
    ]
    # An alignment has one data set of each owner.
    halves = [held.halved(session, admitted, mine[name], widths) for name, held in own.items()]
    owners = [ranks[name] for name in names]
    found = joined(session, owners, next(iter(halves), None), fewest, sum(widths))
    tables, members = {}, {}
    wholes = torch.split(found.columns.share, widths, dim=1)
    for name, outline, whole in zip(names, outlines, wholes, strict=True):
        tables[name] = _table(outline, iter(whole.t()))
        sizes = [len(outline.columns), *map(size, parts[name])]
        for part, start, width in zip(parts[name], accumulate(sizes), sizes[1:], strict=False):
            members[name, part] = whole[:, start : start + width].contiguous()
    return Tables({name: tables[name] for name in public.tables}, found.present, members)


def _encoded(session: Session, outline: Outline, values: Columns, rows: int) -> np.ndarray:
    """What is shared of an owner's columns, int64 (rows, width)."""
    scaled = [Scale.of(terms).scaled(values[name]) for name, terms in outline.columns.items()]
    if not scaled:  # all are categories of one value
        return np.zeros((rows, 0), dtype=np.int64)
    encoded: np.ndarray = session.encoded(torch.from_numpy(np.stack(scaled, axis=1))).numpy()
    return encoded


def _table(outline: Outline, shares: Iterator[torch.Tensor]) -> Table:
    columns = {}
    for name, terms in outline.columns.items():
        scale, tensor = Scale.of(terms), SharedTensor.of(next(shares).contiguous())
        # Rows that are not in common are zeros, whatever the bounds.
        tensor.interval = Interval.stated((min(scale.low, 0.0), max(scale.high, 0.0)))
        columns[name] = Column(terms, scale, tensor)
    return Table(outline.rows, outline.unit, columns)
