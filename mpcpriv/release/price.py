"""What a release costs, of each data set's budget: known from the agreement and the job alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from mpcpriv.agreement.model import Agreement
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job
from mpcpriv.privacy.ledger import Charge, period_end, period_of
from mpcpriv.privacy.loss import Allowance, Loss
from mpcpriv.privacy.mechanism import calibrate_loss


def price(agreement: Agreement, job: Job) -> Loss | None:
    """The privacy loss of a job's release; None where it is released without noise.

    Raises:
        UsageError: there is no such loss.
    """
    epsilon, delta = job.release.epsilon, job.release.delta
    if epsilon is None:
        return None
    kind = agreement.privacy.mechanism
    if kind == "none":
        raise UsageError(f"agreement {agreement.id} has no mechanism of differential privacy")
    return calibrate_loss(kind, epsilon, delta or 0.0)


def charges(agreement: Agreement, job: Job, now: datetime) -> Mapping[str, Charge]:
    """By data set, what the release costs; empty where it costs nothing.

    One row of one data set is protected: each data set that takes part is charged the whole loss, and a
    person who is in several is protected by all their budgets together.

    Raises:
        UsageError: a data set has no budget.
    """
    loss = price(agreement, job)
    if loss is None:
        return {}
    found = {}
    for one in job.inputs:
        dataset = agreement.dataset(one.dataset)
        budget = None if dataset is None else dataset.budget
        if budget is None:
            raise UsageError(f"data set {one.dataset} has no budget")
        period = period_of(agreement.valid_from, budget.period_days, now)
        found[one.dataset] = Charge(
            loss,
            Allowance(budget.epsilon, budget.delta),
            period,
            period_end(agreement.valid_from, budget.period_days, period),
        )
    return found
