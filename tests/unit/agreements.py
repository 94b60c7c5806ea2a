"""A small agreement between three hospitals and a dealer, the keys of all, and a job within it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv.agreement.model import Agreement
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.documents import public_key
from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.transport.tls import Identity, self_signed

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
CODE = "a" * 64
INSTALLED = {"logistic-regression": CODE, "mean": "b" * 64}
OWNERS = ("alice", "bob", "carol")
MEMBERS = (*OWNERS, "dealer")


_KEYS = {name: Ed25519PrivateKey.generate() for name in (*MEMBERS, "eve")}


def key(name: str) -> Ed25519PrivateKey:
    return _KEYS[name]


@cache
def identity(name: str) -> Identity:
    return self_signed(name)


def certificate(name: str) -> str:
    return identity(name).certificate.pem.decode()


def member(name: str, *roles: str) -> dict[str, Any]:
    return {
        "name": name,
        "roles": list(roles) or ["data-owner", "compute", "recipient", "submitter"],
        "endpoint": f"{name}.example:9300",
        "certificate": certificate(name),
        "signing_key": public_key(key(name)),
    }


def dataset(owner: str) -> dict[str, Any]:
    return {
        "name": f"{owner}-patients",
        "owner": owner,
        "privacy_unit": "patient",
        "minimum_rows": 20,
        "columns": [
            {"name": "age", "type": "integer", "low": 18.0, "high": 110.0},
            {"name": "radius", "type": "number", "low": 0.0, "high": 40.0},
            {"name": "stage", "type": "category", "categories": ["I", "II", "III"]},
            {"name": "malignant", "type": "boolean"},
        ],
    }


def content() -> dict[str, Any]:
    """An agreement as a mapping, new each time, to be changed."""
    return {
        "id": "breast-cancer",
        "version": 3,
        "title": "Models of breast cancer",
        "text": "For science.\nSecond line, é.",
        "purposes": [
            {"name": "research", "legal_basis": "GDPR Art. 9(2)(j)", "text": "Public research."},
            {"name": "quality", "legal_basis": "GDPR Art. 9(2)(h)"},
        ],
        "valid_from": datetime(2027, 1, 1, tzinfo=UTC),
        "valid_until": datetime(2028, 1, 1, tzinfo=UTC),
        "members": [*map(member, OWNERS), member("dealer", "dealer")],
        "datasets": [dataset(owner) for owner in OWNERS],
        "analyses": [
            {
                "name": "logistic-regression",
                "code": CODE,
                "purposes": ["research"],
                "inputs": {f"{owner}-patients": ["age", "radius", "malignant"] for owner in OWNERS},
                "parameters": {
                    "steps": {"low": 1.0, "high": 200.0},
                    "penalty": {"low": 0.0},
                    "solver": {"choices": ["adam", "sgd"]},
                    "flag": {"choices": [True]},
                },
                "recipients": ["alice", "bob"],
                "submitters": ["alice"],
            },
            {
                "name": "mean",
                "code": "b" * 64,
                "purposes": ["research", "quality"],
                "inputs": {"alice-patients": ["age"]},
                "recipients": ["carol"],
                "submitters": ["bob", "carol"],
            },
        ],
        "privacy": {"unnoised": True, "minimum_cohort": 50, "releases": 5},
        "approval": "automatic",
    }


def agreement(**changes: Any) -> Agreement:
    return Agreement.model_validate({**content(), **changes})


def sign_all(unsigned: Agreement) -> SignedAgreement:
    signed = SignedAgreement.unsigned(unsigned)
    for one in unsigned.members:
        signed = signed.signed_by(one.name, key(one.name))
    return signed


def job_content() -> dict[str, Any]:
    return {
        "agreement": "breast-cancer",
        "version": 3,
        "analysis": "logistic-regression",
        "purpose": "research",
        "inputs": [{"dataset": f"{owner}-patients", "columns": ["age", "malignant"]} for owner in OWNERS],
        "parameters": {"steps": 100, "solver": "adam", "penalty": 0.5},
        "release": {"recipients": ["alice"]},
        "submitter": "alice",
        "created": NOW - timedelta(seconds=30),
        "expires": NOW + timedelta(days=1),
        "nonce": secrets.token_hex(16),
    }


def job(**changes: Any) -> Job:
    return Job.model_validate({**job_content(), **changes})


def signed_job(**changes: Any) -> SignedJob:
    asked = job(**changes)
    return SignedJob.sign(asked, key(asked.submitter))
