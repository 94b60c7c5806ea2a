"""The maximum of shared values and its place, by a binary tree of comparisons.

All comparisons of a level go in one batch: ceil(log2 n) levels of five rounds each.
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from mpcpriv.engine.protocol.compare import below
from mpcpriv.engine.protocol.multiply import product
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.session import Session


def tournament(session: Session, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of the maximum over the last dimension, and of its place, one-hot.

    Of equal values the first wins.

    Args:
        x: shares of ring elements whose differences stay in [-2^63, 2^63), in shape (..., n), n > 0.

    Returns:
        shares in shape (...) and shares of 0 and 1 in shape (..., n).
    """
    count = x.shape[-1]
    # Candidate j of a level stands for `width` consecutive values; `hot` marks the best among them.
    hot = torch.full((*x.shape, 1), int(session.rank == 0), dtype=torch.int64)
    while x.shape[-1] > 1:
        paired, width = x.shape[-1] // 2 * 2, hot.shape[-1]
        left, right = x[..., 0:paired:2], x[..., 1:paired:2]
        hot_left, hot_right = hot[..., 0:paired:2, :], hot[..., 1:paired:2, :]
        right_wins = below(session, left - right, [0])
        swap = torch.cat([(right - left).unsqueeze(-1), -hot_left, hot_right], -1)
        swap = product(session, Bilinear("mul"), right_wins, swap)
        best = left + swap[..., 0]
        place = pad(hot_left, (0, width)) + swap[..., 1:]
        x = torch.cat([best, x[..., paired:]], -1)
        hot = torch.cat([place, pad(hot[..., paired:, :], (0, width))], -2)
    return x[..., 0], hot[..., 0, :count].contiguous()
