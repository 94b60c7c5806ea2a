"""Whether integers look uniform: chi-squared over the values of their bytes, or of some of their bits."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

LEAST = 1e-6
"""The p-value below which a test says: this is not uniform."""


def byte_counts(values: torch.Tensor) -> np.ndarray:
    """How often each byte value stands at each byte's place: (bytes per element, 256)."""
    rows = values.contiguous().reshape(-1, 1).numpy().view(np.uint8)
    places = rows.astype(np.int64) + 256 * np.arange(rows.shape[1])
    return np.bincount(places.ravel(), minlength=256 * rows.shape[1]).reshape(-1, 256)


def bit_counts(values: torch.Tensor, low: int, width: int) -> np.ndarray:
    """How often each value of `width` bits from bit `low` on occurs: (1, 2^width)."""
    chosen = (values.to(torch.int64).flatten() >> low) & ((1 << width) - 1)
    return torch.bincount(chosen, minlength=1 << width).numpy().reshape(1, -1)


def p_uniform(counts: np.ndarray) -> float:
    """The chance of counts at least this uneven, were each row uniform."""
    expected = counts.sum(1, keepdims=True) / counts.shape[1]
    statistic = float((((counts - expected) ** 2) / expected).sum())
    return float(stats.chi2.sf(statistic, counts.shape[0] * (counts.shape[1] - 1)))


def p_same(first: np.ndarray, second: np.ndarray) -> float:
    """The chance of counts at least this different, were both drawn from one distribution."""
    total = first + second
    held = total > 0
    size = first.sum(1, keepdims=True) / total.sum(1, keepdims=True)
    expected = (total * size)[held], (total * (1 - size))[held]
    statistic = sum(
        float(((c[held] - e) ** 2 / e).sum()) for c, e in zip((first, second), expected, strict=True)
    )
    return float(stats.chi2.sf(statistic, int(held.sum()) - first.shape[0]))
