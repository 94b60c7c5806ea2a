"""Which of several sums is the largest, chosen on shares: report-noisy-max with one-sided geometric noise.

Every party adds to each sum its own noise, of weight exp(-x / b) at x = 0, 1, 2 ...; the first of the largest
sums is opened, by its place alone. With b = Δ / ε, where one row moves a sum by at most Δ and all of them the
same way, this is ε-differentially private, and with 2 Δ / ε where it may move some up and others down.

What one party's noise does. Take everybody else's noise as known, colluding or not: it shifts the sums by
whole numbers, and shifted sums move with a row as before. Take the party's own noise in all places but i as
known, too. Place i is chosen if and only if the noise there is at least some k: the largest of the others'
sums, and one more if that one comes first, less the sum at i. A row moves k by at most Δ, or 2 Δ, by whole
numbers; so P(x >= k) = exp(-max(k, 0) / b), which is never 0, changes by a factor of exp(ε) at most. This
holds for each k, so for all noise together, whatever colluding parties tell of theirs. The noise of a second
honest party is not counted, as with Laplace noise.

One party's noise, with ties decided by chance, makes it the permute-and-flip mechanism exactly (McKenna and
Sheldon, "Permute-and-Flip", NeurIPS 2020; Ding et al., "The Permute-and-Flip Mechanism is Identical to
Report-Noisy-Max with Exponential Noise", 2021), which errs no more than the exponential mechanism: an
exponential variable is its whole part, which is geometric, and an independent fraction, which decides ties.
Deciding them by place needs no randomness inside and has the same ε; on a grid that is finer than a row they
are rare. Discrete Laplace noise of the same b has twice the variance. Gumbel noise, with which many choices
cost less together (`Loss.bounded_range`), has more than this, and no exact form on a grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from mpcpriv.engine.session import Session


def largest(session: Session, sums: torch.Tensor) -> torch.Tensor:
    """The place of the largest sum, of equal ones the first; noised before, where there is noise.

    Args:
        session: of this party.
        sums: what this party has of each, (d,): its own rows' sums, and its noise.

    Returns:
        (1,), its share of the place.
    """
    from mpcpriv.engine.tensor import SharedTensor

    # What a party has here is its own alone; from here on it is a share like any other.
    place: Any = SharedTensor.of(sums + session.zero_share(tuple(sums.shape))).argmax(one_hot=False)
    whole: torch.Tensor = place.at(0).reshape(1)
    return whole
