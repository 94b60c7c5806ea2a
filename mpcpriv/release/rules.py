"""Whether a job's result may leave: asked before anything is computed."""

from __future__ import annotations

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.analyses.analysis import Analysis, Private
from mpcpriv.errors import Unsupported, UsageError


def check(admitted: AdmittedJob, analysis: Analysis, cohort: int) -> None:
    """Whether this job's result may be released.

    Args:
        admitted: the job.
        analysis: that it names.
        cohort: rows that the result is computed from.

    Raises:
        Unsupported: noise is asked for, and what one row can change in this analysis is not known.
        UsageError: the agreement forbids it.
    """
    agreement, asked = admitted.agreement, admitted.job.release
    rule = agreement.privacy
    if asked.epsilon is not None:
        if not isinstance(analysis, Private):
            raise Unsupported(
                f"analysis {analysis.name}: how much one row can change its result is not known, so it "
                "cannot be released with differential privacy; ask for another analysis, or leave epsilon out"
            )
        return
    if not rule.unnoised:
        raise UsageError(
            f"agreement {agreement.id} releases nothing without noise; ask for noise, or amend it"
        )
    if cohort < rule.minimum_cohort:
        raise UsageError(
            f"the cohort has {cohort} rows, and agreement {agreement.id} releases nothing without noise from "
            f"less than {rule.minimum_cohort}; use more data"
        )
