"""What is asked: an analysis by name, its inputs, its parameters, and to whom the result goes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, TypeVar

from pydantic import AfterValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from mpcpriv.documents import Document, pattern
from mpcpriv.errors import UsageError
from mpcpriv.types import PartyId

Name = Annotated[
    str,
    pattern(
        r"^[a-z][a-z0-9_-]{0,62}$",
        "write a lower-case letter, then letters, digits, - or _, up to 63",
    ),
]
"""A name of an agreement, a data set, an analysis, a purpose."""
Column = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]
Text = Annotated[str, Field(max_length=10_000)]

_EXACT: Final = 2**53


def _plain(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """One of a union's kinds, with one sentence about all of them when it is none."""
    try:
        plain = handler(value)
    except ValidationError:
        raise ValueError(
            "write true or false, a finite number, a text of up to 10000 characters, "
            "or, for a parameter, a list of one of these"
        ) from None
    for number in plain if isinstance(plain, list) else [plain]:
        # Beyond 2^53 a whole float would come back from JSON as an integer that JSON has no place for.
        if isinstance(number, int | float) and not -_EXACT < number < _EXACT:
            raise ValueError("write a number between -2^53 and 2^53")
    return _as_json(plain)


def _as_json(plain: Any) -> Any:
    """A number as JSON gives it back, so that a document does not change by being written: 2.0 is 2."""
    parts = plain if isinstance(plain, list) else [plain]
    if parts and all(isinstance(part, float) for part in parts):
        whole = all(part.is_integer() for part in parts)
        # Adding 0.0 makes -0.0, which JSON does not know, 0.0.
        parts = [int(part) if whole else part + 0.0 for part in parts]
    return parts if isinstance(plain, list) else parts[0]


_Key = TypeVar("_Key", bound=str)
_Item = TypeVar("_Item")


def _in_order(value: dict[_Key, _Item]) -> dict[_Key, _Item]:
    return {key: value[key] for key in sorted(value)}


Ordered = AfterValidator(_in_order)
"""Names in the order of their canonical form: a mapping says the same, in the same order, to everybody."""

Scalar = Annotated[bool | int | float | Text, WrapValidator(_plain)]
Value = Annotated[
    bool | int | float | Text | list[bool] | list[int] | list[float] | list[Text], WrapValidator(_plain)
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
Digest = Annotated[str, pattern(DIGEST, "write a SHA-256 digest, 64 hexadecimal digits in lower case")]
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
        alignment: the agreement's, by which the owners first find the rows that are about the same people.
            None: the tables are taken as they are.
        parameters: of the analysis.
        release: who gets what.
        submitter: the member who asks.
        created: when: within 60 s of each member's clock as it comes, and while the agreement is valid.
        expires: when a job that has not begun by then is refused; at most 7 days after `created`.
        nonce: 16 random bytes in hexadecimal: two jobs that ask the same are two jobs.
    """

    noun: ClassVar[str] = "job"

    agreement: Name
    version: Annotated[int, Field(ge=1, le=2**31)]
    analysis: Name
    purpose: Name
    inputs: Annotated[list[Input], Field(min_length=1)]
    alignment: Name | None = None
    parameters: Annotated[dict[Name, Value], Ordered, Field(default_factory=dict)]
    release: Release
    submitter: Party
    created: Time
    expires: Time
    nonce: Annotated[str, pattern(r"^[0-9a-f]{32}$", "write 16 bytes, 32 hexadecimal digits in lower case")]
