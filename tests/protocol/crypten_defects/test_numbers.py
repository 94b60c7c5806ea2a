"""C1 to C8 of CrypTen's defects: encoding, products, comparisons, functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mpcpriv.errors import RangeError, Unsupported
from tests.protocol.crypten_defects.checks import UNIT, close, crypten, numbers, opened, rank, row
from tests.protocol.test_functions import benchmark


@row(there=r"^AssertionError: 1 away")
def test_c1_decode_is_exact_for_negative_numbers() -> None:
    x = (torch.linspace(-10_000, 0, 400_001, dtype=torch.float64) / UNIT).round() * UNIT
    close(crypten.cryptensor(x).get_plain_text(), x, UNIT / 2)


@row(there=r"away")
def test_c1_decode_keeps_every_bit_of_large_numbers() -> None:
    """In float64: a float32 has 24 bits."""
    x = torch.tensor([2.0**29 + 0.25, -(2.0**29) - UNIT, 123456.789], dtype=torch.float64)
    close(crypten.cryptensor(x).get_plain_text(), x, UNIT / 2)


def products(count: int) -> None:
    """Of factors up to 30,000, so up to 9 * 10^8; all magnitudes are as frequent."""
    generator = torch.Generator().manual_seed(count)
    size = (torch.rand(count, generator=generator, dtype=torch.float64) * 15).exp2() * (30_000 / 2**15)
    sign = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    x = (size * sign / UNIT).round() * UNIT
    y = x.flip(0)
    close(opened(crypten.cryptensor(x) * crypten.cryptensor(y)), x * y, UNIT)


@row(there=r"4\.(29|3)e\+09 away")
def test_c2_a_million_products_are_off_by_less_than_a_unit() -> None:
    products(1_000_000)


@pytest.mark.slow
@row(there=None)
def test_c2_ten_million_products_are_off_by_less_than_a_unit() -> None:
    """On CrypTen's own backend a tenth of them is enough, above."""
    for i in range(20):
        products(500_000 + i)


C3_INPUTS: dict[str, Callable[[], tuple[Any, list[float]]]] = {
    "numpy floats": lambda: (np.array([0.5, 1.7, -2.25]), [0.5, 1.7, -2.25]),
    "large integers": lambda: (torch.tensor([2**24 + 1, -(2**40) - 3]), [2**24 + 1, -(2**40) - 3]),
    "rounded to nearest": lambda: (torch.tensor([0.9 * UNIT, -0.9 * UNIT]), [UNIT, -UNIT]),
}
C3_REFUSED = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"), "2^47": 2.0**47}
C3_FACTORS = {
    "0.001": (0.001, 1e6),
    "1e-5": (1e-5, 1e8),
    "1e-7": (1e-7, 1e8),
    "3.14159e6": (3.14159e6, 100.0),
}


@row(there=r"away", cases=C3_INPUTS)
def test_c3_inputs_are_encoded_to_the_nearest_unit(case: str) -> None:
    given, wanted = C3_INPUTS[case]()
    close(crypten.cryptensor(given).get_plain_text(), torch.tensor(wanted, dtype=torch.float64), UNIT / 2)


@row(there=r"DID NOT RAISE", cases=C3_REFUSED)
def test_c3_what_does_not_fit_is_refused_and_named(case: str) -> None:
    with pytest.raises(RangeError, match=r"at index \[1\]"):  # each party tries to share it
        crypten.cryptensor(torch.tensor([1.0, C3_REFUSED[case]], dtype=torch.float64), src=rank())


@row(there=r"away", cases=C3_FACTORS)
def test_c3_public_factors_keep_15_significant_bits(case: str) -> None:
    factor, size = C3_FACTORS[case]
    x = torch.linspace(-1, 1, 1001, dtype=torch.float64) * size
    close(opened(crypten.cryptensor(x) * factor), x * factor, 2 * UNIT, relative=2.0**-15)


C4: dict[str, tuple[Callable[[Any, Any], Any], int]] = {
    "a comparison": (lambda x, y: x > y, 24),
    "a mixed product": (lambda x, y: x * y, 8),
    "relu": (lambda x, y: x.relu(), 4),
}


@row(there=r"away|Error", cases=C4)
def test_c4_another_precision_is_right_or_refused(case: str) -> None:
    function, precision = C4[case]
    x, y = numbers(1000, scale=4.0), numbers(1000, seed=2, scale=4.0)
    x = (x * 16).round() / 16
    try:
        coarse = crypten.cryptensor(x, precision=precision)
    except Unsupported as refusal:
        assert f"precision={precision}" in str(refusal)  # noqa: PT017 - what is refused otherwise is a failure
        return
    close(opened(function(coarse, crypten.cryptensor(y))), function(x, y).double(), 1e-3)


C5: dict[str, Callable[[Any], Any]] = {
    "times a half": lambda x: (x > 0) * 0.5,
    "mean": lambda x: (x > 0).mean() if not isinstance(x, torch.Tensor) else (x > 0).double().mean(),
    "divided": lambda x: (x > 0) / 4,
}


@row(there=r"away", cases=C5)
def test_c5_comparisons_behave_as_numbers(case: str) -> None:
    x = numbers(1000)
    close(opened(C5[case](crypten.cryptensor(x))), C5[case](x), 2 * UNIT)


C6: dict[str, Callable[[Any], Any]] = {
    "rows": lambda x: x[1:3],
    "reshaped": lambda x: x.reshape(-1),
    "transposed": lambda x: x.t(),
}


@row(there=r"6\.55e\+04 away", cases=C6)
def test_c6_an_operation_leaves_the_views_of_its_operands_alone(case: str) -> None:
    """CrypTen re-encodes an operand with fewer bits where it lies; its views keep the old encoder."""
    x = numbers(4, 50)
    with crypten.no_grad():
        bits = crypten.cryptensor(x) > 0
        view = C6[case](bits)
        total = crypten.cryptensor(x) + bits
        close(opened(view), C6[case]((x > 0).double()), UNIT)
        close(opened(total), x + (x > 0), UNIT)


C7_POWERS = {f"x**{power}": power for power in (5, 7, 9)}


@row(there=r"away", cases=C7_POWERS)
def test_c7_odd_powers(case: str) -> None:
    power = C7_POWERS[case]
    x = torch.linspace(-3, 3, 2001, dtype=torch.float64)
    close(opened(crypten.cryptensor(x).pow(power)), x**power, 2e-2, relative=1e-3)


@row(there=r"away", cases=("erf", "gelu"))
def test_c7_erf_and_gelu(case: str) -> None:
    x = torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    x = (x / UNIT).round() * UNIT
    e = crypten.cryptensor(x)
    if case == "erf":
        close(opened(e.erf()), torch.erf(x), 1e-3)
    else:
        close(opened(e * ((e * 0.5**0.5).erf() + 1) * 0.5), torch.nn.functional.gelu(x), 1e-3, relative=1e-3)


C8 = {
    function.name: function
    for function in benchmark().FUNCTIONS
    if function.name in ("reciprocal", "sigmoid", "tanh", "exp", "log", "sqrt", "inv_sqrt", "cos", "sin")
}


@row(there=r"away", cases=C8)
def test_c8_functions_hold_over_their_documented_ranges(case: str) -> None:
    """The table of docs/functions.md: 1e-3, relative or absolute, whichever is less strict."""
    x = C8[case].grid(8_000)
    close(opened(C8[case].run(crypten.cryptensor(x))), C8[case].reference(x), 1e-3, relative=1e-3)


OUTSIDE: dict[str, tuple[Callable[[Any], Any], float, float]] = {
    "exp far below": (lambda x: x.exp(), -30_000.0, 0.0),
    "exp far above is clamped": (lambda x: x.exp() / 2**30, 30_000.0, 9952.4),
    "sqrt of a negative": (lambda x: x.sqrt(), -300.0, 0.0),
    "reciprocal of 0": (lambda x: x.reciprocal(), 0.0, 0.0),
    "log of a negative": (lambda x: x.log(), -300.0, -11.78),
}


@row(there=r"away", cases=OUTSIDE)
def test_c8_outside_its_range_a_function_is_clamped(case: str) -> None:
    function, given, wanted = OUTSIDE[case]
    x = torch.full((50,), given, dtype=torch.float64)
    close(opened(function(crypten.cryptensor(x))), torch.full((50,), wanted), 1e-2, relative=1e-3)


@row(there=r"away", cases=("softmax", "log_softmax"))
def test_c8_softmax_of_256_equal_logits(case: str) -> None:
    x = torch.full((4, 256), 7.5, dtype=torch.float64)
    x[2] += 3 * numbers(256)
    close(opened(getattr(crypten.cryptensor(x), case)(1)), getattr(x, case)(1), 1e-3, relative=1e-3)
