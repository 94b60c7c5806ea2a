"""Whether a job's result may leave: asked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.agreement.model import Agreement
from mpcpriv.analyses.analysis import Analysis, ByColumn, Computed, Finished, Perturbed, Private
from mpcpriv.analyses.outline import split_of
from mpcpriv.analyses.query import Query
from mpcpriv.errors import Unsupported, UsageError
from mpcpriv.job.model import Job
from mpcpriv.release.unseen import secret


@dataclass(frozen=True)
class Cohort:
    """Rows that a result is about.

    Attributes:
        rows: by data set, how many.
        by: the keys of the alignment that found them; empty where they are all rows.
    """

    rows: Mapping[str, int]
    by: str = ""


def check(
    admitted: AdmittedJob,
    analysis: Analysis,
    cohort: int,
    rows: Mapping[str, int],
    earlier: Sequence[Cohort] = (),
) -> None:
    """Whether this job's result may be released.

    Args:
        admitted: the job.
        analysis: that it names.
        cohort: rows that the result is computed from; at most, where nobody knows them.
        rows: by data set, how many rows take part.
        earlier: the `cohorts` of each release without noise under this agreement.

    Raises:
        Unsupported: noise is asked for, and what one row can change in this analysis is not known; or none
            is, and it is released with noise only, or cannot be rounded as agreed.
        UsageError: the agreement forbids it.
    """
    agreement, asked = admitted.agreement, admitted.job.release
    rule = agreement.privacy
    if asked.epsilon is not None:
        if not isinstance(analysis, Private | Perturbed):
            raise Unsupported(
                f"analysis {analysis.name}: how much one row can change its result is not known, so it "
                "cannot be released with differential privacy; ask for another analysis, or leave epsilon out"
            )
        return
    if isinstance(analysis, Perturbed):
        raise Unsupported(f"analysis {analysis.name}: it is released with noise only; ask for an epsilon")
    if not rule.unnoised:
        raise UsageError(
            f"agreement {agreement.id} releases nothing without noise; ask for noise, or amend it"
        )
    if rule.rounding is not None and (not summed(admitted, analysis) or isinstance(analysis, Finished)):
        raise _not_rounded(admitted)
    if cohort < rule.minimum_cohort:
        raise UsageError(
            f"the cohort has {cohort} rows, and agreement {agreement.id} releases nothing without noise from "
            f"less than {rule.minimum_cohort}; use more data"
        )
    # Of rows that nobody knows the number says nothing: see `unseen.held_apart`.
    for one in [] if secret(agreement, admitted.job) else cohorts(agreement, admitted.job, rows):
        apart(rule.minimum_cohort, one, earlier)


def cohorts(agreement: Agreement, job: Job, rows: Mapping[str, int]) -> list[Cohort]:
    """The rows that a result is about, as `apart` compares them.

    Tables with different columns are about the same people: there each is a cohort of its own, which another
    job may be about as well, with this table's owner alone or with others.

    Args:
        agreement: that the job is under.
        job: what was asked.
        rows: by data set, how many rows took part.
    """
    terms = agreement.alignment(job.alignment)
    # Not its name, which another version of the agreement may give to other keys.
    by = "" if terms is None else terms.model_dump_json(include={"keys", "mode"})
    columns = {frozenset(one.columns) for one in job.inputs}
    parts = [rows] if len(columns) == 1 else [{name: count} for name, count in rows.items()]
    return [Cohort(part, by) for part in parts]


def summed(admitted: AdmittedJob, analysis: Analysis) -> bool:
    """Whether what is released is a sum over rows, which owners compute, rather than computed on shares."""
    if isinstance(analysis, ByColumn):
        return True
    if not (isinstance(analysis, Private) and isinstance(analysis, Computed)):
        return isinstance(analysis, Private)
    noised = admitted.job.release.epsilon is not None
    return noised or split_of([one.columns for one in admitted.job.inputs]) != "columns split"


def rounding(admitted: AdmittedJob, query: Query) -> int | None:
    """The base to whose multiples a sum's counts of rows are rounded; None where they are not.

    A choice has nothing to round: no number is released.

    Raises:
        Unsupported: the agreement rounds what leaves without noise, and these are no counts.
    """
    base = admitted.agreement.privacy.rounding
    if base is None or admitted.job.release.epsilon is not None or query.choose:
        return None
    if not query.counts:
        raise _not_rounded(admitted)
    return base


def _not_rounded(admitted: AdmittedJob) -> Unsupported:
    # Of other results it is sums that are opened: who has these has the result that was to be rounded.
    return Unsupported(
        f"analysis {admitted.job.analysis}: agreement {admitted.agreement.id} has results without noise "
        f"rounded to multiples of {admitted.agreement.privacy.rounding}, and only counts of rows can be, "
        "before they are opened; ask for noise, or for counts"
    )


def apart(least: int, cohort: Cohort, earlier: Sequence[Cohort]) -> None:
    """Whether a cohort is the same as, or far from, each that was released without noise before.

    Args:
        least: by how many rows they must differ, if they do.
        cohort, earlier: see `cohorts`.

    Raises:
        UsageError: it is not, or cannot be told: two alignments may find as many people, and others.
    """
    for other in earlier:
        differing = difference(cohort.rows, other.rows)
        if 0 < differing < least:
            raise UsageError(
                f"the cohort differs by {differing} rows from one that was released without noise before, so "
                f"the two results together would be about fewer than {least} rows; use the same rows as "
                "then, or ask for noise"
            )
        # Whom an alignment found are among all rows: if they are as many, it is all of them.
        otherwise = cohort.by and other.by and cohort.by != other.by
        if otherwise and not differing and least > 1:
            raise UsageError(
                "the cohort has as many rows as one that was released without noise before, which another "
                "alignment found: they may differ by a few people, whom the two results together would be "
                "about; use the same alignment, or ask for noise"
            )


def difference(rows: Mapping[str, int], other: Mapping[str, int]) -> int:
    """How many rows at least are in one cohort and not in the other, as far as their numbers tell."""
    return sum(abs(rows.get(name, 0) - other.get(name, 0)) for name in {*rows, *other})
