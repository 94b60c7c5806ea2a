"""The tables of a job over rows in common that nobody knows: each owner's features, joined on shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.analyses import Asked, Computed
from mpcpriv.analyses.outline import Outline
from mpcpriv.analyses.table import Column, Table, derived
from mpcpriv.data.scale import Scale
from mpcpriv.engine.interval import Interval
from mpcpriv.engine.joining import joined
from mpcpriv.engine.session import Session
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.party.aligning import Unaligned

if TYPE_CHECKING:
    from mpcpriv.data.held import Columns


def join(
    session: Session,
    admitted: AdmittedJob,
    analysis: Computed,
    public: Asked,
    own: Mapping[str, Unaligned],
    fewest: int,
) -> tuple[dict[str, Table], SharedTensor]:
    """By data set the joined table's columns, rows of zeros where one is not in common; and which are.

    Args:
        session, admitted, analysis: of the job.
        public: with as many rows as the joined table has.
        own: by data set of this party, its table.
        fewest: how many rows the smaller table has.

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
        if values is not None:
            mine[name] = _encoded(session, outline, values)
    widths = [len(outline.columns) for outline in outlines]
    # An alignment has one data set of each owner.
    halves = [held.halved(session, admitted, mine[name], widths) for name, held in own.items()]
    owners = [ranks[name] for name in names]
    found = joined(session, owners, next(iter(halves), None), fewest, sum(widths))
    shares = iter(found.columns.share.t())
    tables = {name: _table(outline, shares) for name, outline in zip(names, outlines, strict=True)}
    return {name: tables[name] for name in public.tables}, found.present


def _encoded(session: Session, outline: Outline, values: Columns) -> np.ndarray:
    """What is shared of an owner's columns, int64 (rows, width)."""
    scaled = [Scale.of(terms).scaled(values[name]) for name, terms in outline.columns.items()]
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
