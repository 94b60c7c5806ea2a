"""Gradients of encrypted tensors against torch.autograd: by operation, on random graphs, and refusals."""

from __future__ import annotations

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
from crypten.gradients import FUNCTION_REGISTRY  # noqa: E402

from mpcpriv.engine.gradients.guard import WITHOUT_GRADIENT  # noqa: E402
from mpcpriv.engine.protocol.rectifiers import SILU  # noqa: E402
from mpcpriv.engine.tensor import SharedTensor  # noqa: E402
from tests.protocol.gradient_cases import PICK, TABLES, Case, operands, weights  # noqa: E402
from tests.protocol.graphs import graph  # noqa: E402


def check(cases: dict[str, Case], n: int, tolerance: float = 2e-3) -> None:
    """Values and gradients of all cases, for a weighted sum and for a plain one of the result."""

    def program(session: Session) -> list[list[torch.Tensor]]:
        crypten.init()
        found = []
        for seed, item in enumerate(cases.values()):
            opened = []
            for weighted in (True, False):
                given = [
                    crypten.cryptensor(value, src=k % n, requires_grad=True)
                    for k, value in enumerate(operands(item, seed))
                ]
                result = item.shared(*given)
                (result * weights(tuple(result.shape)) if weighted else result).sum().backward()
                opened += [result.get_plain_text(), *(x.grad.get_plain_text() for x in given)]
            found.append(opened)
        return found

    results = run(n, program)
    assert all(
        torch.equal(a, b)
        for mine, theirs in zip(results[0], results[1], strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )
    for seed, ((name, item), found) in enumerate(zip(cases.items(), results[0], strict=True)):
        expected = []
        for weighted in (True, False):
            given = [value.clone().requires_grad_() for value in operands(item, seed)]
            result = (item.plain or item.shared)(*given)
            (result * weights(tuple(result.shape)) if weighted else result).sum().backward()
            expected += [result.detach(), *(x.grad for x in given)]
        for k, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            assert theirs is not None
            assert mine.shape == theirs.shape, (name, k, mine.shape, theirs.shape)
            if theirs.numel():
                error = (mine - theirs).abs() / (1 + theirs.abs())
                assert float(error.max()) < tolerance, (name, k, mine, theirs)


LONG = {"functions", "reduction"}
"""Made of what the others and `test_arithmetic.py` have at three parties, too."""


@pytest.mark.parametrize(
    ("table", "n"),
    [
        pytest.param(table, n, marks=[pytest.mark.slow] if n == 3 and table in LONG else [])
        for table in TABLES
        for n in (2, 3)
    ],
)
def test_gradients_equal_torch_s(table: str, n: int) -> None:
    check(TABLES[table], n)


# Random graphs.


def graphs_agree(seeds: range) -> None:
    """Losses and gradients of these programs, to a relative 1e-2 of the largest gradient by each leaf."""
    programs = [graph(seed) for seed in seeds]

    def program(session: Session) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
        crypten.init()
        found = []
        for made in programs:
            leaves = [crypten.cryptensor(x, src=k % 2, requires_grad=True) for k, x in enumerate(made.leaves)]
            loss = made.loss(leaves)
            loss.backward()
            gradients = [None if x.grad is None else x.grad.get_plain_text() for x in leaves]
            found.append((loss.get_plain_text(), gradients))
        return found

    for seed, made, (loss, found) in zip(seeds, programs, run(2, program, seconds=600)[0], strict=True):
        leaves = [x.clone().requires_grad_() for x in made.leaves]
        expected = made.loss(leaves)
        expected.backward()
        wanted = expected.detach()
        assert float((loss - wanted).abs()) < 1e-2 * (1 + float(wanted.abs())), (seed, made.steps)
        for mine, x in zip(found, leaves, strict=True):
            assert (mine is None) == (x.grad is None), (seed, made.steps)
            if mine is not None and x.grad is not None:
                error = float((mine - x.grad).abs().max()) / max(float(x.grad.abs().max()), 0.05)
                assert error < 1e-2, (seed, error, made.steps, mine, x.grad)


def test_thirty_random_graphs_agree_with_torch() -> None:
    graphs_agree(range(30))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("start", range(0, 500, 100))
def test_five_hundred_random_graphs_agree_with_torch(start: int) -> None:
    graphs_agree(range(start, start + 100))


# The graph itself.


def opened(program: Callable[[], Any], n: int = 2) -> Any:
    """What a program returns that runs at every party after `crypten.init()`."""

    def at_party(session: Session) -> Any:
        crypten.init()
        return program()

    return run(n, at_party)[0]


def leaf(value: torch.Tensor) -> Any:
    return crypten.cryptensor(value, src=0, requires_grad=True)


def test_c11_a_second_backward_through_a_shared_node_adds_the_whole_gradient() -> None:
    def program() -> list[torch.Tensor]:
        x = leaf(torch.tensor([1.0, -2.0, 3.0]))
        shared = x * x
        first, second = shared.sum(), (shared * 3).sum()
        first.backward()
        once = x.grad.get_plain_text()
        second.backward()
        twice = x.grad.get_plain_text()
        second.backward(retain_graph=False)
        thrice = x.grad.get_plain_text()
        with pytest.raises(UsageError, match="a second time"):
            second.backward()
        return [once, twice, thrice]

    once, twice, thrice = opened(program)
    assert torch.allclose(once, torch.tensor([2.0, -4.0, 6.0]).double())
    assert torch.allclose(twice, 4 * once)
    assert torch.allclose(thrice, 7 * once)


def test_c6_gradients_do_not_alias_each_other_or_what_was_passed_in() -> None:
    def program() -> list[torch.Tensor]:
        x, y = leaf(torch.ones(3)), leaf(torch.ones(3))
        seed = crypten.cryptensor(torch.ones(3), src=1)
        (x + y).backward(seed)
        with crypten.no_grad():
            x.grad.add_(5)
            seed.add_(7)
        y.backward(crypten.cryptensor(torch.ones(3), src=0))
        before = x.grad
        x.backward(seed)
        return [t.get_plain_text() for t in (x.grad, y.grad, before)]

    x, y, before = opened(program)
    assert x.tolist() == [14.0] * 3
    assert y.tolist() == [2.0] * 3
    assert before.tolist() == [6.0] * 3


def test_a_long_chain_needs_no_recursion() -> None:
    def program() -> torch.Tensor:
        x = leaf(torch.tensor(1.0))
        y = x
        for _ in range(3000):
            y = y + x
        y.backward()
        return x.grad.get_plain_text()

    assert opened(program).item() == 3001


def test_only_what_is_needed_is_computed() -> None:
    def program(session: Session) -> tuple[int, Any]:
        crypten.init()
        data, w = crypten.cryptensor(torch.ones(8, 4), src=0), leaf(torch.ones(4, 1))
        loss = data.matmul(w).square().sum()
        before = session.cost.rounds
        loss.backward()
        return session.cost.rounds - before, data.grad

    rounds, gradient = run(2, program)[0]
    assert gradient is None
    assert rounds == 2, "one product: the data times the residual"


def test_detach_and_no_grad() -> None:
    def program() -> list[Any]:
        x = leaf(torch.tensor([2.0]))
        (x.detach() * x).sum().backward()
        once = x.grad.get_plain_text()
        with crypten.no_grad():
            constant = x * x
        assert not constant.requires_grad
        assert not (constant * 2).requires_grad
        with pytest.raises(UsageError, match="requires no gradient"):
            constant.sum().backward()
        with pytest.raises(UsageError, match="shape"):
            (x * torch.ones(2)).backward()
        kept = x * 3
        x.detach_()
        assert not (x * 2).requires_grad
        return [once, kept.requires_grad]

    once, kept = opened(program)
    assert once.tolist() == [2.0]
    assert kept


def test_a_running_total_is_followed() -> None:
    def program() -> list[torch.Tensor]:
        x = leaf(torch.tensor([2.0, 1.0]))
        total = crypten.cryptensor(torch.tensor(0.0), src=0)
        for k in range(1, 4):
            total += (x * k).sum()
        total *= 2
        total.backward()
        with pytest.raises(Unsupported, match="leaf"):
            x += 1
        return [x.grad.get_plain_text()]

    assert opened(program)[0].tolist() == [12.0, 12.0]


@pytest.mark.parametrize("count", [569, 70_000])
def test_c11_gradients_of_a_mean_keep_their_digits(count: int) -> None:
    """CrypTen's are 0 from 65,536 elements on; rounding each residual / n would cost 1 % at 569 rows."""
    generator = torch.Generator().manual_seed(5)
    data = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    target = (data.sum(1, keepdim=True) > 0).double()
    losses = {
        "mse": (crypten.nn.MSELoss(), functional.mse_loss),
        "bce": (
            lambda p, t: crypten.nn.BCELoss()(p.sigmoid(), t),
            lambda p, t: functional.binary_cross_entropy(p.sigmoid(), t),
        ),
        "logits": (
            crypten.nn.BCEWithLogitsLoss(),
            functional.binary_cross_entropy_with_logits,
        ),
        "mean": (lambda p, t: ((p - t) * p).mean(), lambda p, t: ((p - t) * p).mean()),
    }
    # As fixed point holds them: else the difference is that of the points where the gradients are taken.
    start = torch.tensor([[0.3125], [-0.1875]], dtype=torch.float64)

    def program() -> list[torch.Tensor]:
        x, y = crypten.cryptensor(data, src=0), crypten.cryptensor(target, src=1)
        found = []
        for shared, _ in losses.values():
            w = leaf(start)
            shared(x.matmul(w), y).backward()
            found.append(w.grad.get_plain_text())
        return found

    for (name, (_, plain)), found in zip(losses.items(), opened(program), strict=True):
        w = start.clone().requires_grad_()
        plain(data @ w, target).backward()
        assert w.grad is not None
        assert float(((found - w.grad).abs() / w.grad.abs()).max()) < 1e-3, (name, found, w.grad)


# What has no gradient.


def test_every_public_operation_has_a_gradient_or_is_guarded() -> None:
    """A method is registered, or wrapped by the guard, or known to carry no gradient."""
    unknown = []
    for name in dir(SharedTensor):
        if name.startswith("_") or name.endswith("_"):
            continue
        method = next(vars(kind)[name] for kind in SharedTensor.__mro__ if name in vars(kind))
        known = name in FUNCTION_REGISTRY or name in WITHOUT_GRADIENT or hasattr(method, "__wrapped__")
        if isinstance(method, type(leaf)) and not known:
            unknown.append(name)
    assert not unknown


def test_c11_an_operation_that_loses_the_gradient_is_refused_by_name() -> None:
    def program() -> None:
        x = leaf(torch.rand(3, generator=torch.Generator().manual_seed(1)))
        with pytest.raises(Unsupported, match=r"cossin has no gradient: use detach\(\)"):
            x.cossin()
        with pytest.raises(Unsupported, match="relu_and_slope"):
            x.relu_and_slope()
        with pytest.raises(Unsupported, match="x\\[i\\] = y"):
            x[0] = 1
        other = crypten.cryptensor(torch.zeros(3), src=0)
        with pytest.raises(Unsupported, match="writing into"):
            other.copy_(x)
        with pytest.raises(Unsupported, match="writing into"):
            other.add_(x)
        with crypten.no_grad():
            x.cossin()
        x.detach().cossin()
        assert not (x > 0).requires_grad
        assert not x.argmax().requires_grad

    opened(program)


def test_no_public_method_returns_a_silent_none() -> None:
    """Each method, called on a tensor that requires a gradient: its result carries it, or it is refused."""
    arguments: dict[str, tuple[Any, ...]] = {
        **dict.fromkeys(("softmax", "log_softmax", "cumsum", "unsqueeze", "norm"), (1,)),
        **dict.fromkeys(("mul", "add", "sub", "div", "pos_pow", "pow", "leaky_relu"), (2,)),
        "split": (1,),
        "chunk": (2,),
        "unbind": (),
        "expand": (4, 3, 3),
        "repeat": (2, 1),
        "unfold": (0, 2, 1),
        "narrow": (0, 0, 2),
        "reshape": (9,),
        "view": (9,),
        "permute": (1, 0),
        "transpose": (0, 1),
        "flip": (0,),
        "roll": (1,),
        "pad": ((1, 1),),
        "clamp": (0, 1),
        "clip": (0, 1),
        "polynomial": ([1.0, 2.0],),
        "gather": (0, torch.zeros(3, 3).long()),
        "take": (torch.tensor([1]),),
        "index_select": (0, PICK),
        **dict.fromkeys(("cumprod", "cummax", "cummin", "logsumexp", "topk", "kthvalue"), (1,)),
        **dict.fromkeys(("maximum", "minimum"), (0.5,)),
        "quantile": (0.5,),
        "ranked": ([0], 1, False),
        "rectified_with_slope": (SILU,),
    }

    def program() -> list[str]:
        called = []
        value = torch.rand(3, 3, generator=torch.Generator().manual_seed(2)) + 0.5
        for name in sorted(set(dir(SharedTensor)) | set(FUNCTION_REGISTRY)):
            if (
                name.startswith("_")
                or name.endswith("_")
                or name in WITHOUT_GRADIENT
                or name in ("cat", "stack", "randn")
            ):
                continue
            x = leaf(value)
            method = getattr(x, name)
            if (
                not callable(method) or getattr(method, "__self__", None) is SharedTensor
            ):  # it makes a new one
                continue
            try:
                result = method(*arguments.get(name, ()))
            except (Unsupported, TypeError):  # refused, or it needs operands: the tables call those
                continue
            results = result if isinstance(result, (list, tuple)) else [result]
            made = [t for t in results if isinstance(t, SharedTensor)]
            assert not made or any(t.requires_grad for t in made), name
            called.append(name)
        return called

    assert len(opened(program)) > 50


def test_a_gradient_holds_digits_that_other_tensors_do_not_and_behaves_as_a_number() -> None:
    slope = 3 * 2.0**-21  # a third of what 16 fractional bits can hold

    def program(session: Session) -> Any:
        import crypten

        crypten.init()
        weight = crypten.cryptensor(torch.tensor([2.0, -3.0]), src=0, requires_grad=True)
        weight.expand(256, 2).mul(slope).sum(0).mul(1 / 256).sum().backward()
        g = weight.grad
        ones = crypten.cryptensor(torch.ones(2), src=1)
        moved = weight.detach().clone()
        optimiser = crypten.optim.SGD([weight], lr=1.0)
        optimiser.step()
        results = {
            "itself": g,
            "sum": g + ones,
            "product": (g * 2**10) * ones,
            "square": (g * 2**12).square(),
            "matmul": (g * 2**10) @ ones,
            "public": g * 1000.5,
            "comparison": g > 0,
            "sigmoid": g.sigmoid(),
            "exp": (g + 1).exp(),
            "joined": crypten.cat([g, ones]),
            "moved": moved - g,
        }
        return {name: x.get_plain_text() for name, x in results.items()}, weight.bits, weight.get_plain_text()

    results, bits, weight = run(2, program)[0]
    g, ones = torch.full((2,), slope, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    wanted = {
        "itself": g,
        "sum": g + 1,
        "product": g * 2**10,
        "square": (g * 2**12).square(),
        "matmul": (g * 2**10).sum(),
        "public": g * 1000.5,
        "comparison": ones,
        "sigmoid": g.sigmoid(),
        "exp": (g + 1).exp(),
        "joined": torch.cat([g, ones]),
        "moved": torch.tensor([2.0, -3.0]) - g,
    }
    for name in ("itself", "sum", "joined", "moved"):
        assert (results[name] - wanted[name]).abs().max() < 2.0**-23, name
    for name, value in wanted.items():
        assert (results[name] - value).abs().max() < 5e-4, name
    assert bits == 16, "a parameter has sixteen bits, also after a step with a rate of one"
    assert (weight - torch.tensor([2.0, -3.0])).abs().max() <= 2.0**-16


@pytest.mark.parametrize("n", [2, 3])
def test_a_gradient_that_is_given_has_no_more_bits_than_another(n: int) -> None:
    """A second mean would raise it by eight more, and its square leave the ring."""

    def program(session: Session) -> tuple[int, torch.Tensor, torch.Tensor]:
        crypten.init()
        x = crypten.cryptensor(torch.full((256,), 1.5), src=0, requires_grad=True)
        w = crypten.cryptensor(torch.ones(256, 256), src=1, requires_grad=True)
        (x * x).mean().backward()
        w.mean(1).backward(x.grad)
        return w.grad.bits, w.grad.get_plain_text(), (w.grad * 2**16).square().get_plain_text()

    bits, gradient, squares = run(n, program)[0]
    assert bits <= 24
    assert (gradient - 3 / 2**16).abs().max() < 2**-22
    assert (squares - 9).abs().max() < 0.1
