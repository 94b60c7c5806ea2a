"""C9 to C12 of CrypTen's defects: what torch computes otherwise, gradients, models."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tests.protocol.crypten_defects.checks import close, crypten, numbers, opened, rank, row
from tests.protocol.gradient_cases import TABLES, operands, weights
from tests.protocol.models import CRYPTEN_IS_WRONG, SLOW, made, with_other_values

C9: dict[str, dict[str, Any]] = {
    "padded": {"kernel_size": 3, "padding": 1},
    "padded above and below": {"kernel_size": (3, 2), "padding": (1, 0), "stride": 2},
    "padded left and right": {"kernel_size": (2, 3), "padding": (0, 1)},
}


@row(there=r"away|shape|Error", cases=C9)
def test_c9_max_pool2d_pads_with_what_never_wins(case: str) -> None:
    x = numbers(2, 3, 6, 8) - 5000
    found = crypten.cryptensor(x).max_pool2d(**C9[case])
    close(opened(found), functional.max_pool2d(x, **C9[case]), 0.0)


C10: dict[str, Callable[[Any], Any]] = {
    "unbiased": lambda x: x.var(0, unbiased=True),
    "biased": lambda x: x.var(0, unbiased=False),
    "a dimension by keyword": lambda x: x.var(dim=1),
}


@row(there=r"away|shape", cases=C10)
def test_c10_var_is_torch_s(case: str) -> None:
    x = numbers(6, 5)
    close(opened(C10[case](crypten.cryptensor(x))), C10[case](x), 1e-3)


@row(there=r"away|shape")
def test_c10_cat_of_plain_tensors_minds_the_dimension() -> None:
    x = numbers(3, 3)
    close(crypten.cat([x, x], dim=1), torch.cat([x, x], 1), 0.0)


@row(there=r"away")
def test_c10_dropout_rests_in_evaluation() -> None:
    x = numbers(20, 5)
    close(opened(crypten.cryptensor(x).dropout(p=1.0, training=False)), x, 0.0)


# Gradients.

CRYPTEN_IS_RIGHT = ("C11 norm", "C11 norm inf", "C11 norm 2 keeping", "C11 pow 6")
"""The last by `pow` only, below: it has no `**`."""
C11 = {
    name.removeprefix("C11 "): (item, seed)
    for table in TABLES.values()
    for seed, (name, item) in enumerate(table.items())
    if name.startswith("C11 ") and name not in CRYPTEN_IS_RIGHT
}


def gradient(tensor: Any) -> torch.Tensor:
    """Of a leaf, opened; none is an error that says so."""
    if tensor.grad is None:
        raise AssertionError("the gradient is lost")
    return opened(tensor.grad)


@row(there=r"away|shape|lost|Error|Exception", cases=C11)
def test_c11_gradients_are_torch_s(case: str) -> None:
    item, seed = C11[case]
    plain = [value.clone().requires_grad_() for value in operands(item, seed)]
    wanted = (item.plain or item.shared)(*plain)
    (wanted * weights(tuple(wanted.shape))).sum().backward()
    given = [crypten.cryptensor(value, requires_grad=True) for value in operands(item, seed)]
    found = item.shared(*given)
    (found * weights(tuple(found.shape))).sum().backward()
    close(opened(found), wanted, 1e-3, relative=1e-3)
    for mine, theirs in zip(given, plain, strict=True):
        close(gradient(mine), theirs.grad, 1e-3, relative=1e-3)


@row(there=r"away|lost|Error")
def test_c11_a_second_backward_through_a_shared_node() -> None:
    x = numbers(50)
    leaf = crypten.cryptensor(x, requires_grad=True)
    shared = leaf * leaf
    first, second = shared.sum(), (shared * 3).sum()
    first.backward()
    second.backward()
    close(gradient(leaf), 8 * x, 1e-3, relative=1e-3)


@row(there=r"away|lost|Error")
def test_c11_the_gradient_of_a_mean_of_more_than_65536() -> None:
    x = numbers(70_000, 2)
    weight = crypten.cryptensor(torch.tensor([[0.5], [-1.0]]), requires_grad=True)
    (crypten.cryptensor(x).matmul(weight) * 100).mean().backward()
    close(gradient(weight), 100 * x.mean(0).reshape(2, 1), 2e-3, relative=1e-3)


@row(there=r"away|lost", cases=("0.5", "1.5", "-0.5"))
def test_c11_a_power_that_is_no_integer(case: str) -> None:
    x = numbers(50).abs() + 0.5
    plain = x.clone().requires_grad_()
    plain.pow(float(case)).sum().backward()
    leaf = crypten.cryptensor(x, requires_grad=True)
    found = leaf.pos_pow(float(case))
    found.sum().backward()
    close(opened(found), x.pow(float(case)), 2e-3, relative=2e-3)
    close(gradient(leaf), plain.grad, 2e-3, relative=2e-3)


@row(there=r"away|lost")
def test_c11_the_gradient_of_a_sixth_power() -> None:
    x = numbers(50, scale=0.6)
    leaf = crypten.cryptensor(x, requires_grad=True)
    leaf.pow(6).sum().backward()
    close(gradient(leaf), 6 * x**5, 2e-3, relative=1e-3)


# Models.

one_at_a_time = threading.Lock()
"""Models are made by torch's global generator, and the parties are threads."""


def converted_equals(make: Callable[[], tuple[nn.Module, torch.Tensor, torch.Tensor]]) -> None:
    with one_at_a_time:
        model, plain, secret = make()
        mine = crypten.nn.from_pytorch(model, plain).eval()
        with torch.no_grad():
            wanted = model(plain).double()
    if rank() != 1:
        mine = with_other_values(mine)
    mine.encrypt(src=1)
    close(opened(mine(crypten.cryptensor(secret, src=0))), wanted, 1e-2, relative=1e-2)


@row(there=r"away|shape|Error", cases=sorted(CRYPTEN_IS_WRONG), slow=SLOW)
def test_c12_models_are_converted_right(case: str) -> None:
    converted_equals(lambda: made(case))


def normalising() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    variances = torch.tensor([1e-4, 1e-3, 4.0])
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3)).eval()
    model[1].running_var.copy_(variances)
    model[1].running_mean.copy_(torch.tensor([0.5, -0.25, 1.0]))
    model[1].bias.data.copy_(torch.tensor([0.25, 0.75, -0.5]))
    model[1].weight.data.copy_(variances.sqrt() * 0.9)
    x = numbers(2, 1, 3, 3).float()
    return model, x, x


@row(there=r"away|shape|Error")
def test_c12_batch_normalisation_with_small_variances() -> None:
    converted_equals(normalising)


@row(there=r"away|shape|Error")
def test_c12_load_state_dict_loads_buffers() -> None:
    layer, other, plain = crypten.nn.BatchNorm1d(4), crypten.nn.BatchNorm1d(4), nn.BatchNorm1d(4).eval()
    mean, variance = torch.tensor([1.0, -2.0, 0.5, 3.0]), torch.tensor([0.5, 1.5, 4.0, 1.0])
    for one in (other, plain):
        one.running_mean.copy_(mean)
        one.running_var.copy_(variance)
    layer.load_state_dict(other.state_dict())
    layer.eval()
    layer.encrypt(src=0)
    x = numbers(5, 4).float()
    close(opened(layer(crypten.cryptensor(x))), plain(x), 1e-2)
