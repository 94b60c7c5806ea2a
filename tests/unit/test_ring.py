"""Bilinear maps: the shape that is foretold is the shape that comes out, or both are refused."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from mpcpriv.engine.ring import Bilinear
from mpcpriv.errors import UsageError

SMALL = st.lists(st.integers(0, 3), max_size=4).map(tuple)


def agree(bilinear: Bilinear, x: tuple[int, ...], y: tuple[int, ...]) -> None:
    outcomes: list[Any] = []
    for attempt in (
        lambda: tuple(bilinear(torch.zeros(x, dtype=torch.int64), torch.zeros(y, dtype=torch.int64)).shape),
        lambda: bilinear.result_shape(x, y),
    ):
        try:
            outcomes.append(attempt())
        except UsageError:
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1]


@given(SMALL, SMALL)
def test_shapes_of_products_and_matrix_products(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    agree(Bilinear("mul"), x, y)
    agree(Bilinear("matmul"), x, y)


@given(st.data(), st.sampled_from([1, 2]), st.booleans())
def test_shapes_of_convolutions(data: st.DataObject, dims: int, transposed: bool) -> None:
    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(data.draw(st.lists(st.integers(low, high), min_size=dims, max_size=dims)))

    stride, dilation, groups = each(1, 3), each(1, 3), data.draw(st.integers(1, 2))
    # torch wants each output padding below the stride or the dilation.
    outputs = tuple(min(o, s - 1) for o, s in zip(each(0, 2), stride, strict=True)) if transposed else ()
    name: Any = f"conv{'_transpose' if transposed else ''}{dims}d"
    bilinear = Bilinear(name, stride, each(0, 2), outputs, dilation, groups)
    inputs, channels = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    batch = data.draw(st.sampled_from([(), (2,)]))
    kernel = (inputs, channels) if transposed else (channels, data.draw(st.integers(1, 3)))
    agree(bilinear, (*batch, inputs, *each(1, 6)), (*kernel, *each(1, 3)))


def test_products_wrap_and_never_pass_through_floats() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-(2**63), 2**63 - 1, (5, 7), generator=generator)
    y = torch.randint(-(2**63), 2**63 - 1, (7, 3), generator=generator)
    wanted = [
        [sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) % 2**64 for column in y.T]
        for row in x
    ]
    assert [[int(v) % 2**64 for v in row] for row in Bilinear("matmul")(x, y)] == wanted
