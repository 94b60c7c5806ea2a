"""The file of shares that `crypten.save` writes: its header, which is read before the key is asked for."""

from __future__ import annotations

from random import Random

import mpcpriv.engine
from mpcpriv.engine import objects
from mpcpriv.v1 import objects_pb2
from tests.fuzz.mutate import Message

mpcpriv.engine.activate()

from mpcpriv.engine.models.storage import MAGIC, _header  # noqa: E402

HEADER = objects.encode(
    {
        "party": "alice",
        "rank": 0,
        "parties": ["alice", "bob"],
        "save": bytes(16),
        "passphrase": False,
        "salt": bytes(16),
        "nonce": bytes(12),
    }
)
SHARES = MAGIC + len(HEADER).to_bytes(4, "big") + HEADER + b"content"
_edited = Message((objects_pb2.Object.FromString(HEADER),))


def headed(chance: Random) -> bytes:
    """A file, its header changed, the length of it mostly right."""
    header = _edited(chance)
    length = len(header) if chance.random() < 0.9 else chance.choice((0, 1, len(header) + 1, 2**32 - 1))
    return MAGIC + length.to_bytes(4, "big") + header + b"content"


def shares(data: bytes) -> None:
    """A parser that only reads: nothing writes a header again."""
    header, end = _header(data, "it")
    assert len(header) == 7
    assert end <= len(data)
