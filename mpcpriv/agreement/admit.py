"""Whether a job is within an agreement. Pure and total; every member holds every job against its own copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from mpcpriv.agreement.model import Agreement, AlignmentTerms, AnalysisTerms, Limit
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.documents import shown
from mpcpriv.job.model import Job, Value
from mpcpriv.job.signed import SignedJob

SKEW: Final = timedelta(seconds=60)
"""How far the clocks of two members may be apart."""

LONGEST: Final = timedelta(days=7)
"""How long a job may wait: what it has reserved of the budgets, nobody else can spend meanwhile."""


@dataclass(frozen=True)
class LedgerView:
    """What a member's own ledger says at one moment.

    Attributes:
        releases: how many results were released from each data set under this agreement; none where absent.
    """

    releases: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """A job is not within the agreement.

    Attributes:
        reasons: every term that it breaks, one sentence each: the term, what was asked, what is allowed.
    """

    reasons: tuple[str, ...]


_PROOF: Final = object()


@dataclass(frozen=True, init=False)
class AdmittedJob:
    """A job that is within a signed agreement. Only `admit` makes one.

    Attributes:
        agreement: the terms, signed by all members.
        job: what is asked, signed by its submitter.
        terms: those of the job's analysis.
        alignment: the job's, if it has one.
        parties: the computing members by rank.
        dealer: the member that deals.
        recipients: who gets the result.
    """

    agreement: Agreement
    job: Job
    terms: AnalysisTerms
    alignment: AlignmentTerms | None
    parties: tuple[str, ...]
    dealer: str
    recipients: tuple[str, ...]

    def __init__(self, agreement: Agreement, job: Job, terms: AnalysisTerms, *, proof: object) -> None:
        if proof is not _PROOF:
            raise TypeError("an AdmittedJob comes from mpcpriv.agreement.admit.admit only")
        for name, value in (
            ("agreement", agreement),
            ("job", job),
            ("terms", terms),
            ("alignment", agreement.alignment(job.alignment)),
            ("parties", agreement.parties()),
            ("dealer", agreement.dealer()),
            ("recipients", tuple(job.release.recipients)),
        ):
            object.__setattr__(self, name, value)


def admit(
    agreement: SignedAgreement,
    job: SignedJob,
    *,
    now: datetime,
    me: str,
    ledger: LedgerView,
    newest: int,
    analyses: Mapping[str, str],
    aligns: bool = True,
    received: datetime | None = None,
) -> AdmittedJob | Refusal:
    """Holds a job against an agreement.

    It never raises, whatever documents were read, and says the same each time.

    Args:
        agreement: this member's copy.
        job: with its submitter's signature.
        now: this member's clock, with a time zone.
        me: this member's name.
        ledger: what was released before.
        newest: the highest version of this agreement that all members have signed, as far as this one knows.
        analyses: the digest of the code of each analysis that is installed here.
        aligns: whether what an alignment needs is installed here.
        received: this member's clock when the job first came, where that is not now: a job that waited for
            its approvals is held against the agreement again, and is as old as it waited.

    Returns:
        The job with its terms, or every reason why not.
    """
    terms = agreement.agreement.terms(job.job.analysis)
    asked = _Asked(
        agreement.agreement, job, terms, now, received or now, me, ledger, newest, analyses, aligns
    )
    reasons = [*agreement.problems(), *(reason for check in _CHECKS for reason in check(asked))]
    if reasons or terms is None:
        return Refusal(tuple(reasons))
    return AdmittedJob(agreement.agreement, job.job, terms, proof=_PROOF)


@dataclass(frozen=True)
class _Asked:
    agreement: Agreement
    signed: SignedJob
    terms: AnalysisTerms | None
    now: datetime
    received: datetime
    me: str
    ledger: LedgerView
    newest: int
    analyses: Mapping[str, str]
    aligns: bool

    @property
    def job(self) -> Job:
        return self.signed.job


def _identity(asked: _Asked) -> Iterator[str]:
    agreement, job = asked.agreement, asked.job
    if job.agreement != agreement.id:
        yield f"agreement: the job names {job.agreement}, and this is {agreement.id}"
    if job.version != agreement.version:
        yield f"version: the job names version {job.version}, and this is version {agreement.version}"
    if agreement.version < asked.newest:
        yield (
            f"version: {agreement.version} was superseded by {asked.newest}; "
            "submit the job under the newest version"
        )
    if agreement.member(asked.me) is None:
        yield f"members: {asked.me}, who is asked here, is no member of the agreement"


def _submitter(asked: _Asked) -> Iterator[str]:
    job = asked.job
    member = asked.agreement.member(job.submitter)
    if member is None:
        yield f"submitter: {job.submitter} is no member of the agreement, so its signature proves nothing"
    elif not asked.signed.verify(member.signing_key):
        yield (
            f"signature: it is not that of {job.submitter} over this job; "
            "the job was changed after signing, or another signed it"
        )
    if asked.terms is not None and job.submitter not in asked.terms.submitters:
        yield (
            f"submitter: {job.submitter} may not ask for {job.analysis}; {_all(asked.terms.submitters)} may"
        )


def _times(asked: _Asked) -> Iterator[str]:
    agreement, job, now = asked.agreement, asked.job, asked.now
    # Differences, never sums: a sum of a time near the end of the calendar overflows.
    age = asked.received - job.created
    if abs(age) > SKEW:
        yield (
            f"created: {_at(job.created)} is in the {'past' if age > SKEW else 'future'}; the job came on "
            f"{_at(asked.received)} by the clock here, and the two may differ by {SKEW.seconds} s; "
            "set the clock that is wrong, or submit the job anew"
        )
    if job.expires <= job.created:
        yield f"expires: {_at(job.expires)} must be after created, {_at(job.created)}"
    elif job.expires - job.created > LONGEST:
        yield (
            f"expires: {_at(job.expires)} is more than {LONGEST.days} days after created, "
            f"{_at(job.created)}; have it expire earlier, and submit it anew if it was not decided by then"
        )
    if now - job.expires > timedelta(0):
        yield f"expires: the job expired on {_at(job.expires)}, and it is {_at(now)} here; submit it anew"
    if job.created < agreement.valid_from or now - agreement.valid_from < -SKEW:
        yield (
            f"valid_from: the agreement is valid from {_at(agreement.valid_from)}; the job was created on "
            f"{_at(job.created)}, and it is {_at(now)} here"
        )
    if job.created >= agreement.valid_until or now - agreement.valid_until >= SKEW:
        yield (
            f"valid_until: the agreement ended on {_at(agreement.valid_until)}; the job was created on "
            f"{_at(job.created)}, and it is {_at(now)} here"
        )


def _analysis(asked: _Asked) -> Iterator[str]:
    job, terms = asked.job, asked.terms
    if terms is None:
        permitted = [one.name for one in asked.agreement.analyses]
        yield f"analysis: {job.analysis} is not permitted; {_all(permitted)} is"
        return
    installed = asked.analyses.get(terms.name)
    if installed is None:
        yield f"code: {terms.name} is not installed at {asked.me}; install the version that was agreed"
    elif installed != terms.code:
        yield (
            f"code: {terms.name} as installed at {asked.me} has the digest {installed}, "
            f"and the agreement allows {terms.code}; install the version that was agreed"
        )
    if job.purpose not in terms.purposes:
        yield f"purpose: {job.purpose} is not allowed for {terms.name}; {_all(terms.purposes)} is"


def _inputs(asked: _Asked) -> Iterator[str]:
    job, terms = asked.job, asked.terms
    names = [one.dataset for one in job.inputs]
    for name, count in Counter(names).items():
        if count > 1:
            yield f"inputs: data set {name} is named {count} times; name it once"
    for one in job.inputs:
        dataset = asked.agreement.dataset(one.dataset)
        if dataset is None:
            yield f"inputs: data set {one.dataset} is not in the agreement"
            continue
        for column, count in Counter(one.columns).items():
            if count > 1:
                yield f"inputs: column {column!r} of {one.dataset} is named more than once"
        if terms is None:
            continue
        permitted = terms.inputs.get(one.dataset)
        if permitted is None:
            yield f"inputs: data set {one.dataset} is not permitted for {terms.name}; {_all(terms.inputs)} is"
            continue
        for column in dict.fromkeys(one.columns):
            if column not in permitted:
                yield (
                    f"inputs: column {column!r} of {one.dataset} is not permitted for {terms.name}; "
                    f"{_all(map(repr, permitted))} is"
                )


def _alignment(asked: _Asked) -> Iterator[str]:
    job, agreed = asked.job, asked.agreement.alignments or []
    columns = {one.dataset: set(one.columns) for one in job.inputs}
    shared = sorted(name for name, count in _counted(columns.values()).items() if count > 1)
    if job.alignment is None:
        for terms in agreed:
            # In the order in which they happen to stand, rows of different people would be put together.
            if not shared and len(columns.keys() & terms.keys.keys()) > 1:
                yield (
                    f"alignment: none is named, and {terms.name} is how {_all(terms.keys)} are put together; "
                    f'write alignment = "{terms.name}"'
                )
        return
    named = asked.agreement.alignment(job.alignment)
    if named is None:
        yield f"alignment: {job.alignment} is not agreed; {_all(one.name for one in agreed)} is"
        return
    keys = named.keys
    if columns.keys() != keys.keys():
        yield (
            f"alignment: {job.alignment} is of {_all(keys)}, and the inputs are of {_all(columns)}; name all "
            "of its data sets and no other"
        )
    owners = {one.name: one.owner for one in asked.agreement.datasets}
    if not asked.aligns and asked.me in {owners[name] for name in keys}:
        yield (
            f"alignment: it needs PyNaCl, which is not installed at {asked.me}; "
            "pip install 'mpcpriv[alignment]'"
        )
    if named.mode == "secret" and job.release.epsilon is not None:
        yield (
            f"epsilon: {job.release.epsilon:g} is asked, and by alignment {job.alignment} nobody knows which "
            "rows take part, so that no owner can add them up and put noise on them; leave it out"
        )
    if shared:
        yield (
            f"alignment: {_all(map(repr, shared))} is asked of several data sets; aligned tables have each "
            "column once"
        )


def _counted(columns: Iterable[set[str]]) -> Counter[str]:
    return Counter(name for one in columns for name in one)


def _parameters(asked: _Asked) -> Iterator[str]:
    if asked.terms is None:
        return
    limits = asked.terms.parameters
    for name, value in asked.job.parameters.items():
        limit = limits.get(name)
        if limit is None:
            known = f"{_all(limits)} may be given" if limits else "it takes none"
            yield f"parameters: {name} is no parameter that {asked.terms.name} may be given; {known}"
        else:
            rule = _outside(value, limit)
            if rule:
                yield f"parameters: {name} = {shown(value)}: {rule}"


def _outside(value: Value, limit: Limit) -> str:
    """What `value` breaks of `limit`, or nothing. Each member of a list is held against it."""
    parts = value if isinstance(value, list) else [value]
    if limit.choices is not None:
        # True == 1 in Python and not here.
        choices = [(isinstance(choice, bool), choice) for choice in limit.choices]
        if all((isinstance(part, bool), part) in choices for part in parts):
            return ""
        return f"must be one of {_all(map(shown, limit.choices))}"
    low, high = limit.low, limit.high
    bounds = " and ".join(
        text
        for text in ("" if low is None else f"at least {low:g}", "" if high is None else f"at most {high:g}")
        if text
    )
    for part in parts:
        if isinstance(part, bool | str):
            return f"must be a number, {bounds}"
        if (low is not None and part < low) or (high is not None and part > high):
            return f"must be {bounds}"
    return ""


def _release(asked: _Asked) -> Iterator[str]:
    job, terms = asked.job, asked.terms
    recipients = job.release.recipients
    for name, count in Counter(recipients).items():
        if count > 1:
            yield f"recipients: {name} is named more than once"
        if terms is not None and name not in terms.recipients:
            yield f"recipients: {name} may not get results of {terms.name}; {_all(terms.recipients)} may"
    limit = asked.agreement.privacy.releases
    for name in dict.fromkeys(one.dataset for one in job.inputs):
        used = asked.ledger.releases.get(name, 0)
        if limit is not None and used >= limit:
            yield (
                f"releases: {used} results were released from {name}, and the agreement allows {limit}; "
                "agree on a new version for more"
            )


def _noise(asked: _Asked) -> Iterator[str]:
    privacy, release = asked.agreement.privacy, asked.job.release
    epsilon, delta = release.epsilon, release.delta
    if epsilon is None:
        if delta is not None:
            yield f"delta: {delta:g} is given without epsilon; give both or none"
        if not privacy.unnoised:
            yield "epsilon: none is given, and the agreement permits no release without noise; give one"
        return
    if privacy.mechanism == "none":
        yield (
            f"epsilon: {epsilon:g} is asked, and the agreement has no mechanism of differential privacy; "
            "leave epsilon and delta out"
        )
        return
    if privacy.mechanism == "discrete-gaussian" and not delta:
        yield "delta: the discrete Gaussian mechanism needs one above 0; give it"
    if privacy.mechanism == "discrete-laplace" and delta:
        yield f"delta: {delta:g} is asked, and the discrete Laplace mechanism has none; leave it out"
    for name in dict.fromkeys(one.dataset for one in asked.job.inputs):
        dataset = asked.agreement.dataset(name)
        if dataset is None:
            continue
        if dataset.budget is None:
            yield f"epsilon: {epsilon:g} is asked, and data set {name} has no budget"
            continue
        if epsilon > dataset.budget.epsilon:
            yield f"epsilon: {epsilon:g} is asked, and the budget of {name} is {dataset.budget.epsilon:g}"
        if delta is not None and delta > dataset.budget.delta:
            yield f"delta: {delta:g} is asked, and the budget of {name} is {dataset.budget.delta:g}"


def _all(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _at(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


_CHECKS: Final[tuple[Callable[[_Asked], Iterator[str]], ...]] = (
    _identity,
    _submitter,
    _times,
    _analysis,
    _inputs,
    _alignment,
    _parameters,
    _release,
    _noise,
)
