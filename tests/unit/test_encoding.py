"""Reals as ring elements: exact both ways, and a sentence for what does not fit."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpcpriv.engine.encoding import FRACTIONAL_BITS, as_tensor, decode, encode
from mpcpriv.errors import RangeError, UsageError

UNIT = 2.0**-FRACTIONAL_BITS


def test_a_dense_grid_of_negative_numbers_decodes_exactly() -> None:
    units = torch.arange(-(10**4) * 2**16, 1, 997)
    values = units.to(torch.float64) * UNIT
    assert torch.equal(encode(values), units)
    assert torch.equal(decode(units), values)
    near_zero = torch.arange(-70_000, 1)
    assert torch.equal(decode(encode(decode(near_zero))), near_zero.to(torch.float64) * UNIT)


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_every_encoded_value_below_2_to_53_units_decodes_exactly(units: int) -> None:
    value = decode(torch.tensor(units))
    assert value.dtype == torch.float64
    assert Fraction(float(value)) == Fraction(units, 2**16)
    assert int(encode(value)) == units


@given(st.floats(-(2.0**46), 2.0**46, exclude_min=True, exclude_max=True))
def test_reals_are_rounded_to_the_nearest_unit(value: float) -> None:
    error = Fraction(int(encode(value))) - Fraction(value) * 2**16
    assert abs(error) <= Fraction(1, 2)


def test_ties_go_to_the_even_unit() -> None:
    assert encode([0.5 * UNIT, 1.5 * UNIT, -0.5 * UNIT, -2.5 * UNIT]).tolist() == [0, 2, 0, -2]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numpy_floats_keep_their_fraction(dtype: Any) -> None:
    assert encode(np.array([0.5, 1.75], dtype=dtype)).tolist() == [1 << 15, 7 << 14]
    assert encode(dtype(0.5)).tolist() == 1 << 15


@pytest.mark.parametrize(
    ("value", "shape", "expected"),
    [
        (1.5, (), 1.5),
        (-3, (), -3.0),
        (True, (), 1.0),
        ([0.5, 1.75], (2,), [0.5, 1.75]),
        ([[1, 2], [3, 4]], (2, 2), [[1.0, 2.0], [3.0, 4.0]]),
        ((1, 2.5), (2,), [1.0, 2.5]),
        (np.bool_(True), (), 1.0),
        (np.int32(-7), (), -7.0),
        (np.uint8([0, 255]), (2,), [0.0, 255.0]),
        (np.arange(3)[::-1], (3,), [2.0, 1.0, 0.0]),
        (torch.tensor([True, False]), (2,), [1.0, 0.0]),
        (torch.tensor(2.5, dtype=torch.float16), (), 2.5),
        (torch.tensor(2.5, dtype=torch.bfloat16), (), 2.5),
        (torch.tensor([1, 2], dtype=torch.uint8), (2,), [1.0, 2.0]),
        (torch.empty(0), (0,), []),
        (torch.empty(3, 0, 2), (3, 0, 2), [[], [], []]),
        ([], (0,), []),
    ],
)
def test_numbers_of_every_kind(value: Any, shape: tuple[int, ...], expected: Any) -> None:
    encoded = encode(value)
    assert encoded.dtype == torch.int64
    assert tuple(encoded.shape) == shape
    assert decode(encoded).tolist() == expected


@pytest.mark.parametrize("value", [2**46 - 1, -(2**46) + 1, 2**45 + 1, 2**30 + 1])
def test_large_integers_do_not_pass_through_floats(value: int) -> None:
    for given_as in (value, np.int64(value), torch.tensor(value), [value]):
        assert encode(given_as).flatten().tolist() == [value << 16]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (2.0**46, "70368744177664.0"),
        (-(2.0**46), "-70368744177664.0"),
        (1e300, "1e+300"),
        (2**46, "70368744177664"),
        (-(2**46), "-70368744177664"),
        (2**63 - 1, "9223372036854775807"),
        (-(2**63), "-9223372036854775808"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place_and_the_limit(value: float, shown: str) -> None:
    with pytest.raises(RangeError) as caught:
        encode([[0, 0, 0], [0, 0, value]])
    message = str(caught.value)
    assert f"value {shown} at index [1, 2]" in message
    assert "2^46" in message
    with pytest.raises(RangeError, match=r"value \S+ cannot be encoded"):
        encode(value)


def test_the_limit_depends_on_the_bits() -> None:
    assert int(encode(2**50, bits=0)) == 2**50
    with pytest.raises(RangeError, match=r"2\^62"):
        encode(2**62, bits=0)
    with pytest.raises(RangeError, match=r"2\^30"):
        encode(2.0**30, bits=32)


@pytest.mark.parametrize(
    "value", ["1", None, {"a": 1}, object(), 1j, [1j], torch.tensor(1j), [[1], [1, 2]], np.array(["x"])]
)
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"real numbers|numbers are needed|cannot make a tensor"):
        encode(value)


def test_integers_beyond_64_bits_are_refused() -> None:
    for value in (2**64, [2**70], -(2**64), 2**63, np.uint64(2**64 - 1)):
        for bits in (0, FRACTIONAL_BITS):
            with pytest.raises(UsageError):
                encode(value, bits)
    with pytest.raises(RangeError):
        encode(torch.tensor([2**63 + 5], dtype=torch.uint64), bits=0)
    assert encode(np.uint64(7)).item() == 7 << 16


def test_encoding_shares_no_memory_with_its_argument() -> None:
    values = np.array([1.0, 2.0])
    tensor = as_tensor(values)
    values[0] = 9.0
    assert tensor.tolist() == [1.0, 2.0]
    whole = torch.tensor([1, 2])
    encode(whole, bits=0).add_(5)
    assert whole.tolist() == [1, 2]
