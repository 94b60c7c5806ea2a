"""The group of the protocols: points of Curve25519 by their u-coordinates, 32 bytes each, by libsodium.

A digest is mapped to the subgroup of prime order by Elligator 2 on edwards25519 with the cofactor cleared
(RFC 9380, "encode to curve"), and its point becomes a u-coordinate (RFC 7748, section 4.1). That map meets
about half of the group unevenly, which does no harm here: it can be sampled and inverted, so a reduction to
decisional Diffie-Hellman draws points and rejects those that have no preimage. Hashing straight to a
u-coordinate would: half of those lie on the twist, and a scalar keeps them there, one visible bit of each.

Scalars are X25519's, multiples of 8, so a small-order part of what a peer sends has no effect, and a
coordinate on the twist, whose order is 4 times a prime, tells its sender nothing of the scalar either.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from mpcpriv.errors import FrameRefused, Unsupported

try:
    from nacl import bindings, exceptions
except ImportError:  # pragma: no cover - the tests have it
    bindings = None  # type: ignore[assignment]

POINT: Final = 32
CHUNK: Final = 4096
"""Points in one message and in one piece of work."""

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_HIGH: Final = np.uint64(2**63 - 1)
_FULL: Final = np.uint64(2**64 - 1)


def installed() -> bool:
    """Whether PyNaCl is, without which nothing can be aligned here."""
    return bindings is not None


def required() -> None:
    """Raises Unsupported where PyNaCl is not installed."""
    if not installed():
        raise Unsupported("alignment needs PyNaCl, which is not here: pip install 'mpcpriv[alignment]'")


def _unwatched(points: int) -> None:
    del points


@dataclass(frozen=True)
class Workers:
    """Who multiplies points.

    Attributes:
        threads: that compute at once.
        advanced: called with how many points were multiplied, each time some were.
    """

    threads: int
    advanced: Callable[[int], None] = _unwatched


class Secret:
    """A scalar of one run; never shown."""

    __slots__ = ("_scalar",)

    def __init__(self, scalar: bytes) -> None:
        self._scalar = scalar

    @classmethod
    def fresh(cls) -> Self:
        """A new one, clamped (RFC 7748, section 5)."""
        scalar = bytearray(os.urandom(32))
        scalar[0] &= 248
        scalar[31] = scalar[31] & 127 | 64
        return cls(bytes(scalar))

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Two that undo each other: `second.times(first.times(u))` is u for points of prime order.

        A clamped scalar has an inverse, up to a sign that u does not show, of clamped form for about three
        keys of four; others are drawn anew, so that the first is uniform among those.
        """
        while True:
            first = cls.fresh()
            scalar = first._inverse()  # noqa: SLF001 - of this class
            if scalar is not None:
                return first, cls(scalar)

    def _inverse(self) -> bytes | None:
        inverse = pow(int.from_bytes(self._scalar, "little"), -1, _ORDER)
        for candidate in (inverse, _ORDER - inverse):
            for scalar in range(candidate, 2**255, _ORDER):
                if scalar >= 2**254 and scalar % 8 == 0:
                    return scalar.to_bytes(32, "little")
        return None

    def times(self, points: np.ndarray, peer: str) -> np.ndarray:
        """The multiples of a peer's points, (n, 32) uint8.

        Raises:
            FrameRefused: a coordinate is not below 2^255 - 19, or of small order.
        """
        words = np.ascontiguousarray(points).view("<u8")
        top = words[:, 3]
        beyond = (top == _HIGH) & (words[:, 2] == _FULL) & (words[:, 1] == _FULL)
        if ((top > _HIGH) | (beyond & (words[:, 0] >= _FULL - np.uint64(18)))).any():
            raise FrameRefused(peer, f"{peer} sent a point that is not in canonical form")
        try:
            return _table([bindings.crypto_scalarmult(self._scalar, p) for p in _each(points)])
        except exceptions.RuntimeError:  # libsodium: the product is the neutral element
            raise FrameRefused(peer, f"{peer} sent a point of small order") from None

    def of(self, digests: np.ndarray, domain: bytes) -> np.ndarray:
        """The multiples of these digests' points, (n, 32) uint8.

        Args:
            digests: (n, 32) uint8.
            domain: the run; digests have other points in another one.
        """
        points = _to_group([domain + digest for digest in _each(digests)])
        return _table([bindings.crypto_scalarmult(self._scalar, point) for point in points])


def _to_group(texts: list[bytes]) -> list[bytes]:
    """The point of each text, as u = (1 + y) / (1 - y); one inversion serves all (Montgomery 1987)."""
    uniform = [hashlib.sha512(b"mpcpriv alignment group v1" + text).digest()[:32] for text in texts]
    edwards = [bindings.crypto_core_ed25519_from_uniform(one) for one in uniform]
    ys = [int.from_bytes(point, "little") & (2**255 - 1) for point in edwards]
    products = [1]
    for y in ys:
        products.append(products[-1] * (1 - y) % _P)
    inverse = pow(products[-1], -1, _P)  # y = 1 is the neutral element: one text in 2^252
    found = []
    for y, before in zip(reversed(ys), reversed(products[:-1]), strict=True):
        found.append(((1 + y) * inverse * before % _P).to_bytes(POINT, "little"))
        inverse = inverse * (1 - y) % _P
    return found[::-1]


def in_order(
    work: Callable[[np.ndarray], np.ndarray], chunks: Iterable[np.ndarray], workers: Workers
) -> Iterator[np.ndarray]:
    """`work` of each chunk, in order, on so many threads: libsodium runs without the interpreter's lock.

    At most two chunks per thread are under way, so that memory does not grow with their number.
    """

    def done(future: Future[np.ndarray]) -> np.ndarray:
        found = future.result()
        workers.advanced(len(found))
        return found

    with ThreadPoolExecutor(workers.threads, thread_name_prefix="alignment") as pool:
        pending: deque[Future[np.ndarray]] = deque()
        try:
            for chunk in chunks:
                pending.append(pool.submit(work, chunk))
                if len(pending) >= 2 * workers.threads:
                    yield done(pending.popleft())
            while pending:
                yield done(pending.popleft())
        finally:
            for future in pending:
                future.cancel()


def pieces(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive chunks of an array's rows."""
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def _each(rows: np.ndarray) -> list[bytes]:
    data, width = rows.tobytes(), rows.shape[1]
    return [data[i : i + width] for i in range(0, len(data), width)]


def _table(rows: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, POINT)
