"""Pooling in one and two dimensions, as torch's: with uneven padding, dilation and `ceil_mode`."""

from __future__ import annotations

import math
from typing import Any

import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import RING_LIMIT
from mpcpriv.engine.protocol.tournament import tournament
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.tensor.arithmetic import _geometry
from mpcpriv.engine.tensor.comparison import Comparison, place_of
from mpcpriv.errors import UsageError

Pair = tuple[int, ...]


class Pooling(Comparison):
    """Maxima and means of windows."""

    def max_pool2d(
        self,
        kernel_size: Any,
        padding: Any = 0,
        stride: Any = None,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        """As `torch.nn.functional.max_pool2d`; indices come one-hot within each window.

        Of equal values the first of the window counts. Rounds as the maximum of a window.

        Raises:
            UsageError: padding above half of what a window spans.
        """
        kernel, pads = _geometry(kernel_size, 2), _geometry(padding, 2)
        strides, gaps = _geometry(stride or kernel_size, 2), _geometry(dilation, 2)
        spans = tuple(g * (k - 1) + 1 for k, g in zip(kernel, gaps, strict=True))
        if any(2 * p > n for p, n in zip(pads, spans, strict=True)):
            raise UsageError(f"max_pool2d with padding {list(pads)}: at most half of a window, {list(spans)}")
        sizes = tuple(self._tensor.shape[-2:])
        _, behind = windows(sizes, spans, strides, pads, ceil_mode)
        # What is padded loses to every value that can be encoded.
        lowest = -RING_LIMIT if session.current().rank == 0 else 0
        padded = torch.nn.functional.pad(self._tensor, (pads[1], behind[1], pads[0], behind[0]), value=lowest)
        cut = padded.unfold(-2, spans[0], strides[0]).unfold(-2, spans[1], strides[1])
        cut = cut[..., :: gaps[0], :: gaps[1]]
        lines = cut.reshape(*cut.shape[:-2], math.prod(kernel))
        best, winners = tournament(session.current(), lines)
        value = self.of(best, self.bits)
        if not return_indices:
            return value
        return value, self.of(place_of(lines.shape, winners).reshape(cut.shape), 0)

    def max_pool1d(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        """As `torch.nn.functional.max_pool1d`; indices come one-hot within each window."""
        (kernel,), (step,) = _geometry(kernel_size, 1), _geometry(stride or kernel_size, 1)
        (pad,), (gap,) = _geometry(padding, 1), _geometry(dilation, 1)
        value, hot = self.unsqueeze(-2).max_pool2d(
            (1, kernel), (0, pad), (1, step), (1, gap), ceil_mode, return_indices=True
        )
        value = value.squeeze(-2)
        return (value, hot.squeeze(-2).squeeze(-3)) if return_indices else value

    def avg_pool2d(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        """As `torch.nn.functional.avg_pool2d`; one round."""
        kernel, pads = _geometry(kernel_size, 2), _geometry(padding, 2)
        strides = _geometry(stride or kernel_size, 2)
        factor, behind = mean_factors(
            tuple(self._tensor.shape[-2:]),
            kernel,
            strides,
            pads,
            ceil_mode,
            count_include_pad,
            divisor_override,
        )
        padded = torch.nn.functional.pad(self._tensor, (pads[1], behind[1], pads[0], behind[0]))
        channels = self._tensor.shape[-3]
        ones = torch.ones(channels, 1, *kernel, dtype=torch.int64)
        window = Bilinear("conv2d", strides, (0, 0), (), (1, 1), groups=channels)
        return self.of(window(padded, ones), self.bits).mul(factor)

    def avg_pool1d(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> Any:
        """As `torch.nn.functional.avg_pool1d`; one round."""
        (kernel,), (step,) = _geometry(kernel_size, 1), _geometry(stride or kernel_size, 1)
        (pad,) = _geometry(padding, 1)
        pooled = self.unsqueeze(-2).avg_pool2d((1, kernel), (1, step), (0, pad), ceil_mode, count_include_pad)
        return pooled.squeeze(-2)


def windows(sizes: Pair, spans: Pair, strides: Pair, pads: Pair, ceil_mode: bool) -> tuple[Pair, Pair]:
    """How many windows there are along each dimension, and how much is padded behind for the last one.

    Raises:
        UsageError: a window is larger than the padded input.
    """
    counts, behind = [], []
    for size, span, stride, pad in zip(sizes, spans, strides, pads, strict=True):
        free = size + 2 * pad - span
        if free < 0 or stride < 1:
            raise UsageError(f"pooling of {list(sizes)} by windows that span {list(spans)}")
        count = (-(-free // stride) if ceil_mode else free // stride) + 1
        if ceil_mode and (count - 1) * stride >= size + pad:
            count -= 1  # a window begins in the input, or in the padding before it
        counts.append(count)
        behind.append((count - 1) * stride + span - size - pad)
    return tuple(counts), tuple(behind)


def mean_factors(
    sizes: Pair,
    kernel: Pair,
    strides: Pair,
    pads: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> tuple[Any, Pair]:
    """What each window's sum is multiplied with, one number if it is one; and the padding behind."""
    counts, behind = windows(sizes, kernel, strides, pads, ceil_mode)
    held = []
    for size, k, stride, pad, count in zip(sizes, kernel, strides, pads, counts, strict=True):
        begin = torch.arange(count) * stride - pad
        if count_include_pad:
            held.append((begin + k).clamp(max=size + pad) - begin)
        else:
            held.append((begin + k).clamp(max=size) - begin.clamp(min=0))
    area = held[0].reshape(-1, 1) * held[1] if divisor is None else torch.tensor([[divisor]])
    if bool((area == area[0, 0]).all()):
        return 1 / int(area[0, 0]), behind
    return 1 / area.to(torch.float64), behind
