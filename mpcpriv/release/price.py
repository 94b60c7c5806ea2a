"""What a release costs, of each data set's budget: known from the agreement and the job alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import ValidationError

from mpcpriv.agreement.model import Agreement
from mpcpriv.analyses.analysis import Analysis, Perturbed
from mpcpriv.documents import first_problem
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job
from mpcpriv.privacy.ledger import Charge, period_end, period_of
from mpcpriv.privacy.loss import Allowance, Loss
from mpcpriv.privacy.mechanism import calibrate_loss
from mpcpriv.privacy.training import Composition


def price(agreement: Agreement, job: Job, analysis: Analysis) -> Loss | None:
    """The privacy loss of a job's release; None where it is released without noise.

    Raises:
        UsageError: there is no such loss, or the parameters are none of the analysis.
    """
    epsilon, delta = job.release.epsilon, job.release.delta
    if epsilon is None:
        return None
    kind = agreement.privacy.mechanism
    if kind == "none":
        raise UsageError(f"agreement {agreement.id} has no mechanism of differential privacy")
    if isinstance(analysis, Perturbed):
        steps = composition(agreement, job, analysis)
        return steps.loss(steps.multiplier(epsilon, delta or 0.0))
    return calibrate_loss(kind, epsilon, delta or 0.0)


def composition(agreement: Agreement, job: Job, analysis: Perturbed) -> Composition:
    """The steps that a job makes.

    Raises:
        UsageError: the agreement has another mechanism, or the parameters are none of the analysis.
    """
    if agreement.privacy.mechanism != "discrete-gaussian":
        raise UsageError(
            f"analysis {analysis.name}: it adds discrete Gaussian noise, and agreement {agreement.id} has "
            f"the mechanism {agreement.privacy.mechanism}"
        )
    try:
        return analysis.composition(analysis.parameters.model_validate(dict(job.parameters)))
    except ValidationError as error:
        raise UsageError(f"analysis {analysis.name}: {first_problem(error)}") from None


def charges(agreement: Agreement, job: Job, analysis: Analysis, now: datetime) -> Mapping[str, Charge]:
    """By data set, what the release costs; empty where it costs nothing.

    One row of one data set is protected: each data set that takes part is charged the whole loss, and a
    person who is in several is protected by all their budgets together.

    Raises:
        UsageError: a data set has no budget, or see `price`.
    """
    loss = price(agreement, job, analysis)
    if loss is None:
        return {}
    found = {}
    for one in job.inputs:
        dataset = agreement.dataset(one.dataset)
        budget = None if dataset is None else dataset.budget
        if budget is None:
            raise UsageError(f"data set {one.dataset} has no budget")
        # The clocks of members differ by some seconds: who is early is in the first period, not before it.
        period = max(period_of(agreement.valid_from, budget.period_days, now), 0)
        found[one.dataset] = Charge(
            loss,
            Allowance(budget.epsilon, budget.delta),
            period,
            period_end(agreement.valid_from, budget.period_days, period),
            period_end(agreement.valid_from, budget.period_days, period - 1),
        )
    return found
