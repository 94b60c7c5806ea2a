"""Signed agreements and jobs on real tables, for tests that run them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv import analyses
from mpcpriv.agreement.admit import AdmittedJob, LedgerView, admit
from mpcpriv.agreement.model import Agreement
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.documents import public_key
from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.party.jobs import JobProgram
from mpcpriv.transport.tls import self_signed

OWNERS = ("alice", "bob", "carol")
NOW = datetime.now(UTC).replace(microsecond=0)

Tables = Mapping[str, Mapping[str, np.ndarray]]
"""By owner, by column."""


@cache
def _key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@cache
def _certificate(name: str) -> str:
    return self_signed(name).certificate.pem.decode()


def column(name: str, values: np.ndarray, kind: str = "number", **bounds: Any) -> dict[str, Any]:
    """Terms of a column, whose bounds are a little wider than the values."""
    if kind in ("number", "integer") and not bounds:
        low, high = float(values.min()), float(values.max())
        margin = (high - low) / 20
        bounds = {"low": float(np.floor(low)) if kind == "integer" else low - margin}
        bounds["high"] = float(np.ceil(high)) if kind == "integer" else high + margin
    return {"name": name, "type": kind, **bounds}


@dataclass(frozen=True)
class Case:
    """A job under an agreement, and the tables of its parties."""

    agreement: SignedAgreement
    job: SignedJob
    data: Mapping[str, Path]

    def program(self, me: str, **changes: Any) -> JobProgram:
        given: dict[str, Any] = {
            "agreement": self.agreement.to_bytes(),
            "job": self.job.to_bytes(),
            "me": me,
            "data": {f"{me}-rows": self.data[me]} if me in self.data else {},
            "received": NOW,
            "newest": 1,
            "releases": {},
        }
        return JobProgram(**{**given, **changes})

    def admitted(self) -> AdmittedJob:
        verdict = admit(
            self.agreement,
            self.job,
            now=NOW,
            me="alice",
            ledger=LedgerView(),
            newest=1,
            analyses=analyses.installed(),
        )
        assert isinstance(verdict, AdmittedJob), verdict
        return verdict


def case(
    folder: Path,
    tables: Tables,
    columns: Mapping[str, Sequence[dict[str, Any]]],
    analysis: str,
    parameters: Mapping[str, Any] | None = None,
    recipients: Sequence[str] = ("alice",),
    parties: Sequence[str] = OWNERS,
    privacy: Mapping[str, Any] | None = None,
    minimum_rows: int = 1,
    release: Mapping[str, Any] | None = None,
    budget: Mapping[str, Any] | None = None,
) -> Case:
    """Tables as CSV files in a folder, an agreement that permits this job on them, and the job.

    Args:
        columns: by owner, their terms; a table may have more columns.
    """
    parameters = parameters or {}
    everybody = ["data-owner", "compute", "recipient", "submitter"]
    members = [
        {
            "name": name,
            "roles": ["dealer"]
            if name == "dealer"
            else everybody
            if name in tables
            else ["compute", "recipient"],
            "endpoint": f"{name}.example:9300",
            "certificate": _certificate(name),
            "signing_key": public_key(_key(name)),
        }
        for name in (*parties, "dealer")
    ]
    limits = {
        name: {"choices": [value]}
        if isinstance(value, str | bool)
        else {"low": float(min(value) if isinstance(value, list) else value)}
        for name, value in parameters.items()
    }
    agreement = Agreement.model_validate(
        {
            "id": "test",
            "version": 1,
            "title": "A test",
            "purposes": [{"name": "test", "legal_basis": "none"}],
            "valid_from": NOW - timedelta(days=1),
            "valid_until": NOW + timedelta(days=1),
            "members": members,
            "datasets": [
                {
                    "name": f"{owner}-rows",
                    "owner": owner,
                    "privacy_unit": "patient",
                    "minimum_rows": minimum_rows,
                    "budget": budget,
                    "columns": list(columns[owner]),
                }
                for owner in tables
            ],
            "analyses": [
                {
                    "name": analysis,
                    "code": analyses.digest(analysis),
                    "purposes": ["test"],
                    "inputs": {f"{o}-rows": [one["name"] for one in columns[o]] for o in tables},
                    "parameters": limits,
                    "recipients": list(parties),
                    "submitters": [next(iter(tables))],
                }
            ],
            "privacy": privacy or {"unnoised": True, "minimum_cohort": 2},
            "approval": "automatic",
        }
    )
    signed = SignedAgreement.unsigned(agreement)
    for member in agreement.members:
        signed = signed.signed_by(member.name, _key(str(member.name)))
    submitter = next(iter(tables))
    job = Job.model_validate(
        {
            "agreement": "test",
            "version": 1,
            "analysis": analysis,
            "purpose": "test",
            "inputs": [
                {"dataset": f"{owner}-rows", "columns": [one["name"] for one in columns[owner]]}
                for owner in tables
            ],
            "parameters": dict(parameters),
            "release": {"recipients": list(recipients), **(release or {})},
            "submitter": submitter,
            "created": NOW,
            "expires": NOW + timedelta(hours=1),
            "nonce": secrets.token_hex(16),
        }
    )
    data = {}
    for owner, table in tables.items():
        data[owner] = folder / f"{owner}.csv"
        lines = [",".join(f'"{name}"' for name in table)]
        lines += [",".join(str(value.item()) for value in row) for row in zip(*table.values(), strict=True)]
        data[owner].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Case(signed, SignedJob.sign(job, _key(submitter)), data)
