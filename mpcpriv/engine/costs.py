"""What a program will cost, before anything is shared. No torch here: a launcher reads plans, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

_RESULTS: Final = ("open to ", "release to ")


@dataclass(frozen=True)
class Outlay:
    """What one party spends in a rehearsal (`engine.rehearsal`).

    Attributes:
        rounds: times that it waits for messages which all send at once.
        sent_to: bytes to each other party, by rank, headers included.
        operations: how often each operation opens or sends something, by name.
        dealt: bytes of corrections that the dealer sends in all, by kind.
        dealt_to: bytes of them for each party, by rank.
    """

    rounds: int = 0
    sent_to: Mapping[int, int] = field(default_factory=dict)
    operations: Mapping[str, int] = field(default_factory=dict)
    dealt: Mapping[str, int] = field(default_factory=dict)
    dealt_to: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a program will cost.

    Attributes:
        parties: their names, by rank.
        rounds: times that the parties wait for each other's messages.
        sent: bytes from the party of rank i to that of rank j at `sent[i][j]`, headers included.
        operations: how often each operation opens or sends something, by name; results that leave the
            shares are those called `open to ...`, and `release to ...` in a job.
        dealt: bytes of correlated randomness that the dealer sends, by kind.
        dealt_to: bytes of it for each party, by rank.
    """

    parties: tuple[str, ...]
    rounds: int
    sent: tuple[tuple[int, ...], ...]
    operations: dict[str, int]
    dealt: dict[str, int]
    dealt_to: tuple[int, ...]

    @classmethod
    def of(cls, parties: Sequence[str], outlays: Sequence[Outlay]) -> Plan:
        """From what each party spent, by rank."""
        ranks = range(len(parties))
        operations: Counter[str] = Counter()
        for outlay in outlays:
            operations |= Counter(outlay.operations)  # what two do between them others do not count
        return cls(
            parties=tuple(map(str, parties)),
            rounds=max(outlay.rounds for outlay in outlays),
            sent=tuple(tuple(outlay.sent_to.get(to, 0) for to in ranks) for outlay in outlays),
            operations=dict(operations),
            dealt=dict(outlays[0].dealt),
            dealt_to=tuple(outlays[0].dealt_to.get(rank, 0) for rank in ranks),
        )

    def seconds(self, round_trip: float, bits_per_second: float) -> float:
        """Seconds on the network where every member has such a line; what computing takes comes on top.

        A round is half a round trip, since all send at once. The busiest member's line, one way, is what
        the bytes wait for.

        Args:
            round_trip: seconds from one member to another and back.
            bits_per_second: of each member's line, each way.
        """
        up = [sum(row) for row in self.sent] + [sum(self.dealt_to)]
        down = [
            sum(row[rank] for row in self.sent) + self.dealt_to[rank] for rank in range(len(self.parties))
        ]
        return self.rounds * round_trip / 2 + max(*up, *down) * 8 / bits_per_second

    def __str__(self) -> str:
        results = {name: count for name, count in self.operations.items() if name.startswith(_RESULTS)}
        return self.told(", ".join(f"{name} ({count})" for name, count in results.items()) or "nothing")

    def told(self, opened: str) -> str:
        """In lines for people.

        Args:
            opened: what leaves the shares.
        """
        between = sum(map(sum, self.sent))
        near, far = self.seconds(0.0005, 1e9), self.seconds(0.04, 1e8)
        lines = [
            f"{self.rounds} round{'s' * (self.rounds != 1)}",
            f"{_bytes(between)} between the parties, at most {_bytes(max(map(sum, self.sent)))} from one",
            f"{_bytes(sum(self.dealt_to))} from the dealer"
            + "".join(f"; {kind} {_bytes(size)}" for kind, size in sorted(self.dealt.items())),
            f"opened: {opened}",
            f"network: {near:.1f} s (0.5 ms, 1 Gbit/s), {far:.1f} s (40 ms, 100 Mbit/s); computing is on top",
        ]
        return "\n".join(lines)


def _bytes(count: int) -> str:
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 1000**power:
            return f"{count / 1000**power:.1f} {unit}"
    return f"{count} bytes"
