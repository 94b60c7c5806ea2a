"""Results about rows in common that nobody knows: whether they may leave is decided on shares.

How many rows there are is a secret that is opened with the result, and only if they are enough: everything is
multiplied by that bit. Of two such results nobody can say by how many rows they differ. So a table that had
part in one has part in another without noise only by the same alignment, and as long as it is about the same
people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.agreement.model import Agreement, AlignmentTerms
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job
from mpcpriv.release.share import Layout

if TYPE_CHECKING:
    import torch

    from mpcpriv.engine.session import Session
    from mpcpriv.engine.tensor import SharedTensor
    from mpcpriv.release.rules import Cohort

COMMON: Final = "rows in common"
"""What the number of rows is called among what is opened; 0 where it is too small."""


@dataclass(frozen=True)
class Unseen:
    """A result without noise before, about rows that nobody knows, as a member keeps it.

    Attributes:
        terms: digest of its alignment's terms.
        rows: by data set, how many it had.
        salt: of `people`, in hexadecimal; None where it is forgotten.
        people: `salted` of the member's own table; None at a member without one.
    """

    terms: str
    rows: Mapping[str, int]
    salt: str | None
    people: str | None


def secret(agreement: Agreement, job: Job) -> AlignmentTerms | None:
    """The alignment of a job, if nobody learns whom it finds."""
    terms = agreement.alignment(job.alignment)
    return terms if terms is not None and terms.mode == "secret" else None


def salted(salt: str, people: str) -> str:
    """SHA-256, in hexadecimal, of a salt and the digest of a table's keys, both hexadecimal."""
    return hashlib.sha256(bytes.fromhex(salt) + bytes.fromhex(people)).hexdigest()


def least(admitted: AdmittedJob) -> int:
    """From how many rows in common a result may leave."""
    terms = admitted.alignment
    assert terms is not None
    own = [one.minimum_rows for one in admitted.agreement.datasets if one.name in terms.keys]
    return max(terms.minimum_rows, admitted.agreement.privacy.minimum_cohort, *own)


def settle(
    session: Session,
    present: SharedTensor,
    outputs: Mapping[str, tuple[torch.Tensor, int]],
    enough: int,
) -> dict[str, tuple[torch.Tensor, int]]:
    """Shares of the outputs and of the number of rows, or of zeros where there are too few; five rounds.

    Args:
        session: of this party.
        present: (rows,), 1 where a row is in common.
        outputs: of the analysis, by name a share (int64 vector) and its fractional bits.
        enough: how many are.

    Returns:
        by name, a share and its fractional bits.
    """
    import torch

    from mpcpriv.engine.protocol.compare import below
    from mpcpriv.engine.protocol.multiply import product
    from mpcpriv.engine.ring import Bilinear

    count = present.at(0).sum().reshape(1)
    few = below(session, count, [enough])[..., 0]
    kept = (1 if session.rank == 0 else 0) - few
    shares = [count, *(share for share, _ in outputs.values())]
    # A product of ring elements with 0 or 1: exact, whatever they are.
    found = torch.split(
        product(session, Bilinear("mul"), kept, torch.cat(shares)), [len(one) for one in shares]
    )
    bits = [0, *(bits for _, bits in outputs.values())]
    return dict(zip([COMMON, *outputs], zip(found, bits, strict=True), strict=True))


def common(admitted: AdmittedJob, layout: Sequence[Layout], opened: Mapping[str, np.ndarray]) -> int:
    """How many rows a result is about.

    Raises:
        UsageError: fewer than were agreed, so that nothing else was opened; or no number is there.
    """
    assert admitted.alignment is not None
    if [one for one in layout if one.name == COMMON] != [Layout(name=COMMON, size=1, bits=0)]:
        raise UsageError(f"analysis {admitted.job.analysis}: what was opened is not what it asks for")
    count = int(opened[COMMON][0])
    if count < least(admitted):
        names = ", ".join(admitted.alignment.keys)
        raise UsageError(
            f"alignment {admitted.alignment.name}: {names} have fewer than {least(admitted)} rows in common, "
            "so that nothing was opened; the agreement asks for as many"
        )
    return count


def held_apart(
    agreement: Agreement,
    job: Job,
    rows: Mapping[str, int],
    people: str | None,
    earlier: Sequence[Cohort],
    unseen: Sequence[Unseen],
) -> None:
    """Whether a result without noise is about the same rows as each earlier one about rows nobody knows.

    Args:
        agreement, job: what is asked.
        rows: by data set, how many it has.
        people: digest of the keys of the member's own table, in hexadecimal; None where it has none.
        earlier: `cohorts` of each result without noise before, about rows of which the number is known.
        unseen: the others.

    Raises:
        UsageError: it is not, or that cannot be said any more.
    """
    terms = secret(agreement, job)
    way = "ask for noise" if terms is None else "agree on a new data set"
    if terms is not None:
        for one in earlier:
            if one.rows.keys() & rows.keys():
                raise UsageError(_unknown(one.rows.keys() & rows.keys(), way))
    for before in unseen:
        shared = before.rows.keys() & rows.keys()
        if not shared:
            continue
        if terms is None or terms.digest() != before.terms:
            raise UsageError(_unknown(shared, way))
        same = before.people is None or (
            people is not None and before.salt is not None and salted(before.salt, people) == before.people
        )
        if not same or before.rows != rows:
            why = "was changed" if before.salt is not None else "may have been changed: what tells is deleted"
            raise UsageError(
                f"alignment {terms.name}: since its first result without noise a table {why}, and by how "
                "many rows in common two results differ is not known; use the table of then, or agree on a "
                "new data set"
            )


def _unknown(names: set[str], way: str) -> str:
    return (
        f"data set {', '.join(sorted(names))}: a result without noise was released before, and by how many "
        f"rows this one differs is not known, since nobody knows the rows that an alignment found; {way}"
    )
