"""What a job will cost, and what each party and each coalition could learn from it; nothing is shared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mpcpriv import analyses
from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.agreement.model import ColumnTerms, Dataset
from mpcpriv.data.held import Whole
from mpcpriv.engine.costs import Plan
from mpcpriv.errors import UsageError
from mpcpriv.party.jobs import compute
from mpcpriv.release.noise import collusion


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
        rows: by data set, how many rows it has; the agreement's minimum where it is left out.

    Raises:
        UsageError: a run would be refused, too: the tables do not go together, or the cohort is too small.
        RangeError: within the agreed bounds, a value could leave the ring.
    """
    from mpcpriv.engine import activate, plan

    activate()
    analysis = analyses.find(admitted.job.analysis)
    datasets = {one.name: one for one in admitted.agreement.datasets}
    unknown = set(rows or {}) - {one.dataset for one in admitted.job.inputs}
    if unknown:
        raise UsageError(f"rows of {', '.join(sorted(unknown))}: the job has no such data set")
    counts = {
        one.dataset: (rows or {}).get(one.dataset, datasets[one.dataset].minimum_rows)
        for one in admitted.job.inputs
    }

    def party() -> None:
        from mpcpriv.engine.session import current

        session = current()
        mine = {
            one.dataset: Whole(_anything(datasets[one.dataset], one.columns, counts[one.dataset]))
            for one in admitted.job.inputs
            if datasets[one.dataset].owner == admitted.parties[session.rank]
        }
        _, sealed = compute(session, admitted, analysis, mine)
        sizes.append(len(sealed.content))

    sizes: list[int] = []
    cost = dataclasses.replace(plan(party, len(admitted.parties)), parties=tuple(admitted.parties))
    return JobPlan(cost, sizes[0], admitted.recipients, tuple(_learns(admitted, analysis)))


def _anything(dataset: Dataset, columns: list[str], rows: int) -> dict[str, np.ndarray]:
    """Values within the agreed bounds; of a plan nothing depends on them."""
    known = {column.name: column for column in dataset.columns}
    return {name: np.full(rows, _least(known[name])) for name in columns}


def _least(column: ColumnTerms) -> float:
    return column.low if column.type in ("number", "integer") and column.low is not None else 0.0


def _learns(admitted: AdmittedJob, analysis: analyses.Analysis) -> list[tuple[str, str]]:
    parties, recipients = admitted.parties, admitted.recipients
    names = [one.dataset for one in admitted.job.inputs]
    result = "; ".join(f"{name}, {what}" for name, what in analysis.outputs(admitted.job).items())
    found = [
        (
            "everybody who takes part",
            f"this job and its parameters, how many rows {_and(names)} {_have(names)}, and how long it takes",
        ),
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


def _have(names: list[str]) -> str:
    return "have" if len(names) > 1 else "has"
