"""Exact samples of the discrete Gaussian and the discrete Laplace distribution over the integers.

OpenDP draws them (Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS
2020, section 5): integers from coin flips and comparisons of rational numbers. It reads a scale as the
rational number that the float is, and no other float takes part, so nothing leaks through rounding
(I. Mironov, "On significance of the least significant bits for differential privacy", CCS 2012). Its
entropy is OpenSSL's generator, which the operating system seeds, and which is seeded anew after a fork.

How long a draw takes depends on its value, never on data: draw before the data are read. A core draws
some 50,000 to 100,000 values a second. The first draw of a process loads OpenDP, which takes seconds.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from mpcpriv.errors import RangeError, UsageError

SCALE_LIMIT: Final = 2.0**56
"""The largest scale: with it, a draw that does not fit 64 bits has a chance below 2^-180."""

_CHUNK: Final = 1 << 16


class Drawn(np.ndarray[tuple[int], np.dtype[np.int64]]):
    """Noise, and what is computed from it: an array of int64 that does not print its values."""

    def __repr__(self) -> str:
        return f"<secret noise of {self.size} values>"

    __str__ = __repr__

    def __format__(self, specification: str) -> str:
        return format(repr(self), specification)


def discrete_gaussian(sigma: float, size: int) -> Drawn:
    """Independent integers x, each with probability proportional to exp(-x^2 / (2 sigma^2)).

    Args:
        sigma: taken as exactly the number that this float is; more than 0.
        size: how many.

    Raises:
        UsageError: the size is negative, or sigma not above 0.
        RangeError: sigma is above `SCALE_LIMIT`.
    """
    dp = _opendp()
    _check(sigma, size)
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="i64")
    return _draw(dp.m.make_gaussian(*space, scale=sigma), size)


def discrete_laplace(scale: float, size: int) -> Drawn:
    """Independent integers x, each with probability proportional to exp(-|x| / scale).

    Args:
        scale: taken as exactly the number that this float is; more than 0.
        size: how many.

    Raises:
        UsageError: the size is negative, or the scale not above 0.
        RangeError: the scale is above `SCALE_LIMIT`.
    """
    dp = _opendp()
    _check(scale, size)
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64")
    return _draw(dp.m.make_laplace(*space, scale=scale), size)


def choose(scores: list[float] | list[int], scale: float) -> int:
    """The place of the largest of the scores plus independent exponential noise, by permute-and-flip.

    McKenna and Sheldon, "Permute-and-Flip", NeurIPS 2020; that it is report-noisy-max with exponential
    noise: Ding et al., 2021. Scores and scale are taken as exactly the numbers that they are.
    """
    dp = _opendp()
    kind = "f64" if any(isinstance(one, float) for one in scores) else "i64"
    atoms = dp.atom_domain(T=kind, nan=False) if kind == "f64" else dp.atom_domain(T=kind)
    space = dp.vector_domain(atoms), dp.linf_distance(T=kind)
    return int(dp.m.make_noisy_max(*space, dp.max_divergence(), scale=scale)(scores))


def _check(scale: float, size: int) -> None:
    if size < 0:
        raise UsageError(f"{size} values of noise: give a number of at least 0")
    if not scale > 0:
        raise UsageError(f"noise of scale {scale!r}: give a scale above 0")
    if not scale <= SCALE_LIMIT:
        raise RangeError(f"noise of scale {scale:g} does not fit 64 bits: use a coarser grid or more epsilon")


def _opendp() -> Any:
    import opendp.prelude

    opendp.prelude.enable_features("contrib")
    return opendp.prelude


def _draw(mechanism: Any, size: int) -> Drawn:
    drawn = np.empty(size, dtype=np.int64)
    for start in range(0, size, _CHUNK):
        zeros = [0] * min(_CHUNK, size - start)
        drawn[start : start + len(zeros)] = mechanism(zeros)
    ends = np.iinfo(np.int64)
    # OpenDP cuts off at the ends of the type; a value there may have been cut.
    if ((drawn == ends.min) | (drawn == ends.max)).any():
        raise RangeError("a draw of noise does not fit 64 bits: use a coarser grid")
    return drawn.view(Drawn)
