"""What is asked: an analysis by name, its inputs, its parameters, and to whom the result goes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, Field

from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.types import PartyId

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
"""A name of an agreement, a data set, an analysis, a purpose."""
Column = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]
Text = Annotated[str, Field(max_length=10_000)]

_EXACT: Final = 2**53


def _exact(value: Any) -> Any:
    """Beyond 2^53 a whole float would come back from JSON as an integer that JSON has no place for."""
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, int | float) and not -_EXACT < number < _EXACT:
            raise ValueError("a number must be between -2^53 and 2^53")
    return value


Scalar = Annotated[bool | int | float | Text, AfterValidator(_exact)]
Value = Annotated[
    bool | int | float | Text | list[bool] | list[int] | list[float] | list[Text], AfterValidator(_exact)
]
"""A parameter's value."""


def _party(value: str) -> str:
    try:
        return PartyId(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


Party = Annotated[str, AfterValidator(_party)]


def _utc(value: datetime) -> datetime:
    offset = value.utcoffset()
    if offset is None or offset.total_seconds() != 0 or value.microsecond:
        raise ValueError("write it in UTC and whole seconds, as 2027-01-31T12:00:00Z")
    return value


Time = Annotated[datetime, AfterValidator(_utc)]
"""A point in time, UTC, whole seconds."""

DIGEST: Final = r"^[0-9a-f]{64}$"
Digest = Annotated[str, Field(pattern=DIGEST)]
"""SHA-256 in hexadecimal."""


class Input(Document):
    """Columns of one data set.

    Attributes:
        dataset: its name in the agreement.
        columns: in the order in which the analysis gets them.
    """

    dataset: Name
    columns: Annotated[list[Column], Field(min_length=1)]


class Release(Document):
    """Who gets the result, and how much of the privacy budget it may cost.

    Attributes:
        recipients: members of the agreement; nobody else receives a share of the result.
        epsilon, delta: of differential privacy; None asks for a release without noise.
    """

    recipients: Annotated[list[Party], Field(min_length=1)]
    epsilon: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(ge=0, lt=1)] | None = None


class Job(Document):
    """One job.

    Attributes:
        agreement: the agreement's id, and its version: the newest one that all have signed.
        analysis: the analysis's name.
        purpose: one of the agreement's purposes.
        inputs: the columns; all data sets belong to members of the agreement.
        parameters: of the analysis.
        release: who gets what.
        submitter: the member who asks.
        created: when; also the time that the agreement's validity is judged by, within 60 s of each clock.
        expires: when a job that has not begun by then is refused.
        nonce: 16 random bytes in hexadecimal: two jobs that ask the same are two jobs.
    """

    noun: ClassVar[str] = "job"

    agreement: Name
    version: Annotated[int, Field(ge=1, le=2**31)]
    analysis: Name
    purpose: Name
    inputs: Annotated[list[Input], Field(min_length=1)]
    parameters: Annotated[dict[Name, Value], Field(default_factory=dict)]
    release: Release
    submitter: Party
    created: Time
    expires: Time
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
