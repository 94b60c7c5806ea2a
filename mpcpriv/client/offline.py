"""What can be said of a job before anybody is asked: whether it is within an agreement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv import analyses
from mpcpriv.agreement.admit import AdmittedJob, LedgerView, Refusal, admit
from mpcpriv.agreement.model import Agreement
from mpcpriv.agreement.signed import SUFFIX, SignedAgreement, read_signed
from mpcpriv.agreement.toml import read_agreement
from mpcpriv.documents import parse_toml, public_key, read_file
from mpcpriv.errors import RangeError, UsageError
from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.job.toml import read_job
from mpcpriv.party.aligning import permitted
from mpcpriv.party.config import Party


@dataclass(frozen=True)
class Draft:
    """A job and the agreement that it is to be under, as two files say them.

    Attributes:
        job: not signed yet.
        agreement: its terms.
        signed: whether the file holds signatures at all; a TOML file does not.
        problems: what is wrong with the signatures, where there are some.
    """

    job: Job
    agreement: Agreement
    signed: bool
    problems: tuple[str, ...]

    def admit(self, now: datetime | None = None) -> AdmittedJob | Refusal:
        """Holds the job against the terms, as its submitter would, with the analyses that are installed here.

        Signatures are left out of it: the agreement is taken as one that all have signed. What earlier jobs
        have released, and whether a newer version is agreed, only daemons know.

        Args:
            now: None is the present.
        """
        # Keys of this moment in the place of the members', for whom nothing can be signed here. What comes of
        # it passes for nothing elsewhere: each member holds the job against its own copy of the agreement.
        keys = {member.name: Ed25519PrivateKey.generate() for member in self.agreement.members}
        members = [
            member.model_copy(update={"signing_key": public_key(keys[member.name])})
            for member in self.agreement.members
        ]
        signed = SignedAgreement.unsigned(self.agreement.model_copy(update={"members": members}))
        for name, key in keys.items():
            signed = signed.signed_by(name, key)
        submitter = keys.get(self.job.submitter) or Ed25519PrivateKey.generate()
        verdict = admit(
            signed,
            SignedJob.sign(self.job, submitter),
            now=now or datetime.now(UTC),
            me=self.job.submitter,
            ledger=LedgerView(),
            newest=self.agreement.version,
            analyses=analyses.installed(),
        )
        if isinstance(verdict, AdmittedJob) and verdict.alignment is not None:
            try:
                permitted(verdict, analyses.find(verdict.job.analysis))
            except (UsageError, RangeError) as error:
                return Refusal((f"alignment: {error}",))
        return verdict


def read_draft(job: Path, agreement: Path, party: Party | None) -> Draft:
    """Reads a job's TOML file and an agreement, signed or as TOML.

    Args:
        job: of the job.
        agreement: `NAME.agreement.json` or `NAME.toml`.
        party: who submits, where the job does not say.

    Raises:
        UsageError: a file cannot be read, or is not what it should be; or nobody says who submits.
    """
    if party is None:
        submitter = parse_toml(read_file(job, Job.noun), Job.noun).get("submitter")
        if submitter is None:
            raise UsageError(
                f"{job}: submitter: missing; write it into the file, or name your party.toml with --config"
            )
    else:
        submitter = party.name
    asked = read_job(job, submitter=str(submitter), now=datetime.now(UTC))
    if not agreement.name.endswith(SUFFIX):
        return Draft(asked, read_agreement(agreement), signed=False, problems=())
    signed = read_signed(agreement)
    problems = signed.problems()
    member = signed.agreement.member(asked.submitter)
    if party is not None and member is not None and party.name == asked.submitter:
        own = public_key(party.signing_key())
        if own != member.signing_key:
            problems.append(
                f"signature: the signing key of {party.path} is {own}, and the agreement gives "
                f"{party.name} {member.signing_key}; the job could not be signed so that others accept it"
            )
    return Draft(asked, signed.agreement, signed=True, problems=tuple(problems))
