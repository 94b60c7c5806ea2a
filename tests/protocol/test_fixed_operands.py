"""An operand that stays the same is opened once; one that has changed is opened again, whoever changed it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch.nn import functional

import mpcpriv.engine
from mpcpriv.engine.session import Session
from mpcpriv.errors import Desynchronised, UsageError
from tests.protocol.openings import BOTH, LEFT, RIGHT, UNIT, Watch, numbers, off
from tests.protocol.parties import Sight, run

mpcpriv.engine.activate()

import crypten  # noqa: E402

# Every bilinear map.

MAPS: dict[
    str, tuple[tuple[int, ...], tuple[int, ...], Callable[[Any, Any], Any], Callable[..., torch.Tensor]]
] = {
    "mul": ((3, 4), (3, 4), lambda x, y: x * y, torch.mul),
    "mul, the right one broadcast": ((2, 3, 4), (4,), lambda x, y: x * y, torch.mul),
    "mul, both broadcast": ((3, 1), (1, 4), lambda x, y: x * y, torch.mul),
    "mul of numbers": ((), (), lambda x, y: x * y, torch.mul),
    "mul of nothing": ((0, 3), (3,), lambda x, y: x * y, torch.mul),
    "matmul": ((3, 5), (5, 2), lambda x, y: x @ y, torch.matmul),
    "matmul of vectors": ((5,), (5,), lambda x, y: x @ y, torch.matmul),
    "matmul of batches": ((4, 3, 5), (4, 5, 2), lambda x, y: x @ y, torch.matmul),
    "matmul of a batch and a matrix": ((4, 3, 5), (5, 2), lambda x, y: x @ y, torch.matmul),
    "conv1d": (
        (2, 3, 9),
        (4, 3, 3),
        lambda x, y: x.conv1d(y, padding=1),
        lambda x, y: functional.conv1d(x, y, padding=1),
    ),
    "conv2d": (
        (2, 4, 5, 6),
        (4, 2, 3, 2),
        lambda x, y: x.conv2d(y, stride=2, groups=2),
        lambda x, y: functional.conv2d(x, y, stride=2, groups=2),
    ),
    "conv_transpose1d": (
        (2, 3, 4),
        (3, 2, 3),
        lambda x, y: x.conv_transpose1d(y, stride=2),
        lambda x, y: functional.conv_transpose1d(x, y, stride=2),
    ),
    "conv_transpose2d": (
        (1, 3, 4, 4),
        (3, 2, 3, 3),
        lambda x, y: x.conv_transpose2d(y, padding=1),
        lambda x, y: functional.conv_transpose2d(x, y, padding=1),
    ),
}


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", MAPS)
def test_either_operand_may_stay_and_both(name: str, n: int) -> None:
    left, right, operation, plain = MAPS[name]
    xs = [numbers(*left, seed=seed) for seed in (1, 2)]
    ys = [numbers(*right, seed=seed) for seed in (3, 4)]

    def program(session: Session) -> list[tuple[list[str], float]]:
        watch, found = Watch(session), []
        x, other_x = (crypten.cryptensor(value, src=0) for value in xs)
        y, other_y = (crypten.cryptensor(value, src=1) for value in ys)
        for a, b, pa, pb in (
            (x, y, xs[0], ys[0]),
            (x, other_y, xs[0], ys[1]),
            (other_x, y, xs[1], ys[0]),
            (other_x, other_y, xs[1], ys[1]),
            (x, y, xs[0], ys[0]),
        ):
            opened, result = watch.opens(lambda a=a, b=b: operation(a, b))  # type: ignore[misc]
            wanted = plain(pa, pb)
            assert tuple(result.shape) == tuple(wanted.shape)
            found.append((opened, off(result, wanted) if wanted.numel() else 0.0))
        return found

    for found in run(n, program):
        assert [opened for opened, _ in found] == [[BOTH], [RIGHT], [LEFT], [], []]
        assert max(error for _, error in found) <= UNIT


# The same value under other names.

SAME: dict[str, Callable[[Any], Any]] = {
    "itself": lambda x: x,
    "transpose": lambda x: x.transpose(0, 2),
    "of negative dimensions": lambda x: x.transpose(-1, -2),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "permute": lambda x: x.permute(2, 0, 1),
    "permute by a list": lambda x: x.permute([1, 2, 0]),
    "there and back": lambda x: x.transpose(0, 1).transpose(0, 1),
    "detach": lambda x: x.detach(),
    "shallow copy": lambda x: x.shallow_copy(),
    "reshape": lambda x: x.reshape(6, 4),
    "reshape and transpose": lambda x: x.reshape(-1, 4).t(),
    "transpose and reshape": lambda x: x.transpose(0, 1).reshape(3, 2, 2, 2),
    "view": lambda x: x.view(2, 12),
    "flatten": lambda x: x.flatten(),
    "flatten from": lambda x: x.flatten(1),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "unsqueeze and squeeze": lambda x: x.unsqueeze(0).squeeze(0).transpose(0, 1),
    "all of it": lambda x: x.permute(1, 0, 2).unsqueeze(-1).detach().transpose(0, 2).shallow_copy(),
    "to": lambda x: x.to("cpu"),
}
OTHER: dict[str, Callable[[Any], Any]] = {
    "clone": lambda x: x.clone(),
    "a part": lambda x: x[0],
    "all by index": lambda x: x[:],
    "a narrow part": lambda x: x.narrow(0, 0, 1),
    "flip": lambda x: x.flip(0),
    "expand": lambda x: x.unsqueeze(0).expand(2, -1, -1, -1),
    "a sum": lambda x: x + 0,
    "a product": lambda x: x * 1,
    "what does not run through dimensions": lambda x: x.transpose(0, 1).reshape(-1),
    "stack": lambda x: crypten.stack([x, x]),
}
WIDE = numbers(2, 3, 4)


@pytest.mark.parametrize("first", [True, False], ids=["opened before", "opened by it"])
def test_a_value_is_opened_once_under_all_its_names(first: bool) -> None:
    def program(session: Session) -> dict[str, tuple[list[str], float]]:
        watch, found = Watch(session), {}
        three = crypten.cryptensor(torch.tensor(3.0))
        three.mul(three)  # open from now on
        for name, change in {**SAME, **OTHER}.items():
            x = crypten.cryptensor(WIDE, src=0)
            changed = change(x)
            earlier, later = (x, changed) if first else (changed, x)
            wanted = 3 * later.get_plain_text()
            earlier * three
            opened, result = watch.opens(lambda later=later: later * three)  # type: ignore[misc]
            found[name] = opened, off(result, wanted)
        return found

    for found in run(2, program):
        for name, (opened, error) in found.items():
            assert opened == ([] if name in SAME else [LEFT]), name
            assert error <= UNIT, name


def test_a_matrix_times_its_own_transpose_is_opened_once() -> None:
    plain = numbers(4, 3)

    def program(session: Session) -> list[tuple[list[str], float]]:
        watch, found = Watch(session), []
        for operation in (lambda x: x.t() @ x, lambda x: x @ x.t(), lambda x: x * x, lambda x: x.t() * x.t()):
            x = crypten.cryptensor(plain, src=1)
            for _ in range(2):
                opened, result = watch.opens(lambda x=x, operation=operation: operation(x))  # type: ignore[misc]
                found.append((opened, off(result, operation(plain))))
        return found

    for found in run(3, program):
        assert [opened for opened, _ in found] == [[LEFT], []] * 4
        assert max(error for _, error in found) <= UNIT


# Changes.


def optimised(x: Any) -> None:
    x.grad = crypten.cryptensor(torch.ones(x.shape))
    crypten.optim.SGD([x], lr=1.0).step()


def written(x: Any) -> None:
    x[0, 1] = 5.0


def assigned(name: str) -> Callable[[Any], None]:
    return lambda x: setattr(x, name, (x.share * 3).clone())


CHANGES: dict[str, tuple[Callable[[Any], Any], Callable[[torch.Tensor], torch.Tensor]]] = {
    "add_": (lambda x: x.add_(1), lambda x: x + 1),
    "sub_ of shared": (lambda x: x.sub_(crypten.cryptensor(torch.ones(2, 3))), lambda x: x - 1),
    "mul_": (lambda x: x.mul_(2), lambda x: 2 * x),
    "mul_ by itself": (lambda x: x.mul_(x), lambda x: x * x),
    "+=": (lambda x: x.__iadd__(1), lambda x: x + 1),
    "x[i] = y": (
        written,
        lambda x: x.index_put((torch.tensor(0), torch.tensor(1)), torch.tensor(5.0).double()),
    ),
    "copy_": (lambda x: x.copy_(crypten.cryptensor(torch.ones(2, 3))), lambda x: torch.ones(2, 3).double()),
    "set": (lambda x: x.set(crypten.cryptensor(torch.ones(2, 3))), lambda x: torch.ones(2, 3).double()),
    "share =": (assigned("share"), lambda x: 3 * x),
    "data =": (assigned("data"), lambda x: 3 * x),
    "_tensor =": (assigned("_tensor"), lambda x: 3 * x),
    "torch's add_ on the share": (lambda x: x.share.add_(x.share.clone()), lambda x: 2 * x),
    "torch's add_ on a part of the share": (
        lambda x: x.share[1:].mul_(2),
        lambda x: x * torch.tensor([[1.0], [2.0]]),
    ),
    "torch's add_ on a transpose's share": (lambda x: x.t().share.mul_(2), lambda x: 2 * x),
    "torch's mul_ on a detached one's share": (lambda x: x.detach().data.mul_(2), lambda x: 2 * x),
    "a step of an optimiser": (optimised, lambda x: x - 1),
}


@pytest.mark.parametrize("n", [2, 3])
def test_a_value_that_has_changed_is_opened_again(n: int) -> None:
    """A stale x - a would give the product of the old value."""
    plain, other = numbers(2, 3), numbers(3, 2, seed=2)

    def program(session: Session) -> dict[str, list[Any]]:
        watch, found = Watch(session), {}
        y = crypten.cryptensor(other, src=1)
        for name, (change, of_torch) in CHANGES.items():
            x = crypten.cryptensor(plain, src=0)
            view = x.t()  # made before: it may keep the old value, or see the new one
            x.matmul(y)
            change(x)
            new = of_torch(plain)
            first, result = watch.opens(lambda x=x: x @ y)  # type: ignore[misc]
            again, same = watch.opens(lambda x=x: x.t().mul(y))  # type: ignore[misc]
            seen = float((view.get_plain_text() - new.t()).abs().max()) < 0.01
            _, viewed = watch.opens(lambda view=view: view.mul(y))  # type: ignore[misc]
            of_view = off(viewed, (new if seen else plain).t() * other)
            found[name] = [first, again, max(off(result, new @ other), off(same, new.t() * other), of_view)]
        return found

    for found in run(n, program):
        for name, (first, again, error) in found.items():
            assert first == [LEFT], name
            assert again == [], name
            assert error <= 8 * UNIT, name


def test_a_copy_of_a_value_that_has_changed_is_opened_again() -> None:
    """The memory was changed through the first name, and the second is asked first."""
    plain = numbers(2, 3)

    def program(session: Session) -> list[tuple[list[str], float]]:
        watch, found = Watch(session), []
        two = crypten.cryptensor(torch.tensor(2.0))
        for name in (lambda x: x, lambda x: x.t(), lambda x: x.detach(), lambda x: x.reshape(3, 2)):
            x = crypten.cryptensor(plain, src=0)
            copy = name(x)
            x * two
            x.share.mul_(2)
            for tensor, of_torch in ((copy, name), (x, lambda x: x)):
                opened, result = watch.opens(lambda tensor=tensor: tensor * two)  # type: ignore[misc]
                found.append((opened, off(result, 4 * of_torch(plain))))
        return found

    for found in run(2, program):
        assert all(error <= UNIT for _, error in found)
        assert [opened for opened, _ in found[::2]] == [[LEFT]] * 4


def test_a_given_share_is_copied() -> None:
    """numpy changes memory without telling torch."""

    def program(session: Session) -> float:
        crypten.init()
        mine = torch.full((3,), 1 << 16).numpy() * (session.rank == 0)
        x = crypten.mpc.MPCTensor.from_shares(torch.from_numpy(mine))
        x * x
        mine[:] = 0
        return max(off(x * x, torch.ones(3)), off(x, torch.ones(3)))

    assert max(run(2, program)) <= UNIT


# What may differ between parties must not matter.


def test_parties_agree_whatever_their_memory_looks_like() -> None:
    def program(session: Session) -> tuple[list[list[str]], float]:
        watch = Watch(session)
        zeros = torch.zeros(3, 4, dtype=torch.int64)
        share = torch.full((4, 3), 2 << 16).t() if session.rank == 0 else zeros
        x = crypten.mpc.MPCTensor.from_shares(share)
        y = crypten.mpc.MPCTensor.from_shares(
            share
        )  # one and the same tensor of torch's; two of the program's
        steps = [lambda: x * y, lambda: x.view(12) * y.flatten(), lambda: x.reshape(2, 6) * y.view(2, 6)]
        x.data, y.data = share, share
        opened = []
        for step in (*steps, *steps):
            found, result = watch.opens(step)
            opened.append(found)
        return opened, off(result, torch.full((2, 6), 4.0))

    for opened, error in run(3, program):
        assert opened == [[BOTH], [], [], [], [], []]
        assert error <= UNIT


def test_where_torch_counts_no_changes_nothing_stays() -> None:
    def program(session: Session) -> tuple[list[list[str]], float]:
        watch = Watch(session)
        with torch.inference_mode():
            x, y = (crypten.cryptensor(torch.ones(2, 2), src=src) for src in (0, 1))
            opened = [watch.opens(lambda: x.t() @ y.detach())[0] for _ in range(2)]
            x.share.mul_(2)
            return opened, off(x @ y, torch.full((2, 2), 4.0))

    for opened, error in run(2, program):
        assert opened == [[BOTH], [BOTH]]
        assert error <= UNIT


def test_what_is_open_in_one_session_is_not_in_another() -> None:
    tensors: dict[int, Any] = {}

    def first(session: Session) -> None:
        crypten.init()
        tensors[session.rank] = x = crypten.cryptensor(torch.ones(3), src=0)
        x * x

    def second(session: Session) -> tuple[list[str], float]:
        watch, x = Watch(session), tensors[session.rank]
        opened, result = watch.opens(lambda: x * 2 * x)
        return opened, off(result, torch.full((3,), 2.0))

    run(2, first)
    for opened, error in run(2, second):
        assert opened == [BOTH]
        assert error <= UNIT


def test_a_mask_too_long_ago_is_drawn_again() -> None:
    def program(session: Session) -> list[list[str]]:
        watch = Watch(session)
        x = crypten.cryptensor(torch.ones(3), src=0)
        opened = []
        for between in (0, 2, 3):
            for _ in range(between):
                x.sum() < 0  # noqa: B015 - one correlation
            y = crypten.cryptensor(torch.ones(3), src=1)
            found, result = watch.opens(lambda y=y: x * y)  # type: ignore[misc]
            assert off(result, torch.ones(3)) <= UNIT
            opened.append(found)
        return opened

    with mock.patch("mpcpriv.engine.protocol.operand.REACH", 4):
        assert run(2, program) == [[[BOTH], [RIGHT], [BOTH]]] * 2


def test_a_refused_product_opens_nothing() -> None:
    def program(session: Session) -> tuple[list[str], float]:
        watch = Watch(session)
        x, y = crypten.cryptensor(torch.ones(3), src=0), crypten.cryptensor(torch.ones(2), src=1)
        with pytest.raises(UsageError):
            x * y
        opened, result = watch.opens(lambda: x * x)
        return opened, off(result, torch.ones(3))

    for opened, error in run(2, program):
        assert opened == [LEFT]
        assert error <= UNIT


# What travels.


def test_nothing_of_a_fixed_operand_travels_twice_and_the_dealer_learns_of_masks_only() -> None:
    sight = Sight()

    def program(session: Session) -> None:
        crypten.init()
        x = crypten.cryptensor(numbers(5, 3), src=0)
        for seed in range(4):
            y = crypten.cryptensor(numbers(3, 2, seed=seed), src=1)
            x @ y
            y.t() @ x.t()

    run(2, program, sight=sight)
    sizes = [
        [tuple(t.shape) for t in frame.tensors]
        for frame in sight.frames(0, 1)
        if frame.operation.startswith("matmul")
    ]
    assert sizes == [[(5, 3), (3, 2)], [], *[[(3, 2)], []] * 3]


def test_a_party_that_thinks_another_operand_stays_is_noticed() -> None:
    def program(session: Session) -> None:
        crypten.init()
        x = crypten.cryptensor(torch.ones(3), src=0)
        x * x
        if session.rank == 1:
            x.share.add_(0)
        x * x
        x.get_plain_text()

    with pytest.raises(Desynchronised):
        run(2, program)


def test_the_mask_is_expanded_anew_and_not_kept() -> None:
    """What a party keeps of an open operand is public among the parties: d, and where its mask stands."""

    def program(session: Session) -> tuple[bool, bool]:
        crypten.init()
        x = crypten.cryptensor(torch.ones(1000), src=0)
        x * x
        opening = x.operand.value.opening
        assert opening is not None
        everywhere = session.exchange(
            "compare", {1 - session.rank: [opening.masked]}, [1 - session.rank], [opening.masked]
        )[1 - session.rank]
        kept = [v for v in vars(opening).values() if isinstance(v, torch.Tensor)]
        return torch.equal(everywhere[0], opening.masked), len(kept) == 1

    assert run(2, program) == [(True, True)] * 2


def test_two_operands_do_not_keep_each_other_in_memory() -> None:
    def program(session: Session) -> tuple[int, int]:
        crypten.init()
        x, w = crypten.cryptensor(torch.ones(1000, 10), src=0), crypten.cryptensor(torch.ones(10, 3), src=0)
        x @ w
        of_x, of_w = (tensor.operand.value.opening for tensor in (x, w))
        assert of_x is not None
        assert of_w is not None
        return of_w.masked.data_ptr() - of_x.masked.data_ptr(), of_x.masked.nbytes

    for apart, size in run(2, program):
        assert apart != size, "both lie in the one message that brought them"
