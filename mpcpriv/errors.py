"""The error families: what I did wrong, what a peer did wrong, what became of a job.

Every message is one short sentence that names the thing, the value, the rule and the way out.
No message ever carries a share, a key or a row.
"""

from __future__ import annotations

import collections.abc


class MpcprivError(Exception):
    """Anything that mpcpriv refuses or that went wrong between the parties."""


class UsageError(MpcprivError, ValueError):
    """I asked for something that is wrong or not offered."""


class RangeError(UsageError):
    """A value does not fit the fixed-point ring."""


class Unsupported(UsageError, NotImplementedError):
    """An operation, option or argument that mpcpriv refuses rather than computes wrongly."""


class DataError(UsageError):
    """A party's table does not hold what was agreed.

    The message is for the table's owner. The others may read `told`: the party, the data set and the columns,
    and nothing that is counted or seen in the table.

    Attributes:
        dataset: the data set, and whose it is.
        columns: those in which something is wrong; none where the whole table is.
    """

    def __init__(self, dataset: str, columns: collections.abc.Sequence[str], message: str) -> None:
        super().__init__(message)
        self.dataset, self.columns = dataset, tuple(columns)

    @property
    def told(self) -> str:
        """What the others may read."""
        where = f", column{'s' * (len(self.columns) > 1)} {', '.join(self.columns)}" if self.columns else ""
        return f"{self.dataset}{where}: the table does not hold what was agreed"

    def __reduce__(self) -> tuple[type[DataError], tuple[str, tuple[str, ...], str]]:
        return type(self), (self.dataset, self.columns, str(self))


class DaemonError(MpcprivError):
    """One's own daemon cannot be reached, or cannot answer."""


class JobError(MpcprivError):
    """A job has no result.

    Attributes:
        job: its digest.
        reasons: by member, all that it gave.
    """

    def __init__(
        self, job: str, reasons: collections.abc.Mapping[str, tuple[str, ...]], message: str
    ) -> None:
        super().__init__(message)
        self.job = job
        self.reasons = dict(reasons)

    def __reduce__(self) -> tuple[type[JobError], tuple[str, dict[str, tuple[str, ...]], str]]:
        return type(self), (self.job, self.reasons, str(self))


class JobRefused(JobError):
    """At least one member has refused the job."""


class JobFailed(JobError):
    """A member has failed, cancelled the job, or seen it expire."""


class JobUnfinished(JobError, TimeoutError):
    """The job has not ended in the time that one wanted to wait; nothing is lost by that."""


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
