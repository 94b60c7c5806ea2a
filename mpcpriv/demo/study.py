"""What the hospitals agree on, and what is asked under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mpcpriv import analyses
from mpcpriv.agreement.model import Agreement
from mpcpriv.demo import table
from mpcpriv.types import DEALER

NAME: Final = "breast-cancer-study"
ANALYSIS: Final = "logistic-regression"
PURPOSE: Final = "research"
STEPS: Final = 8
"""Of Newton's method, each on all rows."""


@dataclass(frozen=True)
class Seat:
    """What a member gives to be written into the agreement.

    Attributes:
        name: of the party.
        endpoint: `host:port` of its daemon.
        certificate: its TLS certificate, PEM.
        signing_key: its public signing key, base64.
    """

    name: str
    endpoint: str
    certificate: str
    signing_key: str


def dataset(hospital: str) -> str:
    """What a hospital's table is called."""
    return f"{hospital}-patients"


def agreement(seats: Sequence[Seat], now: datetime) -> Agreement:
    """The agreement of these members, the dealer among them, for a day.

    Raises:
        UsageError: the analysis is not installed.
    """
    hospitals = [seat.name for seat in seats if seat.name != DEALER]
    start = now.astimezone(UTC).replace(microsecond=0) - timedelta(minutes=5)
    return Agreement.model_validate(
        {
            "id": NAME,
            "version": 1,
            "title": "A model of breast cancer from the patients of three hospitals",
            "purposes": [
                {
                    "name": PURPOSE,
                    "legal_basis": "GDPR Art. 9(2)(j)",
                    "text": "To tell benign from malignant tumours by measurements of cell nuclei.",
                }
            ],
            "valid_from": start,
            "valid_until": start + timedelta(days=1),
            "members": [_member(seat) for seat in seats],
            "datasets": [_dataset(name) for name in hospitals],
            "analyses": [
                {
                    "name": ANALYSIS,
                    "code": analyses.digest(ANALYSIS),
                    "purposes": [PURPOSE],
                    # The patients' numbers are in the tables, and in no analysis.
                    "inputs": {dataset(name): [*table.CODEBOOK, table.DIAGNOSIS] for name in hospitals},
                    "parameters": {
                        "target": {"choices": [table.DIAGNOSIS]},
                        "steps": {"low": 1.0, "high": 20.0},
                    },
                    "recipients": hospitals,
                    "submitters": hospitals,
                }
            ],
            "privacy": {"unnoised": True, "minimum_cohort": 100},
            "approval": "steward",
        }
    )


def permitted(hospitals: Sequence[str]) -> dict[str, Any]:
    """A job within the agreement, as `Connection.new_job` takes it: the model, to all hospitals."""
    return _asked(hospitals, [*table.CODEBOOK, table.DIAGNOSIS], hospitals)


def forbidden(hospitals: Sequence[str]) -> dict[str, Any]:
    """A job outside: it asks for the patients' numbers, too, and the dealer is to get the result."""
    return _asked(hospitals, [table.PATIENT, *table.CODEBOOK, table.DIAGNOSIS], [*hospitals, DEALER])


def _asked(hospitals: Sequence[str], columns: list[str], recipients: Sequence[str]) -> dict[str, Any]:
    inputs: Mapping[str, list[str]] = {dataset(name): columns for name in hospitals}
    return {
        "agreement": NAME,
        "analysis": ANALYSIS,
        "purpose": PURPOSE,
        "inputs": inputs,
        "parameters": {"target": table.DIAGNOSIS, "steps": STEPS},
        "recipients": list(recipients),
    }


def _member(seat: Seat) -> dict[str, Any]:
    hospital = ["data-owner", "compute", "recipient", "submitter"]
    return {
        "name": seat.name,
        "roles": ["dealer"] if seat.name == DEALER else hospital,
        "endpoint": seat.endpoint,
        "certificate": seat.certificate,
        "signing_key": seat.signing_key,
    }


def _dataset(hospital: str) -> dict[str, Any]:
    measured = [
        {"name": name, "type": "number", "low": table.bounds(name)[0], "high": table.bounds(name)[1]}
        for name in table.CODEBOOK
    ]
    return {
        "name": dataset(hospital),
        "owner": hospital,
        "privacy_unit": "patient",
        "minimum_rows": 50,
        "columns": [
            {"name": table.PATIENT, "type": "integer", "low": 0.0, "high": 1e6},
            *measured,
            {"name": table.DIAGNOSIS, "type": "category", "categories": list(table.CLASSES)},
        ],
    }
