"""What a log can tell: a closed list of events, each with its facts.

Facts are names, digests, counts and reasons. No field takes a value of a data set, a parameter or a
result; a reason is a sentence that also the peers may read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticSerializationError, to_json

from mpcpriv.audit.receipt import Receipt
from mpcpriv.documents import Canonical
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Digest, Name, Party

Event = Literal[
    "opened",
    "recovered",
    "loss-acknowledged",
    "agreement-added",
    "proposed",
    "decided",
    "started",
    "committed",
    "released",
    "outcome",
    "cancelled",
    "fetched",
    "result-deleted",
    "receipt-given",
    "receipt-received",
]
Count = Annotated[int, Field(ge=0, lt=2**53)]
PublicKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]
Reason = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A sentence without data."""
Decimal = Annotated[str, Field(pattern=r"^[0-9]{1,32}(\.[0-9]{1,40})?(e[+-]?[0-9]{1,3})?$")]
Parties = Annotated[list[Party], Field(min_length=1)]


class Facts(Canonical):
    """What is told of an event."""


class Opened(Facts):
    """The first entry, and only that.

    Attributes:
        owner: whose log it is.
        signing_key: what its entries are signed with, the public half.
        nonce: 16 random bytes in hexadecimal: two logs never begin alike.
    """

    owner: Party
    signing_key: PublicKey
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Recovered(Facts):
    """A crash had left part of a record behind the last entry. It was moved aside.

    Attributes:
        moved_to: the name of the file that holds it now, beside the log.
        length: how many bytes.
        digest: of them.
    """

    moved_to: Annotated[str, Field(pattern=r"^[^/\x00-\x1f]{1,255}$")]
    length: Count
    digest: Digest


class LossAcknowledged(Facts):
    """Part of the log, or of what the daemon remembers beside it, was lost, and the owner goes on without it.

    Attributes:
        found: in what the two differed.
        reason: how it came, in the owner's words.
    """

    found: Reason
    reason: Reason


class AgreementAdded(Facts):
    """An agreement that all members have signed is held from now on; so is a newer version of one."""

    agreement: Name
    version: Count
    agreement_digest: Digest
    members: Parties


class _OfJob(Facts):
    """Attributes: job: the digest of the job's canonical bytes."""

    job: Digest


class _UnderAgreement(_OfJob):
    agreement: Name
    version: Count
    agreement_digest: Digest


class Proposed(_UnderAgreement):
    """A job was proposed to the members of its agreement."""

    submitter: Party
    analysis: Name
    purpose: Name
    datasets: Annotated[list[Name], Field(min_length=1)]
    recipients: Parties


class Decided(_OfJob):
    """A member accepted or refused a job.

    Attributes:
        by: the member.
        decision: what.
        approval: by the rule of the agreement alone, or by the member's data steward.
        reasons: every reason of a refusal.
    """

    by: Party
    decision: Literal["accept", "refuse"]
    approval: Literal["automatic", "steward"] = "automatic"
    reasons: Annotated[list[Reason], Field(default_factory=list)]

    @model_validator(mode="after")
    def _refused_for_a_reason(self) -> Self:
        if self.decision == "refuse" and not self.reasons:
            raise ValueError("a refusal has a reason")
        return self


class Started(_UnderAgreement):
    """Our worker for a job was started."""

    parties: Parties
    dealer: Party


class Committed(_UnderAgreement):
    """Our share of a result was fixed, and the budgets were debited for it.

    Attributes:
        share_digest: of the share; a salt in it keeps this from telling anything.
        input_digest: of what we put in, salted too.
        datasets: whose budgets were debited, each with the whole price.
        epsilon, delta: the price, as decimal numbers; neither of a release without noise.
    """

    share_digest: Digest
    input_digest: Digest
    datasets: Annotated[list[Name], Field(min_length=1)]
    epsilon: Decimal | None = None
    delta: Decimal | None = None


class Released(_UnderAgreement):
    """Our share of the result left, to these recipients and nobody else."""

    analysis: Name
    recipients: Parties
    share_digest: Digest


class Outcome(_OfJob):
    """How the job ended at a member.

    Attributes:
        by: the member.
        outcome: how.
        reason: of a failure.
        output_digest: of what was released to this member.
    """

    by: Party
    outcome: Literal["success", "failure"]
    reason: Reason | None = None
    output_digest: Digest | None = None

    @model_validator(mode="after")
    def _failed_for_a_reason(self) -> Self:
        if (self.outcome == "failure") != (self.reason is not None):
            raise ValueError("a failure has a reason, a success has none")
        return self


class Cancelled(_OfJob):
    """A member withdrew a job."""

    by: Party


class Fetched(_OfJob):
    """The result was handed to a client, who showed the certificate of this party."""

    by: Party
    output_digest: Digest


class ResultDeleted(_OfJob):
    """What a job had left here, the result first, was kept for so long as the agreement says."""

    retention_days: Count


class ReceiptGiven(Facts):
    """We countersigned the head of a peer's log."""

    receipt: Receipt


class ReceiptReceived(Facts):
    """A peer countersigned the head of ours."""

    receipt: Receipt


EVENTS: Final[Mapping[Event, type[Facts]]] = {
    "opened": Opened,
    "recovered": Recovered,
    "loss-acknowledged": LossAcknowledged,
    "agreement-added": AgreementAdded,
    "proposed": Proposed,
    "decided": Decided,
    "started": Started,
    "committed": Committed,
    "released": Released,
    "outcome": Outcome,
    "cancelled": Cancelled,
    "fetched": Fetched,
    "result-deleted": ResultDeleted,
    "receipt-given": ReceiptGiven,
    "receipt-received": ReceiptReceived,
}
assert set(EVENTS) == set(get_args(Event))


def facts_of(event: Event, facts: Mapping[str, Any]) -> Facts:
    """The facts as what the event tells. Tuples stand for lists, absent ones may be None.

    Raises:
        UsageError: no such event, a fact is missing, is none of this event, or is none of its kind. The
            message names the field and never its value.
    """
    if event not in EVENTS:
        raise UsageError(f"audit event {event!r}: there is no such event; use {', '.join(EVENTS)}")
    try:
        return EVENTS[event].model_validate_json(to_json(facts))
    except PydanticSerializationError:
        raise UsageError(f"audit event {event}: a fact is no JSON") from None
    except ValidationError as error:
        raise UsageError(f"audit event {event}: {_broken_rule(error)}") from None


def read_facts(event: Event, facts: Mapping[str, Any]) -> Facts:
    """The same for facts that were read as JSON."""
    try:
        return EVENTS[event].model_validate_json(json.dumps(facts))
    except ValidationError as error:
        raise UsageError(f"{event}: {_broken_rule(error)}") from None


def _broken_rule(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(map(str, found["loc"]))
    # The message of a check of ours quotes what it refuses.
    rule = "a name or time that is none" if found["type"] == "value_error" and field else found["msg"]
    return f"{field}: {rule}" if field else rule
