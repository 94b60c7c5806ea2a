"""Shapes and types as torch's: reductions, indices, views, empty tensors, inputs of every kind (C5, C6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import mpcpriv.engine
from mpcpriv.engine.session import Session
from tests.protocol.parties import run

mpcpriv.engine.activate()

import crypten  # noqa: E402

UNIT = 2.0**-16
Expression = Callable[[Any], Any]

X = ((torch.arange(24) * 7) % 13 - 6).reshape(2, 3, 4).double() / 4

PICK = torch.tensor([1, 0, 1])

SHAPES: dict[str, Expression] = {
    "sum over two dimensions": lambda x: x.sum((0, -1)),
    "sum over a list": lambda x: x.sum([-2, 2], keepdim=True),
    "sum over none": lambda x: x.sum(),
    "sum by axis": lambda x: x.sum(axis=-1),
    "mean over negative ones": lambda x: x.mean((-1, -3)),
    "mean keeping": lambda x: x.mean(-2, keepdim=True),
    "var over two": lambda x: x.var((0, -1)),
    "std": lambda x: x.std(-1),
    "prod of all": lambda x: (x * 0.7).prod(),
    "prod of three": lambda x: x.prod(1),
    "prod keeping": lambda x: x.prod(-1, keepdim=True),
    "cumsum of a negative dimension": lambda x: x.cumsum(-2),
    "numel, ndim and shape": lambda x: x * (x.numel() + x.ndim + x.dim() + x.shape[0] + len(x) + x.size(-1)),
    "T": lambda x: x[0].T,
    "mT": lambda x: x.mT,
    "chunk": lambda x: x.chunk(3, -1)[1],
    "chunk unevenly": lambda x: x.chunk(2, 1)[1],
    "split": lambda x: x.split([1, 3], -1)[1],
    "unbind": lambda x: x.unbind(-1)[3],
    "iteration": lambda x: sum(list(x[0])),
    "expand": lambda x: x[:, :1].expand(5, -1, -1, -1) if x.ndim == 4 else x[:, :1].expand(-1, 6, 4),
    "repeat": lambda x: x.repeat(2, 1, 1, 2),
    "unfold": lambda x: x.unfold(-1, 2, 2),
    "flatten": lambda x: x.flatten(-2),
    "reshape": lambda x: x.reshape(-1, 6),
    "squeeze": lambda x: x[:1].squeeze(0).unsqueeze(-2),
    "permute": lambda x: x.permute(-1, 0, 1),
    "flip": lambda x: x.flip(0, -1),
    "roll": lambda x: x.roll((1, -2), (0, 2)),
    "an ellipsis": lambda x: x[..., -1],
    "a new axis": lambda x: x[:, None, 1:, ::2],
    "a list": lambda x: x[[1, 0, 1]],
    "a tensor": lambda x: x[PICK, :, PICK],
    "a mask": lambda x: x[:, torch.tensor([True, False, True])],
    "a mask of elements": lambda x: x[X > 0],
    "a numpy index": lambda x: x[:, np.array([0, 2])],
    "a numpy integer": lambda x: x[np.int64(1)],
    "gather": lambda x: x.gather(-1, torch.zeros(2, 3, 1, dtype=torch.int64)),
    "scatter": lambda x: x.scatter(0, torch.ones(1, 3, 4, dtype=torch.int64), x[:1]),
    "index_add": lambda x: x.index_add(1, PICK, x),
    "broadcast against a vector": lambda x: x + x[0, 0] * x[0, :, :1],
    "broadcast a public one": lambda x: x * torch.ones(5, 1, 1, 1) + torch.tensor([1, 2, 3, 4]),
    "matmul of batches": lambda x: x @ x.transpose(-1, -2),
    "C5 a mask times a number": lambda x: (x > 0) * 0.5,
    "C5 a mask plus a mask": lambda x: (x > 0) * 1 + (x < 1) * 1,
    "a boolean factor": lambda x: x * (X > 0),
    "an integer sum": lambda x: x + torch.tensor([1, -2, 3, 4], dtype=torch.int32),
    "abs": abs,
    "clamp": lambda x: x.clamp(-0.5, 1),
    "clamp from below": lambda x: x.clamp(min=0.25),
    "clip from above": lambda x: x.clip(max=0.25),
    "clamp to a point": lambda x: x.clamp(1, 1),
    "divided by an integer": lambda x: x / 4,
}


@pytest.mark.parametrize("n", [2, 3])
def test_shapes_and_values_equal_torch_s(n: int) -> None:
    def program(session: Session) -> list[torch.Tensor]:
        crypten.init()
        x = crypten.cryptensor(X, src=1)
        return [expression(x).get_plain_text() for expression in SHAPES.values()]

    for (name, expression), found in zip(SHAPES.items(), run(n, program)[0], strict=True):
        expected = expression(X)
        expected = (
            expected.double() if isinstance(expected, torch.Tensor) else torch.tensor(expected).double()
        )
        assert found.shape == expected.shape, name
        assert float((found - expected).abs().max()) < 32 * UNIT, name


EMPTY: dict[str, Expression] = {
    "sum": lambda x: x.sum(),
    "sum over rows": lambda x: x.sum(0),
    "product with itself": lambda x: x * x,
    "half": lambda x: x * 0.5,
    "matmul": lambda x: x.T @ x,
    "relu": lambda x: x.relu(),
    "sigmoid": lambda x: x.sigmoid(),
    "compared": lambda x: (x > 0) * 1.0,
    "reshaped": lambda x: x.reshape(3, 0),
    "prod": lambda x: x.prod(0),
    "an index": lambda x: x[:, 1],
    "repeat": lambda x: x.repeat(2, 1),
}


def test_empty_tensors() -> None:
    def program(session: Session) -> list[torch.Tensor]:
        crypten.init()
        x = crypten.cryptensor(torch.zeros(0, 3), src=0)
        return [expression(x).get_plain_text() for expression in EMPTY.values()]

    for (name, expression), found in zip(EMPTY.items(), run(2, program)[0], strict=True):
        expected = expression(torch.zeros(0, 3, dtype=torch.float64))
        assert found.shape == expected.shape, name
        assert torch.equal(found, expected.double()), name


INPUTS: dict[str, Any] = {
    "a list": [1.5, -2.0],
    "a number": 0.25,
    "an integer": 7,
    "a boolean tensor": torch.tensor([True, False]),
    "bytes": torch.tensor([0, 255], dtype=torch.uint8),
    "small integers": torch.tensor([-3, 4], dtype=torch.int8),
    "long integers": torch.tensor([2**40, -(2**40)]),
    "half precision": torch.tensor([0.5, -1.25], dtype=torch.float16),
    "bfloat16": torch.tensor([0.5, -1.25], dtype=torch.bfloat16),
    "C3 numpy floats": np.array([0.5, 1.7]),
    "numpy single precision": np.array([[0.5], [1.75]], dtype=np.float32),
    "numpy integers": np.array([3, -4], dtype=np.int16),
    "numpy booleans": np.array([True, False]),
    "a numpy view": np.arange(6.0).reshape(2, 3)[:, ::-2],
    "a numpy number": np.float64(1.5),
}


def test_inputs_of_every_type() -> None:
    def program(session: Session) -> list[torch.Tensor]:
        crypten.init()
        return [crypten.cryptensor(value, src=0).get_plain_text() for value in INPUTS.values()]

    for (name, value), found in zip(INPUTS.items(), run(2, program)[0], strict=True):
        expected = torch.as_tensor(np.array(value) if isinstance(value, np.ndarray) else value).double()
        assert found.shape == expected.shape, name
        assert float((found - expected).abs().max()) <= UNIT / 2, name


VIEWS: dict[str, Expression] = {
    "an index": lambda x: x[0],
    "a slice": lambda x: x[:, 1:],
    "reshape": lambda x: x.reshape(-1),
    "view": lambda x: x.view(4, 6),
    "transpose": lambda x: x.transpose(0, 1),
    "expand": lambda x: x.unsqueeze(0).expand(2, 2, 3, 4),
    "narrow": lambda x: x.narrow(0, 0, 1),
    "unbind": lambda x: x.unbind(0)[1],
    "split": lambda x: x.split(1, 1)[0],
    "detach": lambda x: x.detach(),
    "clone": lambda x: x.clone(),
    "shallow copy": lambda x: x.shallow_copy(),
    "squeeze": lambda x: x.squeeze(),
    "flatten": lambda x: x.flatten(),
    "T": lambda x: x.mT,
}


def test_c6_views_never_alias() -> None:
    """Writing to a tensor changes no view of it, and writing to a view not the tensor."""

    def program(session: Session) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        crypten.init()
        found = []
        for expression in VIEWS.values():
            x = crypten.cryptensor(X, src=0)
            with crypten.no_grad():
                view = expression(x)
                x += 1
                x[0] = 9
                before = view.get_plain_text()
                kept = x.get_plain_text()
                view *= 2
                view[..., 0] = 5
                view.add_(1)
            found.append((before, kept, x.get_plain_text()))
        return found

    for (name, expression), (view, kept, after) in zip(VIEWS.items(), run(2, program)[0], strict=True):
        assert torch.equal(view, expression_of(expression)), name
        assert torch.equal(kept, after), name


def expression_of(expression: Expression) -> torch.Tensor:
    try:
        result: torch.Tensor = expression(X)
    except AttributeError:  # torch has no shallow copy
        result = X
    return result


def test_a_numpy_array_may_stand_on_either_side() -> None:
    row = np.array([0.5, -1.0, 2.0, 4.0])

    def program(session: Session) -> list[torch.Tensor]:
        crypten.init()
        x = crypten.cryptensor(X, src=0)
        return [t.get_plain_text() for t in (row * x, x * row, row - x, x + row, (row > x) * 1.0)]

    plain = torch.from_numpy(row)
    expected = [plain * X, X * plain, plain - X, X + plain, (plain > X).double()]
    for found, wanted in zip(run(2, program)[0], expected, strict=True):
        assert float((found - wanted).abs().max()) <= 2 * UNIT


def test_a_pad_with_an_encrypted_value_is_exact() -> None:
    """torch takes the value through a float, and a share has 64 bits."""

    def program(session: Session) -> list[torch.Tensor]:
        crypten.init()
        x = crypten.cryptensor(X, src=0)
        values = [crypten.cryptensor(torch.tensor(0.125 * k), src=1) for k in range(8)]
        return [x.pad((1, 2), value=value).get_plain_text() for value in values]

    for k, found in enumerate(run(3, program)[0]):
        assert torch.equal(found, functional.pad(X, (1, 2), value=0.125 * k))


def test_c10_dropout() -> None:
    def program(session: Session) -> list[torch.Tensor]:
        crypten.init()
        x = crypten.cryptensor(torch.ones(2000), src=0, requires_grad=True)
        dropped = x.dropout(0.25)
        dropped.sum().backward()
        plain = x.detach()
        everything = [plain.dropout(1.0, training=False), plain.dropout(1.0), x.dropout(0.0)]
        return [t.get_plain_text() for t in (dropped, x.grad, *everything)]

    dropped, gradient, evaluated, gone, kept = run(2, program)[0]
    assert set((dropped * 3).round().tolist()) == {0.0, 4.0}
    assert 0.2 < float((dropped == 0).double().mean()) < 0.3
    assert float((dropped - gradient).abs().max()) < 4 * UNIT
    assert torch.equal(kept, torch.ones(2000).double())
    assert not gone.any()
    assert torch.equal(evaluated, kept)
