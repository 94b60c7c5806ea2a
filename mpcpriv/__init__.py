"""Computation on the joint data of organisations that may not show each other their rows.

Importing this package has no side effect: torch, CrypTen and gRPC are loaded by what needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mpcpriv.errors import (
    DaemonError,
    DataError,
    Desynchronised,
    FrameRefused,
    JobError,
    JobFailed,
    JobRefused,
    JobUnfinished,
    MpcprivError,
    PeerAborted,
    PeerAbsent,
    PeerError,
    PeerFinished,
    PeerGone,
    PeerLate,
    PeerRefused,
    RangeError,
    Unsupported,
    UsageError,
)

if TYPE_CHECKING:
    from mpcpriv import engine
    from mpcpriv.client.connection import connect
    from mpcpriv.engine import plan, steps
    from mpcpriv.engine.private import PrivacyEngine
    from mpcpriv.party.launch import PartyFailed, launch

__version__ = "0.1.0"

__all__ = [
    "DaemonError",
    "DataError",
    "Desynchronised",
    "FrameRefused",
    "JobError",
    "JobFailed",
    "JobRefused",
    "JobUnfinished",
    "MpcprivError",
    "PartyFailed",
    "PeerAborted",
    "PeerAbsent",
    "PeerError",
    "PeerFinished",
    "PeerGone",
    "PeerLate",
    "PeerRefused",
    "PrivacyEngine",
    "RangeError",
    "Unsupported",
    "UsageError",
    "__version__",
    "connect",
    "engine",
    "launch",
    "plan",
    "steps",
]


def __getattr__(name: str) -> object:
    # PEP 562: the public names that need torch or gRPC are loaded on first use.
    if name == "engine":
        return importlib.import_module("mpcpriv.engine")
    if name in {"plan", "steps"}:
        return getattr(importlib.import_module("mpcpriv.engine"), name)
    if name in {"PartyFailed", "launch"}:
        return getattr(importlib.import_module("mpcpriv.party.launch"), name)
    if name == "PrivacyEngine":
        # It imports CrypTen, which must not come unmended.
        importlib.import_module("mpcpriv.engine").activate()
        return importlib.import_module("mpcpriv.engine.private").PrivacyEngine
    if name == "connect":
        return importlib.import_module("mpcpriv.client.connection").connect
    raise AttributeError(f"module 'mpcpriv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
