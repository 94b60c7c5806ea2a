"""Results that would tell a cell of few rows are withheld, on shares, before anybody sees them.

An analysis says which cells its answer tells (`mpcpriv.analyses.told`). Owners count them in the clear, each
in its own rows; cells of columns of several owners are products of shared yes-or-nos. All counts are compared
at once, and the result is multiplied by the bit that none is small: else zeros are opened, and the bit. So of
a result that is withheld one bit leaves, and not which cell it was, nor of how many rows.

A cell with no rows is small, as in a table (`mpcpriv.analyses.cells`): that nobody who is in one group is in
another is told of each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.analyses.analysis import Analysis, Asked, TellsCells
from mpcpriv.analyses.outline import together
from mpcpriv.analyses.told import Cells, count, inside, size
from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    import torch

    from mpcpriv.data.held import Columns, Held
    from mpcpriv.engine.session import Session

TOLD: Final = "no small cell"
"""What the bit is called, beside what an analysis opens."""
_MOST: Final = 1 << 17
"""Cells that are compared."""


class Watch:
    """The cells that a job's result would tell; none where small ones may be told."""

    def __init__(self, admitted: AdmittedJob, analysis: Analysis, public: Asked) -> None:
        """Of a job.

        Raises:
            UsageError: there are too many cells, or see `TellsCells.cells`.
            Unsupported: see `TellsCells.cells`.
        """
        self._tables: Sequence[Cells] = ()
        self._least = admitted.agreement.privacy.smallest_cell
        self._name = analysis.name
        if self._least > 1 and not public.noised and isinstance(analysis, TellsCells):
            self._tables = analysis.cells(together(public.tables)[0].columns, public.parameters)
        cells = sum(map(size, self._tables))
        if cells > _MOST:
            raise UsageError(
                f"analysis {analysis.name}: it would tell {cells} cells of yes-or-nos and categories, and "
                f"{_MOST} at most are held against the agreement's smallest cell; leave columns out, or "
                "merge categories"
            )
        self._counts = np.zeros(cells, dtype=np.int64)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._tables)

    def see(self, columns: Columns) -> None:
        """Counts some of this party's rows."""
        if self:
            self._counts = self._counts + count(self._tables, columns)

    def withheld(
        self,
        session: Session,
        outputs: Mapping[str, tuple[torch.Tensor, int]],
        public: Asked,
        own: Mapping[str, Held],
        owners: Mapping[str, int],
    ) -> dict[str, tuple[torch.Tensor, int]]:
        """What may be opened: the outputs, or zeros in their place; and the bit that says which.

        Args:
            session: of this party, all of whose rows were seen.
            outputs: by name, a share and its fractional bits.
            public: what is public of the tables.
            own: by data set of this party, its table; in memory where columns are split.
            owners: by data set, the rank of its owner.
        """
        import torch

        if not self:
            return dict(outputs)
        # What a party has here is its own rows' counts; from here on it is a share like any other.
        counts = session.given(torch.from_numpy(self._counts)) + session.zero_share(self._counts.shape)
        counts = counts + self._across(session, public, partial(_shared, session, public, own, owners))
        return self._kept(session, outputs, counts)

    def parts(self, public: Asked) -> dict[str, list[Cells]]:
        """By data set, the parts of tables whose cells `withheld_unseen` asks for."""
        found: dict[str, list[Cells]] = {name: [] for name in public.tables}
        for table in self._tables:
            for name, part in _parted(table, public).items():
                if part not in found[name]:
                    found[name].append(part)
        return found

    def withheld_unseen(
        self,
        session: Session,
        outputs: Mapping[str, tuple[torch.Tensor, int]],
        public: Asked,
        inside: Callable[[str, Cells], torch.Tensor],
    ) -> dict[str, tuple[torch.Tensor, int]]:
        """The same of rows in common that nobody knows, and that no owner can count.

        Args:
            session, outputs, public: as for `withheld`.
            inside: by data set and part of a table, shares of whether each row is in each of its cells,
                (rows, cells).
        """
        import torch

        if not self:
            return dict(outputs)
        alone = []
        for table in self._tables:
            parts = _parted(table, public)
            one = [inside(name, part) for name, part in parts.items() if len(parts) == 1]
            alone.append(one[0].sum(0) if one else torch.zeros(size(table), dtype=torch.int64))
        return self._kept(session, outputs, torch.cat(alone) + self._across(session, public, inside))

    def _kept(
        self, session: Session, outputs: Mapping[str, tuple[torch.Tensor, int]], counts: torch.Tensor
    ) -> dict[str, tuple[torch.Tensor, int]]:
        import torch

        from mpcpriv.engine.protocol.compare import below
        from mpcpriv.engine.protocol.multiply import product
        from mpcpriv.engine.ring import Bilinear

        session.note(f"withheld if of {self._tables!r} one is below {self._least}")
        small = below(session, counts, [self._least])[..., 0]
        none = below(session, small.sum().reshape(1), [1])[..., 0]
        # Products of integers, which nothing truncates: what is kept is kept to the last bit.
        flat = {name: one.reshape(1, -1) for name, (one, _) in outputs.items()}
        kept = product(session, Bilinear("mul"), none, torch.cat(list(flat.values()), dim=1))[0]
        found = {name: (kept[part], outputs[name][1]) for name, part in _slices(flat).items()}
        return {**found, TOLD: (none, 0)}

    def told(self, opened: Mapping[str, np.ndarray]) -> None:
        """Whether what was opened is a result.

        Raises:
            UsageError: it was withheld.
        """
        if self and opened[TOLD].tolist() != [1]:
            raise UsageError(
                f"analysis {self._name}: its result would tell of a yes-or-no or a category, or of several "
                f"together, a count of fewer rows than {self._least}, the agreement's smallest cell, and "
                "it was not opened; merge categories, leave such a column out, or ask for noise"
            )

    def _across(
        self, session: Session, public: Asked, share: Callable[[str, Cells], torch.Tensor]
    ) -> torch.Tensor:
        """Counts of cells of tables whose columns several data sets have between them; 0 of all others."""
        import torch

        from mpcpriv.engine.protocol.multiply import product
        from mpcpriv.engine.ring import Bilinear

        found = [torch.zeros(size(table), dtype=torch.int64) for table in self._tables]
        split = {place: _parted(table, public) for place, table in enumerate(self._tables)}
        split = {place: parts for place, parts in split.items() if len(parts) > 1}
        for names in dict.fromkeys(map(tuple, split.values())):
            some = {place: tuple(parts.values()) for place, parts in split.items() if tuple(parts) == names}
            heads = {parts[:-1]: _combined(session, share, names, parts[:-1]) for parts in some.values()}
            tails = {parts[-1]: share(names[-1], parts[-1]) for parts in some.values()}
            left, right = (torch.cat(list(one.values()), dim=1) for one in (heads, tails))
            # Each table that these data sets have between them is a block of one product.
            counts = product(session, Bilinear("matmul"), left.t().contiguous(), right)
            lines, columns = _slices(heads), _slices(tails)
            for place, parts in some.items():
                found[place] = counts[lines[parts[:-1]], columns[parts[-1]]].flatten()
        return torch.cat(found)


def _shared(
    session: Session,
    public: Asked,
    own: Mapping[str, Held],
    owners: Mapping[str, int],
    name: str,
    part: Cells,
) -> torch.Tensor:
    """Shares of whether each row of a data set is in each cell of a part of a table, (rows, cells)."""
    import torch

    value = None
    if name in own:
        (columns,) = own[name].batches()
        value = torch.from_numpy(inside(part, columns))
    return session.share_input(owners[name], (public.tables[name].rows, size(part)), value)


def _combined(
    session: Session,
    share: Callable[[str, Cells], torch.Tensor],
    names: Sequence[str],
    parts: Sequence[Cells],
) -> torch.Tensor:
    """The same of several parts of a table together, the parts of different data sets."""
    from mpcpriv.engine.protocol.multiply import product
    from mpcpriv.engine.ring import Bilinear

    whole = share(names[0], parts[0])
    for name, part in zip(names[1 : len(parts)], parts[1:], strict=True):
        both = whole.unsqueeze(2), share(name, part).unsqueeze(1)
        whole = product(session, Bilinear("mul"), *both).flatten(1)
    return whole


def _slices(matrices: Mapping[Any, torch.Tensor]) -> dict[Any, slice]:
    """Where each is in all of them side by side."""
    found, start = {}, 0
    for key, one in matrices.items():
        found[key] = slice(start, start + one.shape[1])
        start += one.shape[1]
    return found


def _parted(table: Cells, public: Asked) -> dict[str, Cells]:
    """By data set, the part of a table whose columns it has; one part where one has them all."""
    parts: dict[str, Cells] = {}
    for name, outline in public.tables.items():
        part = tuple(one for one in table if one.column in outline.columns)
        if len(part) == len(table):
            return {name: part}
        if part:
            parts[name] = part
    return parts
