"""A result at a recipient: from the shares that all computing members had committed to."""

from __future__ import annotations

import hashlib

from mpcpriv import analyses
from mpcpriv.agreement.admit import LedgerView, Refusal, admit
from mpcpriv.errors import MpcprivError, UsageError
from mpcpriv.job.signed import SignedJob
from mpcpriv.party.standing import Standing
from mpcpriv.release import Result, read_result


class Unreadable(UsageError):
    """What was opened is no result, or was withheld; its words may say what was, and are for recipients."""


def read(job: Standing) -> Result:
    """The result of a job whose commitments and shares are all here.

    Raises:
        UsageError: a share is not the one that was committed to.
        Unreadable: the analysis cannot read the result, or that was withheld.
    """
    parties = job.held.signed.agreement.parties()
    said, contents = [job.commitments[name] for name in parties], []
    for name, commitment in zip(parties, said, strict=True):
        if (commitment.rows, commitment.layout) != (said[0].rows, said[0].layout):
            raise UsageError(f"{name} has committed to another result than {parties[0]}")
        if commitment.transcript != said[0].transcript:
            raise UsageError(f"{name} has computed something else than {parties[0]}")
        contents.append(job.shares[name].read())
        if hashlib.sha256(contents[-1]).hexdigest() != commitment.share:
            raise UsageError(f"the share of {name} is not the one that it committed to")
    # As it was admitted here: since then the agreement may have ended, or a new version come.
    verdict = admit(
        job.held.signed,
        SignedJob.from_bytes(job.stored.document),
        now=job.stored.seen,
        me=job.me,
        ledger=LedgerView(),
        newest=job.held.signed.agreement.version,
        analyses=analyses.installed(),
    )
    if isinstance(verdict, Refusal):
        raise UsageError(f"the job is refused: {'; '.join(verdict.reasons)}")
    try:
        analysis = analyses.find(job.job.analysis)
        return read_result(verdict, analysis, said[0].rows, said[0].layout, contents)
    except MpcprivError as error:
        raise Unreadable(str(error)) from None
    except Exception as error:  # noqa: BLE001 -- see below
        # An analysis of another package may raise anything, and its words may hold data.
        raise UsageError(
            f"analysis {job.job.analysis} cannot read its result ({type(error).__name__})"
        ) from None
