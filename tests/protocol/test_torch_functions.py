"""torch's functions of encrypted tensors, and methods of torch's names, equal torch's: values and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

import mpcpriv.engine
from mpcpriv.engine.session import Session
from mpcpriv.errors import Unsupported, UsageError
from tests.protocol.parties import run

mpcpriv.engine.activate()

import crypten  # noqa: E402

Expression = Callable[[Any], Any]

X = ((torch.arange(60) * 37) % 59 - 29).reshape(3, 5, 4).double() / 8
POSITIVE = X.abs() + 0.25
IMAGES = ((torch.arange(2 * 2 * 7 * 8) * 37) % 101 - 50).reshape(2, 2, 7, 8).double() / 8
KERNEL = IMAGES[:1, :, :3, :3].contiguous()
BIAS = torch.tensor([0.5], dtype=torch.float64)
Q = torch.tensor([0.0, 0.1, 0.5, 0.77, 1.0], dtype=torch.float64)


def numbers(x: Any) -> Any:
    """Places as floats, on both sides."""
    return x.double() if isinstance(x, torch.Tensor) else x


def norm(x: Any, p: Any, dim: Any, keepdim: bool = False) -> Any:
    return torch.linalg.vector_norm(x, p, dim, keepdim)


def convolved(x: Any) -> Any:
    kernel = KERNEL if isinstance(x, torch.Tensor) else crypten.cryptensor(KERNEL, src=1)
    return functional.conv2d(x, kernel, BIAS, 2, 1)


ORDER: dict[str, Expression] = {
    "sort": lambda x: x.sort()[0],
    "sort down": lambda x: torch.sort(x, dim=1, descending=True)[0],
    "places down": lambda x: numbers(torch.sort(x, dim=-1, descending=True, stable=True)[1]),
    "argsort": lambda x: numbers(torch.argsort(x, dim=0, stable=True)),
    "topk": lambda x: torch.topk(x, 3, 1)[0],
    "topk of the smallest": lambda x: numbers(torch.topk(x, 2, -1, largest=False)[1]),
    "topk of none": lambda x: torch.topk(x, 0)[0],
    "kthvalue": lambda x: torch.kthvalue(x, 2, 1)[0],
    "kthvalue keeping": lambda x: x.kthvalue(3, -2, keepdim=True)[0],
    "median": torch.median,
    "median along": lambda x: torch.median(x, 0)[0],
    "median of four keeping": lambda x: x.median(-1, True)[0],
    "quantile": lambda x: torch.quantile(x, 0.3),
    "quantile at the largest": lambda x: torch.quantile(x, 1.0, 0),
    "quantiles": lambda x: torch.quantile(x, Q, 1),
    "quantiles keeping": lambda x: torch.quantile(x, Q, -1, True),
    "quantiles of all keeping": lambda x: x.quantile(Q, keepdim=True),
    "quantiles of all": lambda x: x.quantile(Q),
    "quantile keeping": lambda x: x.quantile(0.9, 0, keepdim=True),
    "quantile lower": lambda x: torch.quantile(x, Q, 1, interpolation="lower"),
    "quantile higher": lambda x: torch.quantile(x, Q, 1, interpolation="higher"),
    "quantile midpoint": lambda x: torch.quantile(x, Q, 1, interpolation="midpoint"),
    "quantile nearest": lambda x: torch.quantile(x, Q, 1, interpolation="nearest"),
    "cummax": lambda x: torch.cummax(x, 1)[0],
    "places of cummax with ties": lambda x: numbers(torch.cummax(x.relu(), -1)[1]),
    "cummin": lambda x: torch.cummin(x, 0)[0],
    "sort of one": lambda x: x[0, 0, 0].sort()[0],
    "topk of one": lambda x: x[0, 0, :1].topk(1)[0],
    "sort of none": lambda x: x[:0].sort(0)[0],
    "amax": lambda x: torch.amax(x, (0, 2)),
    "amin keeping": lambda x: torch.amin(x, 1, keepdim=True),
    "amax of all": lambda x: x.amax(),
    "amax of all keeping": lambda x: x.amax((0, 1, -1), keepdim=True),
    "maximum": lambda x: torch.maximum(x, x.flip(0)),
    "max of two": lambda x: torch.max(x, x.flip(0)),
    "minimum": lambda x: torch.minimum(x, x.flip(0)),
    "sign": torch.sign,
}

SMOOTH: dict[str, Expression] = {
    "gelu": functional.gelu,
    "gelu by tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "mish": functional.mish,
    "softplus": functional.softplus,
    "softplus with beta": lambda x: functional.softplus(x, 2.5),
    "log sigmoid": functional.logsigmoid,
    "elu": functional.elu,
    "elu with alpha": lambda x: functional.elu(x, 0.5),
    "relu": functional.relu,
    "relu6": functional.relu6,
    "hardtanh": lambda x: functional.hardtanh(x, -2, 1.5),
    "leaky relu": lambda x: functional.leaky_relu(x, 0.2),
    "clamp": lambda x: torch.clamp(x, -1, 1),
    "softmax": lambda x: functional.softmax(x, dim=1),
    "softmax of one": lambda x: x[0, 0, 0].softmax(0),
    "log_softmax": lambda x: functional.log_softmax(x, -1),
    "logsumexp": lambda x: torch.logsumexp(x, 1),
    "logsumexp keeping": lambda x: x.logsumexp((0, -1), keepdim=True),
    "erf": torch.special.erf,
    "a power of two": lambda x: 2**x,
    "pow": lambda x: torch.pow(x, 3),
    "where": lambda x: torch.where(x > 0, x, x * 2),
    "where public": lambda x: torch.where(X > 0, x, x * 2),
    "pad": lambda x: functional.pad(x, (1, 2)),
    "no dropout": lambda x: functional.dropout(x, 0.3, training=False),
    "cumprod": lambda x: torch.cumprod(x * 0.4, 1),
    "cumprod of one": lambda x: x[:1].cumprod(0),
    "cumsum": lambda x: torch.cumsum(x, -1),
    "var": lambda x: torch.var(x, dim=(0, 1), correction=2),
    "var biased": lambda x: torch.var(x, 1, unbiased=False, keepdim=True),
    "std": lambda x: torch.std(x, dim=1, correction=0),
    "norm": torch.norm,
    "norm keeping": lambda x: norm(x, 2, (0, 1), True),
    **{
        f"norm {p} over {dim}": lambda x, p=p, dim=dim: norm(x, p, dim)
        for p in (1, 2, math.inf, -math.inf, 0, 3, 2.5, 0.5)
        for dim in (None, 1, (0, -1))
    },
}

POWERS: dict[str, Expression] = {
    f"to the power {p}": lambda x, p=p: x**p for p in (0.5, -0.5, 1.5, 2.5, -1.5, -2.25, 1 / 3, -3, 0, 1, 1.0)
}

WINDOWS: dict[str, Expression] = {
    "max_pool2d": lambda x: functional.max_pool2d(x, 3, 2, 1),
    "max_pool2d with a last part": lambda x: functional.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "max_pool2d of all": lambda x: functional.max_pool2d(x, (2, 3), (2, 1), (1, 1), (1, 2), ceil_mode=True),
    "max_pool1d": lambda x: functional.max_pool1d(x[0], 3, 2, 1),
    "max_pool1d with a last part": lambda x: functional.max_pool1d(x[0], 4, 3, 1, ceil_mode=True),
    "avg_pool2d": lambda x: functional.avg_pool2d(x, 3, 2, 1),
    "avg_pool2d with a last part": lambda x: functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "avg_pool2d without padding": lambda x: functional.avg_pool2d(x, 3, 2, 1, True, False),
    "avg_pool2d divided otherwise": lambda x: functional.avg_pool2d(x, 2, divisor_override=3),
    "avg_pool1d": lambda x: functional.avg_pool1d(x[0], 3, 2, 1),
    "avg_pool1d with a last part": lambda x: functional.avg_pool1d(x[0], 4, 3, 1, True, False),
    "conv2d with a bias": convolved,
}


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(
    ("table", "value"),
    [(ORDER, X), (SMOOTH, X), (POWERS, POSITIVE), (WINDOWS, IMAGES)],
    ids=["order", "smooth", "powers", "windows"],
)
def test_functions_equal_torch_s(n: int, table: dict[str, Expression], value: torch.Tensor) -> None:
    def program(session: Session) -> list[torch.Tensor]:
        crypten.init()
        x = crypten.cryptensor(value, src=n - 1)
        return [expression(x).get_plain_text() for expression in table.values()]

    for (name, expression), found in zip(table.items(), run(n, program)[0], strict=True):
        expected = expression(value).double()
        assert found.shape == expected.shape, name
        if expected.numel():
            off = (found - expected).abs()
            error = torch.minimum(off, off / expected.abs().clamp(min=1e-9)).max()
            assert float(error) <= (0 if table is ORDER and "quantile" not in name else 2e-4), name


def test_powers_of_what_is_not_positive_are_zero() -> None:
    def program(session: Session) -> list[torch.Tensor]:
        crypten.init()
        x = crypten.cryptensor(torch.tensor([0.0, -(2.0**-16), -1.0, -(2.0**40)]))
        return [(x**p).get_plain_text() for p in (0.5, 0.3, 1.5, -0.5)]

    for found in run(2, program)[0]:
        assert found.abs().max() == 0


def test_division_is_accurate_for_operands_of_any_size() -> None:
    sizes = 2.0 ** torch.arange(-10, 29, 2.0, dtype=torch.float64)
    x = (sizes * 1.3).repeat_interleave(len(sizes))
    y = (sizes * 1.7).repeat(len(sizes)) * torch.where(torch.arange(len(x)) % 2 == 0, 1, -1)
    x, y = (torch.round(t * 2**16) / 2**16 for t in (x, y))
    x, y = (t[(x / y).abs() < 2**29] for t in (x, y))

    def program(session: Session) -> tuple[torch.Tensor, torch.Tensor]:
        crypten.init()
        a, b = crypten.cryptensor(x, src=0), crypten.cryptensor(y, src=1)
        return (a / b).get_plain_text(), (a / (b * 0)).get_plain_text()

    found, by_zero = run(3, program)[0]
    off = (found - x / y).abs()
    assert float(torch.minimum(off, off / (x / y).abs()).max()) < 1e-4
    assert by_zero.abs().max() == 0


@pytest.mark.parametrize("spread", [12.5, 9.0, 0.0])
def test_softmax_of_many_keeps_what_its_small_terms_add_up_to(spread: float) -> None:
    x = torch.full((10_000,), -spread, dtype=torch.float64)
    x[17] = 0

    def program(session: Session) -> tuple[torch.Tensor, torch.Tensor]:
        crypten.init()
        shared = crypten.cryptensor(x)
        return shared.softmax(0).get_plain_text(), shared.logsumexp(0).get_plain_text()

    probabilities, total = run(2, program)[0]
    assert float((probabilities - x.softmax(0)).abs().max()) < 1e-4
    assert abs(float(total - x.logsumexp(0))) < 1e-3


REFUSED: dict[str, tuple[Expression, type[Exception], str]] = {
    "too many": (lambda x: x.topk(6, 1), UsageError, "topk of 6 values where there are 5"),
    "none": (lambda x: x.kthvalue(0), UsageError, "kthvalue of number 0"),
    "no quantile": (lambda x: x.quantile(1.5), UsageError, "quantile of 1.5"),
    "an unknown interpolation": (lambda x: x.quantile(0.5, interpolation="odd"), UsageError, "'odd'"),
    "too much padding": (lambda x: x.max_pool2d(2, padding=2), UsageError, "at most half"),
    "too large a window": (lambda x: x.avg_pool2d(9), UsageError, "windows that span"),
    "one argument of where": (torch.where, Unsupported, "torch.where"),
    "what is not offered": (torch.lgamma, Unsupported, "torch.lgamma"),
    "an unknown form of gelu": (lambda x: x.gelu("erf"), UsageError, "approximate='erf'"),
    "an infinite power": (lambda x: x.pow(math.inf), UsageError, "finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_by_name(name: str) -> None:
    expression, kind, words = REFUSED[name]

    def program(session: Session) -> None:
        crypten.init()
        with pytest.raises(kind, match=words):
            expression(crypten.cryptensor(X))

    run(2, program)
