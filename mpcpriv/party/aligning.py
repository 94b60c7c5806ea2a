"""The owners' part of a job that is aligned.

Before anything is shared they find, among themselves, the rows that are about the same people, and go on with
those, in the order that all have in common.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.agreement.model import AlignmentTerms, Dataset
from mpcpriv.data.declared import Source
from mpcpriv.errors import DataError, Unsupported, UsageError

if TYPE_CHECKING:
    from mpcpriv.alignment import Half, Identifiers
    from mpcpriv.alignment.wire import Terms
    from mpcpriv.analyses import Analysis
    from mpcpriv.data.held import Columns, Whole
    from mpcpriv.engine.session import Session

MOST_ROWS = 1 << 31


def installed() -> bool:
    """Whether what an alignment needs is; without loading it."""
    return find_spec("nacl") is not None


@runtime_checkable
class Unaligned(Protocol):
    """A party's own table in a job that is aligned, as `Held` before its rows in common are known."""

    @property
    def rows(self) -> int:
        """How many it has in all."""

    @property
    def digests(self) -> Mapping[str, tuple[str, bytes]]:
        """See `Held`."""

    def aligned(self, session: Session, admitted: AdmittedJob) -> Whole:
        """The rows that all have, in the order that all have in common.

        Raises:
            UsageError: there are fewer than were agreed.
            PeerError: a member failed, or aligns something else.
        """

    @property
    def columns(self) -> Columns:
        """All rows, in the order of the table."""

    @property
    def people(self) -> str | None:
        """SHA-256, in hexadecimal, of the keys in any order; it stays here. None in a plan."""

    def halved(
        self, session: Session, admitted: AdmittedJob, columns: np.ndarray, widths: Sequence[int]
    ) -> Half:
        """This owner's half of the joined table, of which nobody knows whose rows are in it.

        Args:
            session, admitted: of the job.
            columns: (rows, width) int64, what is shared of each row.
            widths: of each owner, in the order of rank.

        Raises:
            PeerError: a member failed, or aligns something else.
        """


class Keyed:
    """In memory, with its keys.

    Args:
        columns: of the job.
        identifiers: the keys of the same rows.
    """

    def __init__(self, columns: Columns, identifiers: Identifiers) -> None:
        from mpcpriv.data.held import Whole

        self._whole, self._identifiers = Whole(columns), identifiers

    @classmethod
    def read(cls, source: Source, dataset: Dataset, columns: Sequence[str], terms: AlignmentTerms) -> Keyed:
        """Reads the columns of a job and those of the key together.

        Raises:
            UsageError: the source cannot be read.
            DataError: it does not hold what was agreed, or rows have no key, or not one of their own.
        """
        from mpcpriv.alignment import BadKeys, KeyColumn, identify
        from mpcpriv.data.source import load

        key = terms.keys[dataset.name]
        table = load(source, dataset, [*columns, *(part.column for part in key)])
        try:
            found = identify(
                *(KeyColumn(table.pop(part.column), tuple(part.rules), part.column) for part in key)
            )
        except BadKeys as error:
            ours = f"data set {dataset.name} of {dataset.owner}"
            bad = [key[place].column for place in error.columns]
            names = ", ".join(part.column for part in key)
            said = f"{ours}, key of alignment {terms.name} ({names}): {error}"
            raise DataError(ours, bad, said) from None
        return cls(table, found)

    @property
    def rows(self) -> int:
        """See `Unaligned`."""
        return self._whole.rows

    @property
    def digests(self) -> Mapping[str, tuple[str, bytes]]:
        """See `Unaligned`."""
        key = hashlib.sha256(self._identifiers.digests.data).digest()
        return {**self._whole.digests, "": ("key", key)}

    @property
    def columns(self) -> Columns:
        """See `Unaligned`."""
        return self._whole.columns

    @property
    def people(self) -> str:
        """See `Unaligned`."""
        from mpcpriv.alignment.identifiers import as_strings

        return hashlib.sha256(np.sort(as_strings(self._identifiers.digests)).data).hexdigest()

    def aligned(self, session: Session, admitted: AdmittedJob) -> Whole:
        """See `Unaligned`."""
        from mpcpriv.alignment import align, costs
        from mpcpriv.data.held import Whole
        from mpcpriv.engine.joining import Counting

        terms = terms_of(admitted)
        keys = replace(self._identifiers, rules=terms.rules)
        with session.watched(f"aligning by {admitted.job.alignment}") as told:
            found = align(
                Counting(session), keys, job=bytes.fromhex(terms.job), parties=terms.parties, told=told
            ).rows
        assert found is not None
        session.cost.rounds += costs.rounds(len(terms.parties))
        enough(admitted, len(found))
        return Whole({name: values[found] for name, values in self._whole.columns.items()})

    def halved(
        self, session: Session, admitted: AdmittedJob, columns: np.ndarray, widths: Sequence[int]
    ) -> Half:
        """See `Unaligned`."""
        from mpcpriv.alignment import costs, halve
        from mpcpriv.engine.joining import Counting

        terms = terms_of(admitted)
        keys = replace(self._identifiers, rules=terms.rules)
        with session.watched(f"aligning by {admitted.job.alignment}") as told:
            found = halve(
                Counting(session),
                keys,
                columns,
                job=bytes.fromhex(terms.job),
                widths=widths,
                parties=terms.parties,
                told=told,
            )
        session.cost.rounds += costs.rounds(len(terms.parties))
        return found


def enough(admitted: AdmittedJob, common: int) -> None:
    """Raises UsageError where fewer rows are in common than were agreed, or none."""
    terms = admitted.alignment
    assert terms is not None
    if common < terms.minimum_rows:
        raise UsageError(
            f"alignment {terms.name}: {', '.join(terms.keys)} have {common} rows in common; the agreement "
            f"asks for {terms.minimum_rows} at least"
        )


def terms_of(admitted: AdmittedJob) -> Terms:
    """What the owners, in order of rank, tell each other before they align."""
    from mpcpriv.alignment.wire import Terms

    agreed = admitted.alignment
    assert agreed is not None
    owners = {one.name: one.owner for one in admitted.agreement.datasets}
    chosen = {owners[name] for name in agreed.keys}
    # The digest of the job differs from that of any other, and those of one job under two agreements.
    job = admitted.job.digest() + admitted.agreement.digest()
    # Each owner has rules of its own: what all must have alike is what was agreed of all of them.
    rules = ((agreed.digest(),),)
    return Terms(agreed.mode, None, tuple(one for one in admitted.parties if one in chosen), job, rules)


def permitted(admitted: AdmittedJob, analysis: Analysis) -> None:
    """Refuses what can be refused of a job before its owners know which rows they have in common.

    What the analysis itself refuses of its inputs as it runs comes later; a plan finds it before.

    Raises:
        UsageError: as `compute`.
    """
    from mpcpriv.analyses import Derived, OverSecretRows
    from mpcpriv.analyses.outline import together
    from mpcpriv.release import check, secret
    from mpcpriv.release.result import asked
    from mpcpriv.release.rules import summed
    from mpcpriv.release.withheld import Watch

    if summed(admitted, analysis):
        raise Unsupported(
            f"analysis {analysis.name}: as it is asked for, each owner adds up its own rows, and columns of "
            "several owners do not meet; ask for another analysis, or leave the alignment out"
        )
    if secret(admitted.agreement, admitted.job) and not isinstance(analysis, OverSecretRows):
        raise Unsupported(
            f"analysis {analysis.name}: by alignment {admitted.job.alignment} nobody learns which rows take "
            "part, and it needs to know; ask for another analysis (docs/alignment.md lists them)"
        )
    rows = {one.dataset: MOST_ROWS - 1 for one in admitted.job.inputs}
    public = asked(admitted, analysis, rows)
    check(admitted, analysis, together(public.tables)[0].rows, rows)
    Watch(admitted, analysis, public)
    if isinstance(analysis, Derived):
        for table in public.tables.values():
            analysis.features(table, public.parameters)
