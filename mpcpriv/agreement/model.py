"""A data-sharing agreement: who, which data, for what, computed how, released to whom."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, Self, TypeVar

from pydantic import Field, model_validator

from mpcpriv.agreement import consistency
from mpcpriv.documents import Broken, Document
from mpcpriv.job.model import Column, Digest, Name, Ordered, Party, Scalar, Text, Time

Role = Literal["data-owner", "compute", "dealer", "recipient", "submitter"]
"""ISO/IEC 4922-1 names the first, second and fourth: input, computing and result party."""
_Part = TypeVar("_Part")
_MOST: Final = 2**31
_CENTURY: Final = 36_525
_MOST_RULES: Final = 20
Rule = Literal[
    "nfkc",
    "casefold",
    "trim",
    "single-spaces",
    "no-spaces",
    "no-punctuation",
    "no-diacritics",
    "digits",
    "no-leading-zeros",
    "date-ymd",
    "date-dmy",
    "date-mdy",
]
"""A rule of `mpcpriv.alignment.rules`, which who reads an agreement need not have installed."""


class Purpose(Document):
    """Why data may be processed.

    Attributes:
        name: what a job says.
        legal_basis: as "GDPR Art. 9(2)(j)".
        text: in words.
    """

    name: Name
    legal_basis: Annotated[str, Field(min_length=1, max_length=200)]
    text: Text = ""


class Member(Document):
    """A member.

    Attributes:
        name: also the name in its TLS certificate.
        roles: what it does. Computing parties have rank in the order in which they stand here.
        endpoint: `host:port` of its daemon.
        certificate: its TLS certificate, PEM; exactly this one is accepted.
        signing_key: its Ed25519 public key, base64.
    """

    name: Party
    roles: Annotated[list[Role], Field(min_length=1)]
    endpoint: Annotated[str, Field(min_length=3, max_length=261)]
    certificate: Annotated[str, Field(min_length=1, max_length=20_000)]
    signing_key: Annotated[str, Field(max_length=200, json_schema_extra={"pattern": r"^[A-Za-z0-9+/]{43}=$"})]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return _without(consistency.of_member(self), self)


class ColumnTerms(Document):
    """A column and what is public of it.

    Attributes:
        name: in the owner's table.
        type: number, integer, boolean (0 or 1), category; or identifier, text by which an alignment finds
            whom a row is about: no analysis may use it, and it never leaves its owner.
        low, high: bounds of numbers and integers; the owner clips or refuses.
        categories: of a category, in the order of their codes.
        missing: true where values may be missing; left out where each row has one.
    """

    name: Column
    type: Literal["number", "integer", "boolean", "category", "identifier"]
    low: float | None = None
    high: float | None = None
    categories: list[Annotated[str, Field(min_length=1, max_length=200)]] | None = None
    missing: Literal[True] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return _without(consistency.of_column(self), self)


class Budget(Document):
    """How much privacy may be spent on a data set in each period.

    Attributes:
        epsilon, delta: in all.
        period_days: how long a period is.
    """

    epsilon: Annotated[float, Field(gt=0)]
    delta: Annotated[float, Field(ge=0, lt=1)]
    period_days: Annotated[int, Field(ge=1, le=_CENTURY)]


class Dataset(Document):
    """A table of one owner.

    Attributes:
        name: of the data set; the owner's configuration says where the table is.
        owner: the member who has it.
        columns: its columns.
        privacy_unit: whom a row is about, as "patient".
        minimum_rows: fewer rows are not used.
        budget: None if nothing is released with differential privacy.
    """

    name: Name
    owner: Party
    columns: Annotated[list[ColumnTerms], Field(min_length=1)]
    privacy_unit: Name
    minimum_rows: Annotated[int, Field(ge=1, le=_MOST)] = 1
    budget: Budget | None = None


class KeyTerms(Document):
    """A column of a key.

    Attributes:
        column: of type identifier.
        rules: how its cells are written alike, in the order in which they are applied.
    """

    column: Column
    rules: Annotated[list[Rule], Field(default_factory=list, max_length=_MOST_RULES)]


class AlignmentTerms(Document):
    """Which rows of several data sets are about the same people: what owners may find out, and by which keys.

    Attributes:
        name: what a job says.
        keys: by data set, the columns of its key. Two rows are about the same person where the first columns
            are equal after their rules, and the second ones, and so on.
        mode: what is learned. "all": each owner, which of its own rows are in all these data sets, and how
            many rows each of the others has; all members, how many rows are in all of them. "secret", of two
            data sets: all members, how many rows each has, and the recipients, with the result, how many are
            in both; nobody, which.
        minimum_rows: with fewer rows in common nothing is computed; in mode "secret", nothing opened.
    """

    name: Name
    keys: Annotated[dict[Name, Annotated[list[KeyTerms], Field(min_length=1)]], Ordered, Field(min_length=2)]
    mode: Literal["all", "secret"]
    minimum_rows: Annotated[int, Field(ge=1, le=_MOST)] = 1


class Limit(Document):
    """What a parameter may be.

    Attributes:
        low, high: of a number, or of each number in a list; either may be left out.
        choices: all that it may be, or each member of a list; in the place of bounds.
    """

    low: float | None = None
    high: float | None = None
    choices: Annotated[list[Scalar], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return _without(consistency.of_limit(self), self)


class AnalysisTerms(Document):
    """An analysis that may be run.

    Attributes:
        name: of the analysis.
        code: SHA-256 of its code: what runs is what was agreed.
        purposes: for which it may be run.
        inputs: by data set, the columns that it may use.
        parameters: what each parameter may be; a parameter that is not named here may not be given.
        recipients: who may get its result.
        submitters: who may ask for it.
    """

    name: Name
    code: Digest
    purposes: Annotated[list[Name], Field(min_length=1)]
    inputs: Annotated[dict[Name, Annotated[list[Column], Field(min_length=1)]], Ordered, Field(min_length=1)]
    parameters: Annotated[dict[Name, Limit], Ordered, Field(default_factory=dict)]
    recipients: Annotated[list[Party], Field(min_length=1)]
    submitters: Annotated[list[Party], Field(min_length=1)]


class Privacy(Document):
    """How results are released.

    Attributes:
        mechanism: of differential privacy.
        collusion: against how many colluding parties the noise must suffice; None is all but one.
        unnoised: whether results may be released without noise.
        minimum_cohort: rows that an un-noised result must be computed from, at least; and by which the
            cohorts of two un-noised results must differ, if they do.
        smallest_cell: the smallest count of rows that is shown without noise; smaller ones are suppressed,
            and results that would tell one otherwise are withheld.
        rounding: to whose multiples counts of rows are rounded, where they are released without noise; other
            numbers are not released without noise then. None: nothing is rounded.
        releases: how many results may be released from a data set in the agreement's life; None: any number.
    """

    mechanism: Literal["none", "discrete-gaussian", "discrete-laplace"] = "none"
    collusion: Annotated[int, Field(ge=1, le=_MOST)] | None = None
    unnoised: bool = False
    minimum_cohort: Annotated[int, Field(ge=1, le=_MOST)] = 10
    smallest_cell: Annotated[int, Field(ge=1, le=_MOST)] = 5
    rounding: Annotated[int, Field(ge=2, le=10_000)] | None = None
    releases: Annotated[int, Field(ge=1, le=_MOST)] | None = None


class Agreement(Document):
    """A data-sharing agreement.

    Attributes:
        id: stays the same over all versions.
        version: a higher one supersedes all lower ones.
        title, text: for people.
        purposes, members, datasets, analyses, privacy: the terms.
        alignments: whose rows may be put together; None if nobody's are.
        valid_from, valid_until: a job created outside is refused.
        approval: whether a steward of each data owner approves each job, or none has to.
        retention_days: how long a daemon keeps results; its records and its audit log it keeps for good.
    """

    noun: ClassVar[str] = "agreement"

    id: Name
    version: Annotated[int, Field(ge=1, le=_MOST)]
    title: Annotated[str, Field(min_length=1, max_length=300)]
    text: Text = ""
    purposes: Annotated[list[Purpose], Field(min_length=1)]
    valid_from: Time
    valid_until: Time
    members: Annotated[list[Member], Field(min_length=3)]
    datasets: Annotated[list[Dataset], Field(min_length=1)]
    analyses: Annotated[list[AnalysisTerms], Field(min_length=1)]
    alignments: Annotated[list[AlignmentTerms], Field(min_length=1)] | None = None
    privacy: Privacy
    approval: Literal["automatic", "steward"] = "steward"
    retention_days: Annotated[int, Field(ge=1, le=_CENTURY)] = 365

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return _without(
            consistency.of_agreement({name: getattr(self, name) for name in type(self).model_fields}), self
        )

    def member(self, name: str) -> Member | None:
        """The member called so."""
        return next((one for one in self.members if one.name == name), None)

    def dataset(self, name: str) -> Dataset | None:
        """The data set called so."""
        return next((one for one in self.datasets if one.name == name), None)

    def terms(self, analysis: str) -> AnalysisTerms | None:
        """The terms of the analysis called so."""
        return next((one for one in self.analyses if one.name == analysis), None)

    def alignment(self, name: str | None) -> AlignmentTerms | None:
        """The alignment called so."""
        return next((one for one in self.alignments or [] if one.name == name), None)

    def parties(self) -> tuple[str, ...]:
        """The computing members by rank."""
        return tuple(one.name for one in self.members if "compute" in one.roles)

    def dealer(self) -> str:
        """The member that deals correlated randomness."""
        return next(one.name for one in self.members if "dealer" in one.roles)


def _without(found: list[str], part: _Part) -> _Part:
    if found:
        raise Broken(found)
    return part
