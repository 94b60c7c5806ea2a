"""CrypTen between real parties: a tensor type of our own under CrypTen's interface.

In reading order: `encoding` (reals as ring elements), `prg` (keystreams), `ring` (bilinear maps),
`correlation` (what is dealt, and how it is compressed), `session` (who is there, what is opened), `loop`,
`dealer`, `protocol` (products, truncation, comparison), `tensor` (the type itself), `objects` and
`communicator` (CrypTen's collectives), `compat` (what is mended in CrypTen).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mpcpriv.engine.costs import Plan
    from mpcpriv.engine.rehearsal import Rehearsal
    from mpcpriv.engine.session import Session
    from mpcpriv.transport.base import Transport

__all__ = ["activate", "deal", "join", "plan", "prepare", "rehearse", "steps"]


def activate() -> None:
    """Makes `import crypten` safe in this process, and our tensor its default type.

    Raises:
        UsageError: CrypTen was imported before, or has another version than 0.4.1.
    """
    from mpcpriv.engine.compat import install

    install()


def prepare(*, dealer: bool = False) -> None:
    """Activates, and does before the members connect what takes seconds once: compiling, or loading that.

    Args:
        dealer: for the dealer's part, not a party's.

    Raises:
        UsageError: as `activate`.
    """
    activate()
    if dealer:
        from mpcpriv.engine.dealer import warm
    else:
        from mpcpriv.engine.rehearsal import warm
    warm()


def join(transport: Transport) -> Session:
    """Activates, and opens this thread's session as a party over a connected transport.

    Raises:
        UsageError: the thread has a session already, or there are fewer than two parties.
        PeerError: a member failed.
    """
    activate()
    from mpcpriv.engine.session import Session
    from mpcpriv.engine.session import join as join_session

    return join_session(transport, Session)


def rehearse(transport: Transport) -> Rehearsal:
    """As `join`, but every input is zeros and the dealer is asked for nothing: only the cost is real.

    Raises:
        UsageError: the thread has a session already, or there are fewer than two parties.
        PeerError: a member failed.
    """
    activate()
    from mpcpriv.engine.rehearsal import rehearse as rehearse_session

    return rehearse_session(transport)


def plan(program: Callable[..., object], parties: int = 3, args: Sequence[object] = ()) -> Plan:
    """What `program(*args)` would cost at so many parties; it runs here, on zeros, and nothing is sent.

    An input needs its shape only: `crypten.cryptensor(torch.empty(1000, 30), src=1)`. Of a loop under
    `mpcpriv.steps` the first, the second and the last turn run, and the second counts for all between. What
    is opened is zeros, so a program that decides by an opened value what to do next cannot be planned: it
    takes the way that zero leads to, and sorting more than 64 values the longest one. Public values that
    parties send to each other arrive as they are.
    Bounds that are stated are carried along, and what could leave the ring in a turn that runs is refused.

    Args:
        program: as `mpcpriv.launch` takes it.
        parties: 2 to 16, called as `mpcpriv.launch` calls them.
        args: its arguments.

    Raises:
        UsageError: another number of parties.
        RangeError: an operation could leave the ring, by the bounds that were stated.
        Exception: what the program raises.
    """
    activate()
    from mpcpriv.engine.rehearsal import plan as rehearse_all

    return rehearse_all(program, parties, args)


def deal(transport: Transport) -> int:
    """Deals correlated randomness to the parties until they have finished; how many were dealt.

    Raises:
        PeerError: a party failed, or the parties asked for different things.
    """
    from mpcpriv.engine.dealer import deal as serve

    return serve(transport)


def steps(turns: int, name: str = "steps") -> Iterator[int]:
    """0 .. `turns` - 1, as `range` counts, for a loop of the program that all parties run alike.

        for i in mpcpriv.steps(100, "training"):
            ...

    The first turn shows what the later ones will need: from the second on, their correlated randomness is
    under way before they ask for it, and none is dealt after the last. A turn that differs from the one
    before, or a `break`, is slower and nothing else. Loops may be nested. What takes more than two seconds
    shows its progress (`Session.progress`).

    Args:
        turns: the same at every party; public.
        name: what the loop does, for those who wait for it.

    Raises:
        UsageError: `turns` is no whole number, or negative; or no parties are connected.
    """
    from mpcpriv.engine.session import current

    return current().steps(turns, name)
