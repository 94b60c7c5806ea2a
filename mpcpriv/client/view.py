"""What one's own daemon knows of a job at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.v1 import control_pb2

State = Literal["proposed", "running", "finished", "refused", "failed"]
STATES: Final[tuple[State, ...]] = get_args(State)
"""In the order in which jobs pass through them; the last three are ends."""
ENDED: Final = frozenset(STATES[2:])


@dataclass(frozen=True)
class Part:
    """One member's part in a job.

    Attributes:
        member: its name.
        decision: "accept", "refuse", or "" as long as it has not decided.
        reasons: of a refusal, all of them.
        ready: its worker has said where it listens.
        outcome: "success", "failure", or "" as long as it has none.
        failure: why, without data.
    """

    member: str
    decision: str
    reasons: tuple[str, ...]
    ready: bool
    outcome: str
    failure: str

    @property
    def word(self) -> str:
        """What it is at, in a word."""
        if self.decision == "refuse":
            return "refuses"
        if self.outcome:
            return "done" if self.outcome == "success" else "failed"
        if self.ready:
            return "runs"
        return "accepts" if self.decision else "has not decided"


@dataclass(frozen=True)
class Loop:
    """A loop of the analysis that runs at this member.

    Attributes:
        name: what it does.
        done: turns that are over.
        turns: of so many.
    """

    name: str
    done: int
    turns: int


@dataclass(frozen=True)
class View:
    """A job as one's own daemon sees it.

    Attributes:
        id: the job's digest.
        job: what is asked.
        state: proposed, running, finished, refused or failed.
        pending: one's own steward is asked.
        started: one's own worker is there.
        result: there is a result to fetch here.
        parts: of all members.
        progress: the loops that run here, the outermost first.
    """

    id: str
    job: Job
    state: State
    pending: bool
    started: bool
    result: bool
    parts: tuple[Part, ...]
    progress: tuple[Loop, ...]

    @classmethod
    def of(cls, message: Any) -> Self:
        """From the daemon's message (`control.proto`, JobView)."""
        return cls(
            id=message.job,
            job=SignedJob.from_bytes(message.document).job,
            state=STATES[message.state - control_pb2.PROPOSED],
            pending=message.pending,
            started=message.started,
            result=message.result,
            parts=tuple(
                Part(one.member, one.decision, tuple(one.reasons), one.ready, one.outcome, one.failure)
                for one in message.members
            ),
            progress=tuple(Loop(one.name, one.done, one.turns) for one in message.progress),
        )

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED

    @property
    def reasons(self) -> dict[str, tuple[str, ...]]:
        """Why it was refused or has failed, by member; empty otherwise."""
        if self.state == "refused":
            return {part.member: part.reasons for part in self.parts if part.decision == "refuse"}
        if self.state == "failed":
            return {part.member: (part.failure,) for part in self.parts if part.outcome == "failure"}
        return {}

    @property
    def undecided(self) -> tuple[str, ...]:
        """Who has not decided yet."""
        return tuple(part.member for part in self.parts if not part.decision)

    def __str__(self) -> str:
        """Its state in a line, with the reasons below."""
        head = f"{self.id[:8]} {self.job.analysis}: {self.state}"
        if self.state == "proposed" and self.undecided:
            head += f", waiting for {', '.join(self.undecided)}"
        if self.progress:
            head += ", " + ", ".join(f"{loop.name} {loop.done}/{loop.turns}" for loop in self.progress)
        return "\n".join([head, *listed(self.reasons)])


def listed(reasons: dict[str, tuple[str, ...]]) -> list[str]:
    """One line per reason; what several members say in the same words stands there once."""
    sayers: dict[str, list[str]] = {}
    for member, given in reasons.items():
        for reason in given:
            sayers.setdefault(reason, []).append(member)
    return [f"  {', '.join(members)}: {reason}" for reason, members in sayers.items()]
