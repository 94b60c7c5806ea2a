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


NAMES: Final = (
    *("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"),
    *("ivan", "judy", "kate", "leo", "mia", "niaj", "olivia", "peggy"),
)
"""What the parties on one machine are called, by rank."""

DEALER: Final = "dealer"


def local_members(parties: object) -> tuple[PartyId, ...]:
    """The members of a computation of so many parties on one machine, the dealer last.

    Raises:
        UsageError: not a number from 2 to 16.
    """
    if type(parties) is not int:
        raise UsageError(f"parties = {parties!r}: give a whole number from 2 to {len(NAMES)}")
    if parties == 1:
        raise UsageError("parties = 1: nothing is secret from oneself; a computation needs 2 parties or more")
    if not 2 <= parties <= len(NAMES):
        raise UsageError(f"parties = {parties}: on one machine there can be 2 to {len(NAMES)}")
    return (*map(PartyId, NAMES[:parties]), PartyId(DEALER))
