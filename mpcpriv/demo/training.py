"""Logistic regression on shares, standardised features included; nothing is opened here.

The objective is scikit-learn's default: the sum of log-losses + penalty / 2 * |w|^2, on features of mean
0 and variance 1, the intercept not penalised.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from mpcpriv.engine.tensor import SharedTensor

_UNIT = 16.0
"""The Hessian is held divided by this, so that it and its inverse both keep their digits in fixed point."""

_FIRST, _LATER = 12, 3
"""Iterations for the inverse of the first Hessian, and of one that is close to the one before."""


def standardise(x: SharedTensor) -> tuple[SharedTensor, SharedTensor, SharedTensor]:
    """Standardises the columns.

    Args:
        x: (n, d), columns of standard deviation 0.3 to 4.

    Returns:
        x with mean 0 and variance 1 per column; the means (d,); one over the standard deviations (d,).
    """
    mean = x.mean(0)
    centred = x - mean
    per_spread = centred.square().mean(0).inv_sqrt()
    return centred * per_spread, mean, per_spread


def train(
    x: SharedTensor, y: SharedTensor, steps: int, penalty: float, progress: Callable[[int], None]
) -> SharedTensor:
    """Newton's method on all rows: it needs few steps, and so few comparisons and rounds.

    The inverse of the Hessian is followed by Schulz's iteration (G. Schulz, ZAMM 13, 1933), starting
    from the last step's. It need not be exact: the gradient is, and it decides where the steps end.

    Args:
        x: (n, d), standardised.
        y: (n,), 0 or 1.
        penalty: at least 1.
        progress: called after each step, with its number, from 1.

    Returns:
        the weights (d + 1,), the intercept last.
    """
    rows, columns = x.shape
    x = SharedTensor.cat([x, SharedTensor.constant(torch.ones(rows, 1))], dim=1)
    across = x.t()
    ridge = torch.tensor([penalty] * columns + [0.0])
    # Its trace bounds the Hessian: a probability p has p (1 - p) <= 1/4, a standardised column length n.
    # Starting below the inverse, the iteration stays below it, and the first step falls short, never beyond.
    bound = rows * (columns + 1) / 4 + penalty * columns
    inverse = SharedTensor.constant(torch.eye(columns + 1) * (_UNIT / bound))
    weights = SharedTensor.constant(torch.zeros(columns + 1))
    for step in range(steps):
        probability = x.matmul(weights).sigmoid()
        gradient = across.matmul(probability - y) + weights * ridge
        certainty = (probability - probability.square()).unsqueeze(1)
        hessian = across.matmul(x * certainty) / _UNIT + torch.diag(ridge / _UNIT)
        for _ in range(_LATER if step else _FIRST):
            inverse = inverse.mul(2) - inverse.matmul(hessian.matmul(inverse))
        weights = weights - inverse.matmul(gradient / _UNIT)
        progress(step + 1)
    return weights


def fold(weights: SharedTensor, mean: SharedTensor, per_spread: SharedTensor) -> SharedTensor:
    """The same model, (d + 1,), for features that are not standardised: means and spreads stay secret."""
    coefficients = weights[:-1] * per_spread
    intercept = weights[-1:] - (coefficients * mean).sum().reshape(1)
    folded: SharedTensor = SharedTensor.cat([coefficients, intercept])
    return folded
