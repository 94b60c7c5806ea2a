"""The maximum of shared values and its place: rounds of small tournaments in which all meet all.

In a group of g values every pair is compared at once (four rounds); a value wins if it wins its
g - 1 comparisons, a product tree of ceil(log2(g - 1)) rounds; one more round selects the winner.
Groups of ten need 27 rounds for a thousand values, where a binary tree needs fifty.
"""

from __future__ import annotations

import torch

from mpcpriv.engine.encoding import RING_LIMIT
from mpcpriv.engine.protocol.compare import below
from mpcpriv.engine.protocol.multiply import product
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.session import Session

_MUL = Bilinear("mul")
_GROUP, _LARGE, _GROUP_OF_LARGE = 10, 1 << 14, 4
"""Larger groups save rounds and cost comparisons: g - 1 over 2 for each value."""


def tournament(session: Session, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Shares of the maximum over the last dimension, and who won in each round's groups.

    Of equal values the first wins.

    Args:
        x: shares of ring elements whose differences stay in [-2^63, 2^63), in shape (..., n), n > 0.

    Returns:
        shares in shape (...); and for `place`, by round, shares of 0 and 1 in shape (..., groups, size).
    """
    winners = []
    while x.shape[-1] > 1:
        group = min(x.shape[-1], _GROUP if x.shape[-1] < _LARGE else _GROUP_OF_LARGE)
        groups = _grouped(session, x, group)
        won = _winners(session, groups)
        x = product(session, _MUL, won, groups).sum(-1)
        winners.append(won)
    return x[..., 0], winners


def place(session: Session, winners: list[torch.Tensor], count: int) -> torch.Tensor:
    """Shares of where the maximum of `count` values stands, one-hot, in shape (..., count).

    One round for each round of the tournament but one.
    """
    if not winners:
        raise ValueError("one value alone has no winners")
    hot = winners[-1].flatten(-2)
    for won in reversed(winners[:-1]):
        groups = won.shape[-2]
        hot = product(session, _MUL, hot[..., :groups].unsqueeze(-1), won).flatten(-2)
    return hot[..., :count].contiguous()


def _grouped(session: Session, x: torch.Tensor, group: int) -> torch.Tensor:
    """In shape (..., groups, group); what is missing in the last group loses to everything."""
    missing = -x.shape[-1] % group
    lowest = -RING_LIMIT if session.rank == 0 else 0
    padded = torch.nn.functional.pad(x, (0, missing), value=lowest)
    return padded.reshape(*x.shape[:-1], -1, group)


def _winners(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of 1 where a value wins against all others of its group, which are along the last dimension."""
    size = x.shape[-1]
    first, second = torch.triu_indices(size, size, offset=1)
    loses = below(session, x[..., first] - x[..., second], [0])[..., 0]  # the first against the second
    wins = -loses
    if session.rank == 0:
        wins = wins + 1
    results = torch.empty(*x.shape, size - 1, dtype=torch.int64)
    results[..., first, second - 1] = wins
    results[..., second, first] = loses
    while results.shape[-1] > 1:
        pairs = results.shape[-1] // 2
        both = product(session, _MUL, results[..., :pairs], results[..., pairs : 2 * pairs])
        results = torch.cat([both, results[..., 2 * pairs :]], -1)
    return results[..., 0]
