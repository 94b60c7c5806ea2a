"""The only place that opens a shared result: to the agreed recipients, if it may be opened at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import rfc8785
import torch

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.analyses.analysis import Output, Outputs, Plain
from mpcpriv.engine.encoding import decode
from mpcpriv.engine.session import Session
from mpcpriv.errors import Unsupported, UsageError

SALT_BYTES: Final = 32


@dataclass(frozen=True)
class Result:
    """What a recipient has.

    Attributes:
        values: by name, numbers or lists.
        job: digest of the job that asked for it.
        salt: 32 bytes in hexadecimal that only the recipients know. Everybody may see the digest; without the
            salt, whoever can list the possible results would know from the digest which one it is.
        statement: what was released to whom, and how, in a sentence.
    """

    values: Mapping[str, Plain]
    job: str
    salt: str
    statement: str

    def canonical(self) -> bytes:
        """RFC 8785 JSON of it."""
        return rfc8785.dumps(
            {"job": self.job, "result": dict(self.values), "salt": self.salt, "statement": self.statement}
        )

    def digest(self) -> str:
        """SHA-256 of the canonical bytes, in hexadecimal; the same at all recipients."""
        return hashlib.sha256(self.canonical()).hexdigest()


def check(admitted: AdmittedJob, cohort: int) -> None:
    """Whether this job's results may be opened; asked before anything is computed, and again by `release`.

    Args:
        admitted: the job.
        cohort: rows that the result is computed from.

    Raises:
        Unsupported: it asks for noise, or names a recipient that does not compute.
        UsageError: the agreement forbids it.
    """
    agreement, asked = admitted.agreement, admitted.job.release
    rule = agreement.privacy
    if asked.epsilon is not None or asked.delta is not None:
        raise Unsupported("release with differential privacy: not offered yet; ask for one without noise")
    if not rule.unnoised:
        raise UsageError(
            f"agreement {agreement.id} releases nothing without noise; ask for noise, or amend it"
        )
    if cohort < rule.minimum_cohort:
        raise UsageError(
            f"the cohort has {cohort} rows, and agreement {agreement.id} releases nothing without noise from "
            f"less than {rule.minimum_cohort}; use more data"
        )
    absent = [name for name in admitted.recipients if name not in admitted.parties]
    if absent:
        raise Unsupported(
            f"recipient {absent[0]} is not a computing party: results are opened to computing parties only; "
            "give it the role compute"
        )


def release(session: Session, admitted: AdmittedJob, outputs: Outputs, cohort: int) -> Result | None:
    """Opens what an analysis has computed, to the job's recipients and to nobody else; one round.

    Args:
        session: of this party.
        admitted: the job.
        outputs: by name; what is shared in them is opened.
        cohort: rows that the result is computed from.

    Returns:
        the result at a recipient, None elsewhere.

    Raises:
        Unsupported, UsageError: as `check`; nothing is opened then.
        PeerError: a member failed.
    """
    check(admitted, cohort)
    recipients = [rank for rank, name in enumerate(admitted.parties) if name in admitted.recipients]
    shared = {name: one.shared for name, one in outputs.items() if isinstance(one, Output)}
    # Everybody's words are uniform, and so is their sum: the salt, which only the recipients see.
    words = session.private_bits((SALT_BYTES,)).to(torch.int64)
    pieces = [*(tensor.share.flatten() for tensor in shared.values()), words]
    # Safe to open: these results are what the agreement lets these recipients have; `check` has asked.
    opened = session.open_to(f"release to {_to(admitted)}", torch.cat(pieces), recipients)
    if opened is None:
        return None
    *numbers, salt = torch.split(opened, [piece.numel() for piece in pieces])
    read = {
        name: decode(values, tensor.bits).numpy()
        for (name, tensor), values in zip(shared.items(), numbers, strict=True)
    }
    values = {
        name: _plain(name, one.read(read[name]) if isinstance(one, Output) else one)
        for name, one in outputs.items()
    }
    return Result(
        values=values,
        job=admitted.job.digest(),
        salt=bytes((salt & 0xFF).tolist()).hex(),
        statement=state(admitted, list(shared), cohort),
    )


def state(admitted: AdmittedJob, names: list[str], cohort: int) -> str:
    """What is released to whom, in a sentence."""
    return (
        f"{', '.join(names) or 'nothing secret'}: released to {_to(admitted)} without noise, computed from "
        f"{cohort} rows, under agreement {admitted.agreement.id} version {admitted.agreement.version}"
    )


def _to(admitted: AdmittedJob) -> str:
    return ", ".join(admitted.recipients)


def _plain(name: str, value: Any) -> Plain:
    """A value that JSON holds exactly."""
    items = value if isinstance(value, list) else [value]
    whole = all(type(item) in (int, float, str) for item in items)
    if not whole or not all(np.isfinite(item) for item in items if type(item) is not str):
        raise UsageError(f"result {name!r}: an analysis returns finite numbers, text, or lists of them")
    return value  # type: ignore[no-any-return]
