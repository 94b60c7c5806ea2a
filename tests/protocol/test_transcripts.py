"""What a coalition of parties sees is uniform, whatever the others' secrets are; and the test can tell.

Everything that a coalition receives is recorded. From each message the test takes away what the coalition
knows by itself (the pieces of zero shares that it has in common with the sender), as an attacker would; the
rest must be uniform, alone, summed over the senders, and compared from one opening to the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch

from mpcpriv.engine.correlation.base import Slot
from mpcpriv.engine.correlation.source import Correlations, Dealt
from mpcpriv.engine.protocol.compare import below
from mpcpriv.engine.protocol.multiply import product, square
from mpcpriv.engine.protocol.operand import Operand
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.session import Session
from tests.protocol.parties import Sight, run
from tests.protocol.uniformity import LEAST, bit_counts, byte_counts, p_same, p_uniform

SIZE = 100_000
TRIALS = 10_000
Pieces = dict[int, torch.Tensor]

BITS = {
    "compare: first folds": [(0, 7), (7, 7), (14, 7), (21, 7)],
    "compare: second fold": [(0, 7)],
    "compare: daBit": [(0, 1)],
    "rand: bits": [(0, 1)],
}
"""The bits that carry information; all others are always 0."""


def coalitions(n: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, n):
        yield from itertools.combinations(range(n), size)


def pieces(session: Session, index: int, shape: tuple[int, ...]) -> Pieces:
    """What goes into this party's zero share of that number, by the peer who knows it, too."""
    found = {}
    for peer, prg in session._zero_keys.items():
        piece = prg.stream(index).tensor(shape)
        found[peer] = piece if session.rank < peer else -piece
    return found


def shared_sum(session: Session, value: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, Pieces]:
    """Shares of the sum of everybody's secret, this one's being `value`; and who knows what of this share."""
    total, known = torch.zeros(shape, dtype=torch.int64), dict.fromkeys(session._zero_keys, torch.tensor(0))
    for source in range(session.size):
        mine = pieces(session, session._zero_index, shape)
        known = {peer: known[peer] + mine[peer] for peer in mine}
        secret = torch.full(shape, value) if session.rank == source else None
        total += session.share_input(source, shape, secret)
    return total, known


def every_protocol(session: Session, sign: int) -> tuple[dict[str, list[Pieces]], list[torch.Tensor]]:
    """Each protocol, twice, on secrets of this sign; the opened squares do not depend on it."""
    from mpcpriv.engine.tensor import SharedTensor

    x, x_known = shared_sum(session, sign * (session.rank + 3) << 16, (SIZE,))
    y, y_known = shared_sum(session, sign * (session.rank + 7) << 16, (SIZE,))
    w, w_known = shared_sum(session, sign << 16, (50, 4))
    opened = []
    for _ in range(2):
        product(session, Bilinear("mul"), x, y)
        truncate(session, [(x, 16)])
        below(session, x, [0])
        product(session, Bilinear("matmul"), x.reshape(-1, 50), w)
        SharedTensor.rand(SIZE // 16)
        squares = square(session, x)
        result = session.open_to("open the squares", squares, list(range(session.size)))
        assert result is not None
        opened.append(result)
    rows = {peer: known.reshape(-1, 50) for peer, known in x_known.items()}
    known_of = {
        "mul: x - a, y - b": [x_known, y_known],
        "truncate": [x_known],
        "compare: x + r": [x_known],
        "matmul: x - a, y - b": [rows, w_known],
        "square: x - a": [x_known],
        "open the squares": [dict.fromkeys(x_known, torch.tensor(0))],
    }
    return known_of, opened


class View:
    """What was sent in one run of `every_protocol`, and what each peer knows of it beforehand."""

    def __init__(self, n: int, sign: int, seed: int) -> None:
        self.n, sight = n, Sight()
        results = run(n, every_protocol, sign, sight=sight, seed=seed)
        self.known = [known for known, _ in results]
        self.opened = [opened for _, opened in results]
        self.frames = {
            (sender, operation): [frame.tensors for frame in sight.from_party(sender, operation, n)]
            for sender in range(n)
            for operation in (*self.known[0], *BITS)
        }

    def findings(self, coalition: tuple[int, ...]) -> Iterator[tuple[str, float]]:
        """Each look that the coalition takes at what it got, and the p-value of its being uniform."""
        outsiders = [rank for rank in range(self.n) if rank not in coalition]
        for operation in self.known[0]:
            count = len(self.frames[outsiders[0], operation][0])
            for place in range(count):
                rest = {rank: self.unknown(rank, operation, place, coalition) for rank in outsiders}
                if operation == "open the squares":
                    # All together are as the output says; any fewer must say nothing.
                    rest.pop(outsiders[-1])
                for rank, (first, second) in rest.items():
                    yield f"{operation} {place} of {rank}", p_uniform(byte_counts(first))
                    yield f"{operation} {place} of {rank}, twice", p_uniform(byte_counts(first - second))
                if len(rest) > 1:
                    total = torch.stack([first for first, _ in rest.values()]).sum(0)
                    yield f"{operation} {place} of all", p_uniform(byte_counts(total))
        for operation, fields in BITS.items():
            sent = [[tensors[0] for tensors in self.frames[rank, operation]] for rank in outsiders]
            looks = [first for first, _ in sent] + [first ^ second for first, second in sent]
            for other, _ in sent[1:]:
                looks.append(sent[0][0] ^ other)
            for look, (low, width) in itertools.product(looks, fields):
                yield operation, p_uniform(bit_counts(look, low, width))

    def unknown(
        self, sender: int, operation: str, place: int, coalition: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both openings of a tensor less what the coalition knows of the sender's share."""
        of_sender = self.known[sender][operation][place]
        known = torch.stack([of_sender[peer] for peer in coalition]).sum(0)
        first, second = (tensors[place] for tensors in self.frames[sender, operation])
        return first - known, second - known


@pytest.mark.parametrize("n", [2, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 5))])
def test_what_a_coalition_receives_is_uniform_whatever_the_others_secrets_are(n: int) -> None:
    views = [View(n, sign, seed) for sign, seed in ((1, 100 + n), (-1, 200 + n))]
    for opened in (*views[0].opened, *views[1].opened):
        assert all(torch.equal(result, views[0].opened[0][0]) for result in opened)
    for coalition in coalitions(n):
        for view in views:
            for look, p in view.findings(coalition):
                assert p > LEAST, f"{coalition} of {n} sees something in {look}: p = {p}"
    # Two inputs with equal output: each message is distributed alike under both.
    for key, openings in views[0].frames.items():
        for mine, theirs in zip(openings, views[1].frames[key], strict=True):
            for first, second in zip(mine, theirs, strict=True):
                assert p_same(byte_counts(first), byte_counts(second)) > LEAST, key


def test_bits_that_carry_nothing_are_zero() -> None:
    view = View(2, 1, 500)
    for operation, fields in BITS.items():
        used = sum(((1 << width) - 1) << low for low, width in fields)
        for (tensor,) in view.frames[1, operation]:
            assert not bool((tensor & ~torch.tensor(used, dtype=tensor.dtype)).any())


# The detector itself: each planted fault must show.


def zero_masks(operation_kind: str) -> Callable[..., None]:
    genuine = Dealt.__init__

    def forgetful(self: Dealt, source: Correlations, request: Any, index: int, stream: Any) -> None:
        genuine(self, source, request, index, stream)
        if request.kind == operation_kind and source._transport.rank == 1:
            self.masks = tuple(torch.zeros_like(mask) for mask in self.masks)

    return forgetful


def one_stream_for_all(self: Dealt, source: Correlations, request: Any, index: int, stream: Any) -> None:
    from mpcpriv.engine.correlation.base import expand

    self._source, self._request, self._index, self._stream = source, request, index, stream
    self.masks = expand(source._prg.stream(0), request.masks())


def neighbours_only(self: Session, shape: tuple[int, ...], group: Any = "sum") -> torch.Tensor:
    """CrypTen's zero sharing: only the neighbours on a ring have a key in common."""
    slot, share = Slot(shape, torch.int64, group), torch.zeros(shape, dtype=torch.int64)
    for peer in {(self.rank + 1) % self.size, (self.rank - 1) % self.size}:
        piece = self._zero_keys[peer].stream(self._zero_index).tensor(shape)
        (slot.combine_ if self.rank < peer else slot.separate_)(share, piece)
    self._zero_index += 1
    return share


def not_rerandomised(
    self: Session, operation: str, share: torch.Tensor, recipients: list[int], group: Any = "sum"
) -> torch.Tensor:
    (total,) = self.open(operation, [share], group)
    return total


def seen(n: int) -> set[str]:
    """The looks at which some coalition sees something."""
    view = View(n, 1, 600 + n)
    return {
        look.split(" of ")[0]
        for coalition in coalitions(n)
        for look, p in view.findings(coalition)
        if p <= LEAST
    }


@pytest.mark.parametrize(
    ("kind", "operations"),
    [
        ("triple", {"mul: x - a, y - b 0", "mul: x - a, y - b 1", "matmul: x - a, y - b 0"}),
        ("square", {"square: x - a 0"}),
        ("truncation", {"truncate 0"}),
        ("threshold", {"compare: x + r 0", "compare: first folds", "compare: second fold", "compare: daBit"}),
    ],
)
@pytest.mark.parametrize("n", [2, 3])
def test_a_party_that_forgets_its_mask_is_seen(kind: str, operations: set[str], n: int) -> None:
    with mock.patch.object(Dealt, "__init__", zero_masks(kind)):
        found = seen(n)
    if kind == "threshold":  # fold words belong to the masks: without them the bits are not all even
        assert found & operations >= {"compare: x + r 0", "compare: first folds"}
    else:
        assert found >= operations


def test_a_mask_used_twice_is_seen() -> None:
    with mock.patch.object(Dealt, "__init__", one_stream_for_all):
        assert {"square: x - a 0", "truncate 0", "compare: x + r 0", "compare: first folds"} <= seen(2)


# An operand that stays the same: opened once, with several others one after the other.


def one_with_several(session: Session, sign: int) -> dict[str, Pieces]:
    """x y, x z, z w and x w, each but the last opening something; who knows what of the shares."""
    secrets = [shared_sum(session, sign * (session.rank + k) << 16, (SIZE,)) for k in (3, 7, 9, 1)]
    x, y, z, w = (Operand(share) for share, _ in secrets)
    for left, right in ((x, y), (x, z), (z, w), (x, w)):
        product(session, Bilinear("mul"), left, right)
    return dict(zip("xyzw", (known for _, known in secrets), strict=True))


def looks_at_what_stays(n: int, sign: int, seed: int) -> Iterator[tuple[str, float]]:
    """What every coalition can see of it: openings, each two of them, and what the dealer sends."""
    sight = Sight()
    known = run(n, one_with_several, sign, sight=sight, seed=seed)
    for coalition in coalitions(n):
        for sender in (rank for rank in range(n) if rank not in coalition):
            frames = [f for f in sight.frames(coalition[0], sender) if f.operation.startswith("mul")]
            assert [f.operation for f in frames] == ["mul: x - a, y - b", "mul: y - b", "mul: y - b"]
            opened = dict(zip("xyzw", (tensor for frame in frames for tensor in frame.tensors), strict=True))
            seen = {
                name: share - torch.stack([known[sender][name][peer] for peer in coalition]).sum(0)
                for name, share in opened.items()
            }
            for name, share in seen.items():
                yield f"{name} - its mask", p_uniform(byte_counts(share))
            for one, two in itertools.combinations("xyzw", 2):
                yield f"{one} and {two}", p_uniform(byte_counts(seen[one] - seen[two]))
    dealt = [
        torch.frombuffer(bytearray(message[-8 * SIZE :]), dtype=torch.int64)
        for rank in range(n)
        for message in sight.received[rank, n][1:]
    ]
    assert len(dealt) == 4
    for i, correction in enumerate(dealt):
        yield f"correction {i}", p_uniform(byte_counts(correction))
        for j in range(i):
            yield f"corrections {i}, {j}", p_uniform(byte_counts(correction - dealt[j]))


@pytest.mark.parametrize("n", [2, 3])
def test_what_is_seen_of_an_operand_that_stays_is_uniform(n: int) -> None:
    for sign, seed in ((1, 900 + n), (-1, 950 + n)):
        for look, p in looks_at_what_stays(n, sign, seed):
            assert p > LEAST, look


def test_the_mask_of_an_operand_that_stays_is_seen_where_it_hides_another_value() -> None:
    with mock.patch.object(Dealt, "__init__", one_stream_for_all):
        seen = {look for look, p in looks_at_what_stays(2, 1, 960) if p <= LEAST}
    assert {"x and z", "x and w", "z and w"} <= seen
    assert "x and y" not in seen


# Opened sums, share by share (CrypTen S11).


def opened_sum(
    session: Session, secrets: torch.Tensor
) -> tuple[torch.Tensor | None, list[Pieces], torch.Tensor]:
    """Opens the sum of everybody's row of `secrets`; also what each peer knows of this party's message."""
    known = []
    share = torch.zeros(secrets.shape[1], dtype=torch.int64)
    for source in range(session.size):
        known.append(pieces(session, session._zero_index, tuple(share.shape)))
        mine = secrets[source] if session.rank == source else None
        share += session.share_input(source, tuple(share.shape), mine)
    known.append(pieces(session, session._zero_index, tuple(share.shape)))
    result = session.open_to("open the sum", share, list(range(session.size)))
    return result, known, share


def attack(n: int, victim: int, coalition: tuple[int, ...], secrets: torch.Tensor, seed: int) -> torch.Tensor:
    """The victim's message less all that the coalition knows of it."""
    sight = Sight()
    results = run(n, opened_sum, secrets, sight=sight, seed=seed)
    for total, _, _ in results:
        assert torch.equal(total, secrets.sum(0))
    (frame,) = [f for f in sight.frames(coalition[0], victim) if f.operation == "open the sum"]
    known = [step[peer] for step in results[victim][1] for peer in coalition]
    return frame.tensors[0] - torch.stack(known).sum(0)


def some_secrets(n: int, count: int) -> torch.Tensor:
    from mpcpriv.engine.prg import Prg

    return Prg(bytes(16)).stream(n).tensor((n, count)) >> 30


@pytest.mark.parametrize("victim", range(5))
def test_both_ring_neighbours_of_five_recover_nothing(victim: int) -> None:
    secrets = some_secrets(5, TRIALS)
    guess = attack(5, victim, ((victim + 1) % 5, (victim - 1) % 5), secrets, seed=700 + victim)
    assert int((guess == secrets[victim]).sum()) == 0
    assert p_uniform(byte_counts(guess)) > LEAST


def test_the_ring_attack_works_on_crypten_s_zero_sharing() -> None:
    secrets = some_secrets(5, TRIALS)
    with mock.patch.object(Session, "zero_share", neighbours_only):
        guess = attack(5, 2, (1, 3), secrets, seed=710)
    assert int((guess == secrets[2]).sum()) == TRIALS


def test_the_ring_attack_works_where_openings_are_not_rerandomised() -> None:
    with mock.patch.object(Session, "open_to", not_rerandomised), pytest.raises(AssertionError):
        test_what_a_coalition_receives_of_an_opened_sum_is_its_total_only()


@pytest.mark.parametrize("victim", range(5))
def test_four_of_five_learn_the_fifth_from_the_output_and_not_before(victim: int) -> None:
    secrets = some_secrets(5, TRIALS)
    others = tuple(rank for rank in range(5) if rank != victim)
    guess = attack(5, victim, others, secrets, seed=720 + victim)
    assert torch.equal(guess, secrets.sum(0) - secrets[list(others)].sum(0))


def test_what_a_coalition_receives_of_an_opened_sum_is_its_total_only() -> None:
    """Shares of one number known to all: re-randomised, only their sum says anything."""

    def program(session: Session) -> list[Pieces]:
        share = torch.full((TRIALS,), session.rank + 1)  # as bad as shares can be
        known = pieces(session, session._zero_index, (TRIALS,))
        session.open_to("open the sum", share, list(range(session.size)))
        return [known]

    for n in (3, 4, 5):
        sight = Sight()
        results = run(n, program, sight=sight, seed=730)
        for coalition in coalitions(n):
            outsiders = [rank for rank in range(n) if rank not in coalition]
            rest = []
            for sender in outsiders:
                (frame,) = sight.frames(coalition[0], sender)
                rest.append(frame.tensors[0] - sum(results[sender][0][peer] for peer in coalition))
            assert torch.equal(
                sum(rest, torch.tensor(0)), torch.full((TRIALS,), sum(outsiders) + len(outsiders))
            )
            for partial in itertools.accumulate(rest[:-1]):
                assert p_uniform(byte_counts(partial)) > LEAST


# Opening to one party (CrypTen S3).


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_result_opened_to_one_party_reaches_nobody_else(n: int) -> None:
    dst = 1

    def program(session: Session) -> tuple[Any, torch.Tensor, int, int]:
        import crypten

        crypten.init()
        x = crypten.cryptensor(torch.full((SIZE,), 1234.5), src=0)
        y = crypten.cryptensor(torch.full((SIZE,), -2.0), src=n - 1)
        z = x * y
        before = [len(sight.sent[session.rank, peer]) for peer in range(n)]
        opened = z.get_plain_text(dst=dst)
        after = [len(sight.sent[session.rank, peer]) for peer in range(n)]
        return opened, z.share.clone(), *[b - a for a, b in zip(before, after, strict=True)]

    sight = Sight()
    results = run(n, program, sight=sight, seed=800 + n)
    for rank, (opened, _, *sent) in enumerate(results):
        if rank == dst:
            assert torch.equal(opened, torch.full((SIZE,), -2469.0, dtype=torch.float64))
        else:
            assert opened is None
        assert sent == [int(peer == dst != rank) for peer in range(n)]
    for receiver, sender in itertools.permutations(range(n), 2):
        opened_frames = [f for f in sight.frames(receiver, sender) if f.operation.startswith("open to")]
        assert len(opened_frames) == (receiver == dst)

    # What the others hold of the result, alone and together: shares that lack the recipient's own.
    value = torch.full((SIZE,), -2469 << 16)
    others = [rank for rank in range(n) if rank != dst]
    for count in range(1, n):
        for group in itertools.combinations(others, count):
            held = torch.stack([results[rank][1] for rank in group]).sum(0)
            assert p_uniform(byte_counts(held)) > LEAST
            assert p_uniform(byte_counts(value - held)) > LEAST
    # And no message to them, in any round, is off the value by anything but a mask.
    for receiver, sender in itertools.product(others, range(n)):
        for frame in sight.frames(receiver, sender) if receiver != sender else []:
            for tensor in frame.tensors:
                assert p_uniform(byte_counts(tensor)) > LEAST
                assert not bool((tensor == value).any())


def test_a_result_may_be_opened_to_some_parties() -> None:
    def program(session: Session) -> Any:
        import crypten

        crypten.init()
        return crypten.cryptensor(torch.tensor([1.5, -2.0]), src=0).get_plain_text(dst=[0, 2])

    results = run(4, program)
    assert results[1] is None
    assert results[3] is None
    assert results[0].tolist() == results[2].tolist() == [1.5, -2.0]
