"""A party's share of a result as it leaves: masked, salted, and bound by its digest before it is shown."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
from pydantic import Field

from mpcpriv.documents import Document
from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    import torch

    from mpcpriv.engine.session import Session

SALT_BYTES: Final = 32
MOST_NUMBERS: Final = 1 << 19
"""A result has no more numbers than that."""


class Layout(Document):
    """Some of the numbers of a result.

    Attributes:
        name: what the analysis calls them.
        size: how many.
        bits: their fractional bits.
    """

    name: Annotated[str, Field(min_length=1, max_length=63)]
    size: Annotated[int, Field(ge=1, le=MOST_NUMBERS)]
    bits: Annotated[int, Field(ge=0, le=62)]


@dataclass(frozen=True)
class Sealed:
    """A party's share of a result.

    Attributes:
        layout: what it holds, in order; the same at all parties.
        content: 32 random bytes, then the share, int64 in little-endian order.
    """

    layout: tuple[Layout, ...]
    content: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the content. The salt keeps it from telling anything."""
        return hashlib.sha256(self.content).hexdigest()


def seal(session: Session, outputs: Mapping[str, tuple[torch.Tensor, int]]) -> Sealed:
    """Fixes this party's share; nothing is sent.

    Args:
        session: of this party.
        outputs: by name, a share (int64 vector) and its fractional bits.

    Raises:
        UsageError: there are no numbers, or too many.
    """
    import torch

    layout = tuple(Layout(name=name, size=s.numel(), bits=bits) for name, (s, bits) in outputs.items())
    total = sum(one.size for one in layout)
    if not 0 < total <= MOST_NUMBERS:
        raise UsageError(f"a result of {total} numbers; it has at least 1, and at most {MOST_NUMBERS}")
    # Fresh, so that the shares that a recipient sees are uniform but for their sum.
    share = session.zero_share((total,)) + torch.cat([share.flatten() for share, _ in outputs.values()])
    return Sealed(layout, secrets.token_bytes(SALT_BYTES) + share.numpy().astype("<i8").tobytes())


def combine(layout: Sequence[Layout], contents: Sequence[bytes]) -> tuple[dict[str, np.ndarray], bytes]:
    """Opens a result from all parties' shares.

    Args:
        layout: what they hold.
        contents: of all parties, by rank.

    Returns:
        by name, the numbers as int64; and a salt that only the recipients know.

    Raises:
        UsageError: a share is of another length.
    """
    total = sum(one.size for one in layout)
    opened = np.zeros(total, dtype=np.int64)
    salt = hashlib.sha256()
    for content in contents:
        if len(content) != SALT_BYTES + 8 * total:
            raise UsageError(
                f"a share of {len(content)} bytes, where {SALT_BYTES + 8 * total} were announced"
            )
        salt.update(content[:SALT_BYTES])
        # Safe to open: these sums are what the agreement lets this recipient have, noise and all.
        opened += np.frombuffer(content, dtype="<i8", offset=SALT_BYTES)
    pieces = np.split(opened, np.cumsum([one.size for one in layout])[:-1])
    return {one.name: piece for one, piece in zip(layout, pieces, strict=True)}, salt.digest()
