"""CrypTen between real parties: a tensor type of our own under CrypTen's interface.

In reading order: `encoding` (reals as ring elements), `prg` (keystreams), `ring` (bilinear maps),
`correlation` (what is dealt, and how it is compressed), `session` (who is there, what is opened),
`dealer`, `protocol` (products, truncation, comparison), `tensor` (the type itself), `objects` and
`communicator` (CrypTen's collectives), `compat` (what is mended in CrypTen).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpcpriv.engine.session import Session
    from mpcpriv.transport.base import Transport

__all__ = ["activate", "deal", "join"]


def activate() -> None:
    """Makes `import crypten` safe in this process, and our tensor its default type.

    Raises:
        UsageError: CrypTen was imported before, or has another version than 0.4.1.
    """
    from mpcpriv.engine.compat import install

    install()


def join(transport: Transport) -> Session:
    """Activates, and opens this thread's session as a party over a connected transport.

    Raises:
        UsageError: the thread has a session already, or there are fewer than two parties.
        PeerError: a member failed.
    """
    activate()
    from mpcpriv.engine.session import join as join_session

    return join_session(transport)


def deal(transport: Transport) -> int:
    """Deals correlated randomness to the parties until they have finished; how many were dealt.

    Raises:
        PeerError: a party failed, or the parties asked for different things.
    """
    from mpcpriv.engine.dealer import deal as serve

    return serve(transport)
