"""Exact samples of discrete Gaussian, Laplace and geometric noise, and of private choices.

OpenDP draws them (Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS
2020, section 5): integers from coin flips and comparisons of rational numbers. It reads a scale as the
rational number that the float is, and no other float takes part, so nothing leaks through rounding
(I. Mironov, "On significance of the least significant bits for differential privacy", CCS 2012). Its
entropy is OpenSSL's generator, which the operating system seeds, and which is seeded anew after a fork.

How long a draw takes depends on its value, never on data: draw before the data are read. A core draws
some 50,000 to 100,000 values a second.
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
    _check(sigma, size)
    opendp = _opendp()
    integers = opendp.domains.vector_domain(opendp.domains.atom_domain(T="i64"))
    space = integers, opendp.metrics.l2_distance(T="i64")
    return _draw(opendp.measurements.make_gaussian(*space, scale=sigma), size)


def discrete_laplace(scale: float, size: int) -> Drawn:
    """Independent integers x, each with probability proportional to exp(-|x| / scale).

    Args:
        scale: taken as exactly the number that this float is; more than 0.
        size: how many.

    Raises:
        UsageError: the size is negative, or the scale not above 0.
        RangeError: the scale is above `SCALE_LIMIT`.
    """
    _check(scale, size)
    opendp = _opendp()
    integers = opendp.domains.vector_domain(opendp.domains.atom_domain(T="i64"))
    space = integers, opendp.metrics.l1_distance(T="i64")
    return _draw(opendp.measurements.make_laplace(*space, scale=scale), size)


def one_sided_geometric(scale: float, size: int) -> Drawn:
    """Independent integers x >= 0, each with probability proportional to exp(-x / scale).

    Exponential noise on a grid: of an exponential variable of this scale, the whole part. It is what a
    discrete Laplace is where that is at least 0, and so is -1 - x where that is negative, with the same
    weights: no draw is thrown away.

    Args:
        scale: taken as exactly the number that this float is; more than 0.
        size: how many.

    Raises:
        UsageError: the size is negative, or the scale not above 0.
        RangeError: the scale is above `SCALE_LIMIT`.
    """
    drawn = discrete_laplace(scale, size)
    return np.where(drawn < 0, ~drawn, drawn).view(Drawn)


def noisy_maximum(scores: list[float] | list[int], scale: float, size: int) -> list[int]:
    """Independent choices: the place of the largest of the scores plus exponential noise of this scale.

    By permute-and-flip (McKenna and Sheldon, NeurIPS 2020), which is the same distribution (Ding et al., "The
    Permute-and-Flip Mechanism is Identical to Report-Noisy-Max with Exponential Noise", 2021). Scores and
    scale are taken as exactly the numbers that they are.

    Args:
        scores: of one type, finite; integers within 64 bits.
        scale: finite, more than 0.
        size: how many choices.
    """
    return _chosen(scores, scale, size, _opendp().measures.max_divergence())


def exponential_choice(scores: list[float] | list[int], scale: float, size: int) -> list[int]:
    """Independent choices by the exponential mechanism, each place with odds exp(score / scale).

    As the place of the largest of the scores plus Gumbel noise of this scale, which OpenDP draws to as many
    digits as telling the largest takes. Arguments as for `noisy_maximum`.
    """
    return _chosen(scores, scale, size, _opendp().measures.zero_concentrated_divergence())


def _chosen(scores: list[float] | list[int], scale: float, size: int, measure: Any) -> list[int]:
    """OpenDP has exponential noise for the one measure, and Gumbel noise for the other."""
    opendp = _opendp()
    atoms = (
        opendp.domains.atom_domain(T="i64")
        if isinstance(scores[0], int)
        else opendp.domains.atom_domain(T="f64", nan=False)
    )
    space = opendp.domains.vector_domain(atoms), opendp.metrics.linf_distance(T=atoms.carrier_type)
    mechanism = opendp.measurements.make_noisy_max(*space, measure, scale=scale)
    return [int(mechanism(scores)) for _ in range(size)]


def _check(scale: float, size: int) -> None:
    if size < 0:
        raise UsageError(f"{size} values of noise: give a number of at least 0")
    if not scale > 0:
        raise UsageError(f"noise of scale {scale!r}: give a scale above 0")
    if not scale <= SCALE_LIMIT:
        raise RangeError(f"noise of scale {scale:g} does not fit 64 bits: use a coarser grid or more epsilon")


def _opendp() -> Any:
    # Not `opendp.prelude`: that loads pandas and scikit-learn where they are installed, seconds of it.
    import opendp.domains
    import opendp.measurements
    import opendp.measures
    import opendp.metrics
    import opendp.mod

    opendp.mod.enable_features("contrib")
    return opendp


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
