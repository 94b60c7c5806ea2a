"""Sharing, truncation and products: exact where they say so, within a unit or two where they round."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcpriv.engine.prg import Prg
from mpcpriv.engine.protocol.multiply import product, square
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.session import Session
from tests.protocol.parties import run

UNIT = 2.0**-16
LIMIT = 1 << 62
PARTIES = [2, 3, 4, 5]
few = settings(max_examples=12, deadline=None)


def uniform(count: int, number: int) -> torch.Tensor:
    return Prg(b"sixteen bytes ok").stream(number).tensor((count,))


def share(session: Session, value: torch.Tensor, source: int = 0) -> torch.Tensor:
    return session.share_input(source, tuple(value.shape), value if session.rank == source else None)


def opened(session: Session, shares: torch.Tensor) -> torch.Tensor:
    result = session.open_to("open", shares, list(range(session.size)))
    assert result is not None
    return result


def at_parties(n: int, program: Callable[..., Any], *args: Any) -> Any:
    """The result of a program that gives the same to all."""
    results = run(n, program, *args)
    if isinstance(results[0], torch.Tensor):
        assert all(torch.equal(result, results[0]) for result in results)
    return results[0]


@given(
    st.sampled_from(PARTIES),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.integers(0, 4),
)
@few
def test_shares_add_up_to_the_secret_and_are_not_the_secret(n: int, values: list[int], source: int) -> None:
    secret = torch.tensor(values, dtype=torch.int64)
    shares = run(n, share, secret, source % n)
    assert torch.equal(torch.stack(shares).sum(0), secret)
    for one in shares:
        assert not bool((one == secret).any())


@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize("group", ["sum", "xor"])
def test_zero_shares_cancel_and_are_fresh(n: int, group: Any) -> None:
    def program(session: Session) -> tuple[torch.Tensor, torch.Tensor]:
        return session.zero_share((100,), group), session.zero_share((100,), group)

    for shares in zip(*run(n, program), strict=True):
        total = torch.zeros(100, dtype=torch.int64)
        for one in shares:
            total = total + one if group == "sum" else total ^ one
            assert len(set(one.tolist())) == 100
        assert not bool(total.any())
    for first, second in run(n, program):
        assert not bool((first == second).any())


def test_shares_of_the_same_secret_differ_from_run_to_run() -> None:
    secret = torch.zeros(1000, dtype=torch.int64)
    first, second = run(2, share, secret), run(2, share, secret)
    assert not bool((first[0] == second[0]).any())


# Truncation.

EXTREMES = [
    0,
    1,
    -1,
    2,
    -2,
    1 << 16,
    -(1 << 16),
    (1 << 16) - 1,
    1 << 61,
    -(1 << 61),
    LIMIT - 1,
    -LIMIT,
    1 - LIMIT,
]


def truncated(session: Session, value: torch.Tensor, bits: int) -> torch.Tensor:
    (result,) = truncate(session, [(share(session, value), bits)])
    return opened(session, result)


@pytest.mark.parametrize("n", PARTIES)
def test_truncation_is_floor_or_one_more_for_every_number_of_bits(n: int) -> None:
    value = torch.cat([torch.tensor(EXTREMES), uniform(200, 1) >> 1, uniform(200, 2) >> 40])

    def program(session: Session) -> list[torch.Tensor]:
        x = share(session, value)
        return [opened(session, t) for t in truncate(session, [(x, bits) for bits in range(63)])]

    for bits, result in enumerate(run(n, program)[0]):
        above = result - (value >> bits)
        exact = (value & ((1 << bits) - 1)) == 0
        assert bool(((above == 0) | ((above == 1) & ~exact)).all()), f"{bits} bits"


@given(
    st.sampled_from(PARTIES),
    st.lists(st.integers(-LIMIT, LIMIT - 1), min_size=1, max_size=20),
    st.integers(1, 62),
)
@few
def test_truncation_of_any_value(n: int, values: list[int], bits: int) -> None:
    result = at_parties(n, truncated, torch.tensor(values), bits)
    for value, found in zip(values, result.tolist(), strict=True):
        assert found - (value >> bits) in ((0,) if value % (1 << bits) == 0 else (0, 1))


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("whole", [1000, -1000])
def test_truncation_is_unbiased(n: int, quarters: int, whole: int) -> None:
    count, chance = 100_000, quarters / 4
    value = torch.full((count,), (whole << 16) + (quarters << 14))
    ups = float((run(n, truncated, value, 16, seed=n)[0] - whole).double().mean())
    assert abs(ups - chance) < 6 * math.sqrt(chance * (1 - chance) / count)


def test_truncation_of_nothing_and_by_nothing_costs_nothing() -> None:
    def program(session: Session) -> int:
        x = share(session, torch.arange(3))
        empty = share(session, torch.empty(0, 2, dtype=torch.int64))
        before = session.cost.rounds
        same, none = truncate(session, [(x, 0), (empty, 16)])
        assert same is x
        assert tuple(none.shape) == (0, 2)
        return session.cost.rounds - before

    assert run(2, program) == [0, 0]


# Products.


@pytest.mark.parametrize("n", PARTIES)
def test_products_and_squares_are_exact_modulo_2_to_64(n: int) -> None:
    x, y = uniform(500, 3), uniform(500, 4)

    def program(session: Session) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = share(session, x), share(session, y, session.size - 1)
        return opened(session, product(session, Bilinear("mul"), a, b)), opened(session, square(session, a))

    for products, squares in run(n, program):
        assert torch.equal(products, x * y)
        assert torch.equal(squares, x * x)


def numbers(shape: tuple[int, ...], number: int, scale: float = 50.0) -> torch.Tensor:
    """Multiples of 2^-16, so that the only error is the protocol's."""
    flat = uniform(math.prod(shape), number).double() / 2**63 * scale
    return ((flat / UNIT).round() * UNIT).reshape(shape)


Call = Callable[[Any, Any], Any]

MAPS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Call, Call]] = {}


def case(name: str, x: tuple[int, ...], y: tuple[int, ...], plain: Call, shared: Call | None = None) -> None:
    MAPS[name] = (x, y, plain, shared or plain)


def convolution(kind: str, x: tuple[int, ...], y: tuple[int, ...], **geometry: Any) -> None:
    case(
        f"{kind} {geometry}",
        x,
        y,
        lambda a, b: getattr(torch.nn.functional, kind)(a, b, **geometry),
        lambda a, b: getattr(a, kind)(b, **geometry),
    )


case("mul broadcast", (3, 1, 4), (5, 1), lambda a, b: a * b)
case("mul scalar", (), (3,), lambda a, b: a * b)
case("mul empty", (0, 3), (3,), lambda a, b: a * b)
case("matmul", (7, 5), (5, 3), lambda a, b: a.matmul(b))
case("matmul vectors", (9,), (9,), lambda a, b: a.matmul(b))
case("matmul matrix vector", (4, 9), (9,), lambda a, b: a.matmul(b))
case("matmul batched", (2, 3, 4), (4, 5), lambda a, b: a @ b)
convolution("conv1d", (2, 3, 11), (4, 3, 3))
convolution("conv1d", (2, 4, 11), (6, 2, 3), stride=2, padding=1, dilation=2, groups=2)
convolution("conv2d", (2, 3, 6, 7), (4, 3, 3, 2))
convolution("conv2d", (1, 4, 7, 8), (4, 2, 3, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
convolution("conv2d", (1, 3, 5, 5), (3, 1, 2, 2), groups=3)
convolution("conv_transpose1d", (2, 3, 5), (3, 2, 4), stride=3, padding=1, output_padding=1)
convolution("conv_transpose1d", (1, 4, 5), (4, 2, 3), groups=2, dilation=2)
convolution(
    "conv_transpose2d", (1, 3, 4, 3), (3, 2, 3, 3), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)
)
convolution("conv_transpose2d", (2, 2, 3, 3), (2, 1, 2, 2), groups=2, dilation=(2, 1))


def bilinear(session: Session, name: str) -> list[float]:
    import crypten

    crypten.init()
    xs, ys, plain, shared = MAPS[name]
    x, y = numbers(xs, 21), numbers(ys, 22)
    expected = plain(x, y)
    a, b = crypten.cryptensor(x, src=0), crypten.cryptensor(y, src=session.size - 1)
    results = [shared(a, b).get_plain_text()]
    if "mul" not in name or name.startswith("matmul"):
        results.append(shared(a, y).get_plain_text())
    for result in results:
        assert result is not None
        assert result.shape == expected.shape
    return [float((r - expected).abs().max()) if r.numel() else 0.0 for r in results]


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", MAPS)
def test_bilinear_maps_equal_torch_in_float64(name: str, n: int) -> None:
    secret, *public = run(n, bilinear, name)[0]
    assert secret <= UNIT
    assert all(error <= 3 * UNIT for error in public), "two halves of a public factor, each truncated"


def test_shapes_that_do_not_fit_are_refused_by_name() -> None:
    import mpcpriv.engine
    from mpcpriv.errors import UsageError

    mpcpriv.engine.activate()

    def program(session: Session) -> None:
        import crypten

        crypten.init()
        x, y = crypten.cryptensor(torch.ones(2, 3), src=0), crypten.cryptensor(torch.ones(2, 3), src=0)
        x.matmul(y)

    with pytest.raises(UsageError, match=r"matmul of shapes \[2, 3\] and \[2, 3\]"):
        run(2, program)


@pytest.mark.parametrize(
    "factor", [s * m * 10.0**e for e in range(-9, 10, 3) for m in (1, 3.14159) for s in (1, -1)]
)
def test_public_factors_keep_15_significant_bits(factor: float) -> None:
    size = 2.0 ** min(29, 44 - math.log2(abs(factor)))

    def program(session: Session) -> tuple[float, float]:
        import crypten

        crypten.init()
        x = crypten.cryptensor(torch.tensor([size, -size], dtype=torch.float64), src=0)
        return tuple((x * factor).get_plain_text().tolist())  # type: ignore[return-value]

    up, down = run(2, program)[0]
    for found, expected in ((up, size * factor), (down, -size * factor)):
        assert abs(found - expected) <= abs(expected) * 2.0**-15 + UNIT


def test_a_public_factor_that_is_too_large_or_not_finite_is_refused() -> None:
    from mpcpriv.errors import RangeError

    for factor in (2.0**46, -(2.0**46), -1e30, math.inf, math.nan, torch.tensor([1.0, math.nan])):

        def program(session: Session, factor: Any) -> None:
            import crypten

            crypten.init()
            crypten.cryptensor(torch.ones(2), src=0) * factor

        with pytest.raises(RangeError):
            run(2, program, factor)


def test_division_by_public_numbers() -> None:
    def program(session: Session) -> Any:
        import crypten

        crypten.init()
        x = crypten.cryptensor(torch.tensor([10.0, -7.0, 1e6]), src=0)
        return (x / 3).get_plain_text(), (x / torch.tensor([4.0, 0.5, 1000.0])).get_plain_text()

    by_number, by_tensor = run(2, program)[0]
    assert torch.allclose(
        by_number, torch.tensor([10 / 3, -7 / 3, 1e6 / 3]).double(), rtol=2**-15, atol=2 * UNIT
    )
    assert torch.allclose(by_tensor, torch.tensor([2.5, -14.0, 1000.0]).double(), rtol=1e-6, atol=3 * UNIT)

    def by_zero(session: Session) -> None:
        import crypten

        crypten.init()
        crypten.cryptensor(torch.ones(2), src=0) / torch.tensor([1.0, 0.0])

    with pytest.raises(ValueError, match="public zero"):
        run(2, by_zero)
