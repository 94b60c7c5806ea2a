"""What a job will cost, and what each party and each coalition could learn from it; nothing is shared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from mpcpriv import analyses
from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.agreement.model import ColumnTerms, Dataset
from mpcpriv.data.held import Columns, Held, Whole
from mpcpriv.engine.costs import Plan
from mpcpriv.engine.session import Session
from mpcpriv.errors import UsageError
from mpcpriv.party.aligning import Unaligned, enough, terms_of
from mpcpriv.party.jobs import compute
from mpcpriv.release import Sealed, secret
from mpcpriv.release.noise import collusion
from mpcpriv.release.unseen import least
from mpcpriv.release.withheld import TOLD

if TYPE_CHECKING:
    from mpcpriv.alignment import Half
    from mpcpriv.alignment.wire import Terms


@dataclass(frozen=True)
class JobPlan:
    """What a job will cost, and tell whom.

    Attributes:
        cost: rounds, exactly as a run measures them; bytes from each party to each other, exactly; bytes
            from the dealer, in all within some per cent: of what it is asked for ahead, a little is in vain,
            and whom it falls to differs. Agreeing on keys at the start, a message per pair, is not in it.
        result: bytes of its share of the result that each party's daemon sends to each recipient.
        recipients: of the result.
        learns: who, and what they could learn, in sentences: everybody, the recipients, the other parties,
            coalitions, the dealer.
    """

    cost: Plan
    result: int
    recipients: tuple[str, ...]
    learns: tuple[tuple[str, str], ...]

    def seconds(self, round_trip: float, bits_per_second: float) -> float:
        """Seconds on the network on such a line: `Plan.seconds`. Computing comes on top."""
        return self.cost.seconds(round_trip, bits_per_second)

    def __str__(self) -> str:
        opened = f"the result, to {_and(self.recipients)}: {self.result} bytes from each party to each"
        return "\n".join([self.cost.told(opened), "", *(f"{who}: {what}" for who, what in self.learns)])


def plan_job(admitted: AdmittedJob, rows: Mapping[str, int] | None = None) -> JobPlan:
    """Plans a job: all its parties run here, on zeros, one turn of each loop standing for many.

    Args:
        admitted: the job.
        rows: by data set, how many rows it has; the agreement's minimum where it is left out. By alignment,
            how many rows all its data sets have in common; as many as the smallest of them where it is left
            out, which is the most that can be. Where nobody learns it, the cost is the same for any number.

    Raises:
        UsageError: a run would be refused, too: the tables do not go together, or the cohort is too small.
        RangeError: within the agreed bounds, a value could leave the ring.
    """
    from mpcpriv.engine import activate, plan

    activate()
    analysis = analyses.find(admitted.job.analysis)
    datasets = {one.name: one for one in admitted.agreement.datasets}
    counts, common = _counts(admitted, rows or {})

    def party() -> None:
        from mpcpriv.engine.session import current

        session = current()
        mine: dict[str, Held | Unaligned] = {}
        for one in admitted.job.inputs:
            if datasets[one.dataset].owner == admitted.parties[session.rank]:
                anything = _anything(datasets[one.dataset], one.columns, common or counts[one.dataset])
                if common:
                    whole = _anything(datasets[one.dataset], one.columns, counts[one.dataset])
                    mine[one.dataset] = _Assumed(counts, whole, anything)
                else:
                    mine[one.dataset] = anything
        _, sealed = compute(session, admitted, analysis, mine)
        shares.append(sealed)

    shares: list[Sealed] = []
    cost = dataclasses.replace(plan(party, len(admitted.parties)), parties=tuple(admitted.parties))
    watched = any(one.name == TOLD for one in shares[0].layout)
    learns = tuple(_learns(admitted, analysis, watched))
    return JobPlan(cost, len(shares[0].content), admitted.recipients, learns)


def _counts(admitted: AdmittedJob, rows: Mapping[str, int]) -> tuple[dict[str, int], int | None]:
    """By data set, how many rows it has; and how many they have in common, where the job is aligned."""
    terms = admitted.alignment
    names = [one.dataset for one in admitted.job.inputs]
    unknown = set(rows) - {*names, *([] if terms is None else [terms.name])}
    if unknown:
        raise UsageError(f"rows of {', '.join(sorted(unknown))}: the job has no such data set")
    least = {one.name: one.minimum_rows for one in admitted.agreement.datasets}
    if terms is None:
        return {name: rows.get(name, least[name]) for name in names}, None
    counts = {name: rows.get(name, max(least[name], terms.minimum_rows)) for name in names}
    common = rows.get(terms.name, min(counts.values()))
    if common > min(counts.values()):
        raise UsageError(
            f"{common} rows in common by {terms.name}: a data set has {min(counts.values())} only"
        )
    return counts, common


class _Assumed:
    """A table of a plan before its alignment, of which nothing but its cost is known."""

    digests: Mapping[str, tuple[str, bytes]] = {}
    people = None

    def __init__(self, counts: Mapping[str, int], whole: Whole, common: Whole) -> None:
        self._counts, self._whole, self._common = counts, whole, common

    @property
    def rows(self) -> int:
        """See `Unaligned`."""
        return self._whole.rows

    @property
    def columns(self) -> Columns:
        """See `Unaligned`."""
        return self._whole.columns

    def aligned(self, session: Session, admitted: AdmittedJob) -> Whole:
        """See `Unaligned`."""
        self._spend(session, admitted, terms_of(admitted))
        enough(admitted, self._common.rows)
        return self._common

    def halved(
        self, session: Session, admitted: AdmittedJob, columns: np.ndarray, widths: Sequence[int]
    ) -> Half:
        """See `Unaligned`."""
        from mpcpriv.alignment import Half
        from mpcpriv.alignment.secret import bins

        del columns
        self._spend(session, admitted, dataclasses.replace(terms_of(admitted), columns=tuple(widths)))
        size = bins(min(self._counts.values()))
        return Half(np.zeros(size, np.int64), np.zeros((size, sum(widths)), np.int64))

    def _spend(self, session: Session, admitted: AdmittedJob, terms: Terms) -> None:
        from mpcpriv.alignment import costs

        owners = {one.name: one.owner for one in admitted.agreement.datasets}
        counts = {owners[name]: count for name, count in self._counts.items()}
        sent = costs.sent(terms, counts, self._common.rows, admitted.parties[session.rank])
        for party, size in sent.items():
            session.cost.sent_to[admitted.parties.index(party)] += size
        session.cost.rounds += costs.rounds(len(terms.parties))


def _anything(dataset: Dataset, columns: list[str], rows: int) -> Whole:
    """Values within the agreed bounds; of a plan nothing depends on them."""
    known = {column.name: column for column in dataset.columns}
    return Whole({name: np.full(rows, _least(known[name])) for name in columns})


def _least(column: ColumnTerms) -> float:
    return column.low if column.type in ("number", "integer") and column.low is not None else 0.0


def _learns(admitted: AdmittedJob, analysis: analyses.Analysis, watched: bool) -> list[tuple[str, str]]:
    parties, recipients = admitted.parties, admitted.recipients
    names = [one.dataset for one in admitted.job.inputs]
    result = "; ".join(f"{name}, {what}" for name, what in analysis.outputs(admitted.job).items())
    if watched:
        cell = admitted.agreement.privacy.smallest_cell
        result += f"; if that would tell a count of fewer than {cell} rows, nothing but that it would"
    hidden = secret(admitted.agreement, admitted.job) is not None
    together = " in common" if admitted.alignment and not hidden else ""
    found = [
        (
            "everybody who takes part",
            (
                f"this job and its parameters, how many rows {_and(names)} {_have(names)}{together}, and how "
                f"long it takes{_whether(admitted) if hidden else ''}"
            ),
        ),
        *_aligned(admitted),
        (_and(recipients), f"the result, {_how(admitted)}: {result}"),
    ]
    others = [name for name in parties if name not in recipients]
    if others:
        found.append(
            (_and(others), "of the result and of the others' rows nothing; shares are uniformly random")
        )
    found += _coalitions(admitted, others)
    found.append(
        (
            admitted.dealer,
            (
                "which operations run on which shapes, and no data; a dealer that colludes with a party "
                "could read all rows, which nothing here prevents: somebody without a stake must run it"
            ),
        )
    )
    return found


def _aligned(admitted: AdmittedJob) -> list[tuple[str, str]]:
    """What the owners learn of each other's people."""
    if admitted.alignment is None:
        return []
    owners = terms_of(admitted).parties
    if secret(admitted.agreement, admitted.job):
        return [
            (
                f"each of {_and(admitted.parties)}",
                (
                    f"by alignment {admitted.alignment.name} of whom {_and(owners)} both have nothing: no "
                    "identifier, not which rows are in common, and but for the result not how many"
                ),
            )
        ]
    others = "the other has" if len(owners) == 2 else "all the others have"
    found = [
        (
            f"each of {_and(owners)}",
            (
                f"by alignment {admitted.alignment.name}: which of its own rows are about people whom "
                f"{others}, too, and how many rows each has; of the others' other people nothing"
            ),
        )
    ]
    found += [
        (_and((owners[0], *some)), f"together: which people of {owners[0]} {_and(rest)} {_have(rest)}, too")
        for size in range(1, len(owners) - 1)
        for some in combinations(owners[1:], size)
        for rest in [tuple(one for one in owners[1:] if one not in some)]
    ]
    without = [name for name in admitted.parties if name not in owners]
    if without:
        found.append(
            (_and(without), "no identifier, in whatever form, and not whom the owners have in common")
        )
    return found


def _whether(admitted: AdmittedJob) -> str:
    return f", and whether {least(admitted)} rows or more are in common: with fewer the job fails"


def _how(admitted: AdmittedJob) -> str:
    release = admitted.job.release
    if release.epsilon is None:
        base = admitted.agreement.privacy.rounding
        return "without noise" if base is None else f"without noise, counts rounded to multiples of {base}"
    delta = f" and delta {release.delta:g}" if release.delta else ""
    return (
        f"with differential privacy, epsilon {release.epsilon:g}{delta}, against up to {collusion(admitted)} "
        "colluding parties"
    )


def _coalitions(admitted: AdmittedJob, others: list[str]) -> list[tuple[str, str]]:
    """What those could learn who show each other all that they have."""
    parties = admitted.parties
    owners = {one.name: one.owner for one in admitted.agreement.datasets}
    holding = {
        party: [one.dataset for one in admitted.job.inputs if owners[one.dataset] == party]
        for party in parties
    }
    found = []
    for size in range(1, len(parties)):
        for coalition in combinations(parties, size):
            left = [party for party in parties if party not in coalition and holding[party]]
            if not left or (size == 1 and coalition[0] in others):
                continue
            if not set(coalition) & set(admitted.recipients):
                found.append((_and(coalition), "together: nothing of the result or of the others' rows"))
                continue
            own = [name for party in coalition for name in holding[party]]
            what = f"what the result tells of {_and([name for party in left for name in holding[party]])}"
            if own:
                what += f" to somebody who knows all rows of {_and(own)}"
            if own and len(left) == 1:
                what += f"; once what they hold is taken out of it, the rest is about {left[0]} alone"
            found.append((_and(coalition) if size > 1 else f"{coalition[0]} alone", what))
    found.append((f"all of {_and(parties)}", "together: everything; they hold all shares"))
    return found


def _and(names: list[str] | tuple[str, ...]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "nobody"


def _have(names: list[str] | tuple[str, ...]) -> str:
    return "have" if len(names) > 1 else "has"
