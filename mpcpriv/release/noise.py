"""The noise of a release: the same at all parties, of which the agreement lets some collude."""

from __future__ import annotations

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.analyses.analysis import Perturbed
from mpcpriv.analyses.query import Query
from mpcpriv.errors import UsageError
from mpcpriv.privacy.mechanism import Noise, calibrate
from mpcpriv.release.price import composition


def noise_for(admitted: AdmittedJob, query: Query) -> Noise | None:
    """What each computing party adds to its share of the sums; None for a release without noise.

    Raises:
        UsageError: the agreement has no mechanism, or the sums are too coarse for so little noise.
        RangeError: the noise does not fit the ring.
    """
    rule, asked = admitted.agreement.privacy, admitted.job.release
    if asked.epsilon is None:
        return None
    if rule.mechanism == "none":
        raise UsageError(f"agreement {admitted.agreement.id} has no mechanism of differential privacy")
    if query.choose and rule.mechanism != "discrete-laplace":
        raise UsageError(
            "a choice is released with pure differential privacy, for which agreements have the mechanism "
            f"discrete-laplace, and agreement {admitted.agreement.id} has {rule.mechanism}"
        )
    return calibrate(
        "one-sided-geometric" if query.choose else rule.mechanism,
        asked.epsilon,
        asked.delta or 0.0,
        query.sensitivity(),
        query.size,
        len(admitted.parties),
        collusion(admitted),
    )


def threshold(query: Query, noise: Noise | None) -> int | None:
    """The least noised sum that is shown; None where all are.

    Raises:
        UsageError: the query has one, and there is no noise.
    """
    if query.spurious is None:
        return None
    if noise is None:
        raise UsageError(
            "spurious: cells that noise alone would show are asked to be left out, and there is no noise; "
            "leave it out, or ask for an epsilon"
        )
    return noise.exceeded(query.spurious / query.size)


def noise_of_steps(admitted: AdmittedJob, analysis: Perturbed) -> Noise | None:
    """What each computing party adds in each step; None for a release without noise.

    Raises:
        UsageError: see `composition`; or the noise is too little for the grid.
    """
    asked = admitted.job.release
    if asked.epsilon is None:
        return None
    steps = composition(admitted.agreement, admitted.job, analysis)
    multiplier = steps.multiplier(asked.epsilon, asked.delta or 0.0)
    return steps.noise(multiplier, len(admitted.parties), collusion(admitted))


def collusion(admitted: AdmittedJob) -> int:
    """How many parties may collude without the noise falling short: as agreed, or all but one."""
    most = len(admitted.parties) - 1
    agreed = admitted.agreement.privacy.collusion
    return most if agreed is None else min(agreed, most)
