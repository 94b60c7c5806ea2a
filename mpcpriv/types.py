"""Small frozen values used everywhere."""

from __future__ import annotations

import re
from typing import Final, Self

from mpcpriv.errors import UsageError

PARTY_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")


class PartyId(str):
    """The name of a member of a computation: a DNS label, `[a-z][a-z0-9-]{0,62}`.

    Raises:
        UsageError: the name is not a DNS label in lower case.
    """

    __slots__ = ()

    def __new__(cls, name: str) -> Self:
        if not PARTY_NAME.fullmatch(name):
            raise UsageError(
                f"party name {name!r}: use a lower-case letter, then letters, digits or '-', up to 63"
            )
        return super().__new__(cls, name)

    @property
    def uri(self) -> str:
        """The SAN URI that a certificate of this party carries."""
        return f"spiffe://mpcpriv/{self}"
