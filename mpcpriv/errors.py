"""The error families: what I did wrong, what a peer did wrong.

Every message is one short sentence that names the thing, the value, the rule and the way out.
No message ever carries a share, a key or a row.
"""

from __future__ import annotations


class MpcprivError(Exception):
    """Anything that mpcpriv refuses or that went wrong between the parties."""


class UsageError(MpcprivError, ValueError):
    """I asked for something that is wrong or not offered."""


class RangeError(UsageError):
    """A value does not fit the fixed-point ring."""


class Unsupported(UsageError, NotImplementedError):
    """An operation, option or argument that mpcpriv refuses rather than computes wrongly."""


class PeerError(MpcprivError):
    """A peer did something wrong, or is not there.

    Attributes:
        peer: the name of the member at fault.
    """

    def __init__(self, peer: str, message: str) -> None:
        super().__init__(message)
        self.peer = peer

    def __reduce__(self) -> tuple[type[PeerError], tuple[str, str]]:
        return type(self), (self.peer, str(self))


class PeerAbsent(PeerError):
    """The peer could not be reached before the connection deadline."""


class PeerLate(PeerError):
    """The peer is connected but has sent nothing before the deadline."""


class PeerGone(PeerError):
    """The connection to the peer broke: it died, was killed or lost its network."""


class PeerAborted(PeerError):
    """The peer stopped on purpose and said why."""


class PeerFinished(PeerError):
    """The peer ended its program normally while something was still expected of it."""


class PeerRefused(PeerError):
    """The peer is not who it should be, or runs something else: identity, rank, job, program or version."""


class FrameRefused(PeerError):
    """A frame from the peer is malformed, too large, replayed, reordered or of another job."""


class Desynchronised(PeerError):
    """The peer is at another operation of the program than we are."""
