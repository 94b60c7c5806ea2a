"""Noise that nobody knows: every party adds its own to its own share, and nothing is sent.

The noise is of integers, in units of the tensor's own grid (2^-bits), so nothing is rounded between the bound
on a row's contribution and the noise. How long a draw takes depends on its value, never on data; whoever can
draws before the data are touched (`Ahead`), so that not even that is seen beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mpcpriv.engine import session
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    from mpcpriv.privacy.mechanism import Noise


class Ahead:
    """Noise for several releases of one size, drawn when this is made; each is used once."""

    def __init__(self, noise: Noise, size: int, times: int) -> None:
        """Draws; in a rehearsal nothing is.

        Args:
            noise: of each party, in units of the grid of what will be perturbed.
            size: elements of each release.
            times: how many releases.

        Raises:
            UsageError: the noise is for another number of parties.
        """
        s = session.current()
        if noise.parties != s.size:
            raise UsageError(f"noise of {noise.parties} parties, and {s.size} compute")
        self._noise, self._size = noise, size
        self._drawn = list(torch.split(s.private_integers(noise.share, size * times), size)) if size else []

    def perturb(self, x: SharedTensor) -> SharedTensor:
        """x with the next draw of each party added; as many fractional bits as x has; no communication.

        Raises:
            UsageError: x has another size, or all draws are used.
        """
        if x.nelement() != self._size:
            raise UsageError(f"noise for {self._size} elements cannot perturb {x.nelement()}")
        if x.nelement() and not self._drawn:
            raise UsageError("all noise that was drawn ahead is used; none is used twice")
        # Whoever adds noise of another scale runs another program, and is noticed at the next frame.
        session.current().note(
            f"noise {self._noise.kind} {self._noise.scale} of {x.bits} bits", tuple(x.shape)
        )
        own = self._drawn.pop() if x.nelement() else x.share
        return SharedTensor.of(x.share + own.reshape(x.share.shape), x.bits)


def perturb(x: SharedTensor, noise: Noise) -> SharedTensor:
    """x with fresh noise of every computing party added; no communication.

    Args:
        x: of any shape, with b fractional bits.
        noise: of each party, in units of 2^-b.

    Raises:
        UsageError: the noise is for another number of parties.
    """
    return Ahead(noise, x.nelement(), 1).perturb(x)
