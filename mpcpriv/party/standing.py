"""A job and all that is known of it at a member: what its records say, read anew at each look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.party.held import Held
from mpcpriv.party.records import Commitment, Fate, Outcome, Ready, Record, Share, fate
from mpcpriv.party.state import State, StoredJob

_FAILED: Final = " failed: "


@dataclass(frozen=True)
class Standing:
    """A job and all that is known of it here.

    Attributes:
        stored: the job as it is stored.
        job: what is asked.
        held: its agreement.
        records: about it.
        fate: what follows from them.
        me: this member.
    """

    stored: StoredJob
    job: Job
    held: Held
    records: tuple[Record, ...]
    fate: Fate
    me: str

    def written(self, kind: type, member: str | None = None) -> Record | None:
        """The record of that kind by `member`, by default this one."""
        author = member or self.me
        return next((r for r in self.records if r.member == author and isinstance(r.body, kind)), None)

    @property
    def ready(self) -> dict[str, str]:
        """Where workers listen, by member."""
        return {
            record.member: record.body.address for record in self.records if isinstance(record.body, Ready)
        }

    @property
    def commitments(self) -> dict[str, Commitment]:
        """To their shares of the result, by computing member."""
        return {record.member: record.body for record in self.records if isinstance(record.body, Commitment)}

    @property
    def shares(self) -> dict[str, Share]:
        """Of the result, that have come to this recipient, by computing member."""
        return {record.member: record.body for record in self.records if isinstance(record.body, Share)}

    @property
    def lost(self) -> bool:
        """Whether this member can only fail: the job has failed, or will since it has not committed yet."""
        bound = self.me in self.commitments or self.me not in self.held.runners
        return self.fate.state == "failed" or (bool(self.cause) and not bound)

    @property
    def cause(self) -> str:
        """Of the failures, the one that came here first, with who it was."""
        for record in self.records:
            if isinstance(record.body, Outcome) and not record.body.success:
                reason = record.body.reason
                return reason if _FAILED in reason else f"{record.member}{_FAILED}{reason}"
        return ""

    @property
    def begun(self) -> bool:
        """Whether all workers are there."""
        return set(self.ready) >= set(self.held.runners)


def standing(stored: StoredJob, held: Held, state: State, me: str) -> Standing:
    """Reads what is known of a job."""
    records = tuple(signed.record for signed in state.records(stored.digest))
    job = SignedJob.from_bytes(stored.document).job
    parties = held.signed.agreement.parties()
    return Standing(
        stored, job, held, records, fate(records, held.deciders, parties, job.release.recipients), me
    )
