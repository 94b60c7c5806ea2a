"""Comparisons against a slow oracle, maxima against torch, splines against the functions they stand for."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcpriv.engine.prg import Prg
from mpcpriv.engine.protocol import piecewise
from mpcpriv.engine.protocol.bounded import BITS, scaled_sigmoid
from mpcpriv.engine.protocol.compare import below
from mpcpriv.engine.session import Session
from tests.protocol.parties import run

PARTIES = [2, 3, 4, 5]
few = settings(max_examples=10, deadline=None)

BOUNDARIES = sorted(
    {
        sign * (1 << bits) + near
        for sign, bits, near in itertools.product(
            (1, -1), [0, *range(3, 62, 4), *range(4, 62, 4), 61], (-1, 0, 1)
        )
    }
    | {0, (1 << 62) - 1, -(1 << 62)}
)
"""Zero, one unit, every digit of four bits and its neighbours, and both ends of the range."""


def thresholds_of(session: Session, values: list[int], thresholds: list[int]) -> torch.Tensor:
    value = torch.tensor(values, dtype=torch.int64)
    x = session.share_input(0, tuple(value.shape), value if session.rank == 0 else None)
    result = session.open_to("open", below(session, x, thresholds), list(range(session.size)))
    assert result is not None
    return result


def oracle(values: list[int], thresholds: list[int]) -> list[list[int]]:
    return [[int(value < threshold) for threshold in thresholds] for value in values]


@pytest.mark.parametrize("n", PARTIES)
@pytest.mark.parametrize(
    "thresholds",
    [
        [0],
        [0, 1],
        [-1, 0, 1],
        [-(1 << 60), -5, 0, 1 << 45],
        [-(1 << 62), -(1 << 61), 0, 1 << 61, (1 << 62) - 1],
    ],
    ids=lambda t: f"{len(t)} thresholds",
)
def test_comparison_is_exact_at_every_boundary(n: int, thresholds: list[int]) -> None:
    # Ten times each: the mask is fresh, so that carries come out differently.
    values = BOUNDARIES * 10
    for result in run(n, thresholds_of, values, thresholds):
        assert result.tolist() == oracle(values, thresholds)


@pytest.mark.parametrize("n", PARTIES)
def test_comparison_is_exact_for_random_values_of_every_size(n: int) -> None:
    words = Prg(b"compare no words").stream(n)
    wide = words.tensor((20_000,))
    sizes = torch.arange(20_000) % 62 + 1
    values = (wide >> sizes).tolist()
    for result in run(n, thresholds_of, values, [0])[:1]:
        assert torch.equal(result, torch.tensor(oracle(values, [0])))


@given(
    st.sampled_from(PARTIES),
    st.lists(st.integers(-(1 << 62), (1 << 62) - 1), min_size=1, max_size=20),
    st.lists(st.integers(-(1 << 62), (1 << 62) - 1), min_size=1, max_size=5),
)
@few
def test_comparison_of_any_values(n: int, values: list[int], thresholds: list[int]) -> None:
    assert run(n, thresholds_of, values, thresholds)[0].tolist() == oracle(values, thresholds)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_two_million_comparisons_are_exact(n: int) -> None:
    values = Prg(b"compare a lot ok").stream(n).tensor((2_000_000,)) >> 2
    result = run(n, thresholds_of, values.tolist(), [0])[0]
    assert torch.equal(result[:, 0], (values < 0).long())


@pytest.mark.parametrize("n", PARTIES)
def test_operators_agree_with_torch(n: int) -> None:
    grid = torch.tensor([0.0, 2**-16, -(2**-16), 1.0, -1.0, 0.5, 2.0**44, -(2.0**44), 123.25, -123.25])
    x, y = grid.repeat_interleave(10), grid.repeat(10)

    def program(session: Session) -> list[torch.Tensor]:
        import crypten

        crypten.init()
        a, b = crypten.cryptensor(x, src=0), crypten.cryptensor(y, src=1)
        results = [a < b, a <= b, a > b, a >= b, a == b, a != b, a < 0.5, a > 0.5, a == y, a <= 1]
        return [result.get_plain_text() for result in results]

    expected = [x < y, x <= y, x > y, x >= y, x == y, x != y, x < 0.5, x > 0.5, x == y, x <= 1]
    for found, wanted in zip(run(n, program)[0], expected, strict=True):
        assert torch.equal(found, wanted.double())


def test_comparing_costs_four_rounds_and_nothing_a_round() -> None:
    def program(session: Session) -> list[int]:
        x = session.share_input(0, (1000,), torch.arange(1000) if session.rank == 0 else None)
        before = session.cost.rounds
        below(session, x, [0, 5, 500])
        four = session.cost.rounds
        below(session, x[:0], [0])
        return [four - before, session.cost.rounds - four]

    assert run(3, program) == [[4, 0]] * 3


# Maxima.


def extremes(session: Session, x: torch.Tensor, dim: int | None, keepdim: bool) -> dict[str, Any]:
    import crypten

    crypten.init()
    a = crypten.cryptensor(x, src=0)
    if dim is None:
        return {
            "max": a.max().get_plain_text(),
            "argmax": a.argmax(one_hot=False).get_plain_text(),
            "argmax hot": a.argmax().get_plain_text(),
            "min": a.min().get_plain_text(),
            "argmin": a.argmin(one_hot=False).get_plain_text(),
        }
    (most, where), (least, there) = a.max(dim, keepdim, one_hot=False), a.min(dim, keepdim, one_hot=False)
    return {
        "max": most.get_plain_text(),
        "argmax": where.get_plain_text(),
        "argmax hot": a.max(dim, keepdim)[1].get_plain_text(),
        "min": least.get_plain_text(),
        "argmin": there.get_plain_text(),
    }


def first(best: torch.Tensor) -> torch.Tensor:
    """Of equals along the last dimension, the first one, one-hot."""
    return best & (best.long().cumsum(-1) == 1)


@given(
    st.sampled_from(PARTIES),
    st.integers(0, 1),
    st.booleans(),
    st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=1, max_size=7),
)
@few
def test_maxima_and_their_places_with_ties(n: int, dim: int, keepdim: bool, rows: list[list[int]]) -> None:
    x = torch.tensor(rows, dtype=torch.float64) * 1.5
    found = run(n, extremes, x, dim, keepdim)[0]
    lines = x.transpose(dim, -1)
    for name, key in (("max", lines), ("min", -lines)):
        hot = first(key == key.max(-1, keepdim=True).values)
        value = (lines * hot).sum(-1, keepdim=True).transpose(dim, -1)
        place = hot.long().argmax(-1, keepdim=True).double().transpose(dim, -1)
        assert torch.equal(found[name], value if keepdim else value.squeeze(dim))
        assert torch.equal(found[f"arg{name}"], place if keepdim else place.squeeze(dim))
        if name == "max":
            assert torch.equal(found["argmax hot"], hot.double().transpose(dim, -1))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9])
def test_the_maximum_of_everything(count: int) -> None:
    x = torch.tensor([3.0, -1.0, 7.5, 7.5, 7.5, -9.0, 0.0, 2.0, 7.5])[:count]
    found = run(2, extremes, x, None, False)[0]
    assert found["max"].item() == x.max()
    assert found["argmax"].item() == x.tolist().index(x.max())
    assert found["argmax hot"].tolist() == [float(k == x.tolist().index(x.max())) for k in range(count)]
    assert found["min"].item() == x.min()
    assert found["argmin"].item() == x.tolist().index(x.min())


POOLS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0)},
    {"kernel_size": (2, 3), "padding": (0, 1)},
    {"kernel_size": 2, "dilation": 2},
    {"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 1), "dilation": (1, 2)},
]


@pytest.mark.parametrize("geometry", POOLS, ids=str)
@pytest.mark.parametrize("offset", [0.0, -300.0, -1e6, -(2.0**43)])
def test_max_pool_equals_torch_far_below_zero_and_with_uneven_padding(geometry: Any, offset: float) -> None:
    x = (Prg(bytes(16)).stream(5).tensor((2, 2, 7, 8)) >> 50).double() / 16 + offset

    def program(session: Session) -> torch.Tensor:
        import crypten

        crypten.init()
        return crypten.cryptensor(x, src=0).max_pool2d(**geometry).get_plain_text()

    assert torch.equal(run(2, program)[0], torch.nn.functional.max_pool2d(x, **geometry))


def test_average_pool_equals_torch() -> None:
    x = torch.arange(2 * 2 * 6 * 7, dtype=torch.float64).reshape(2, 2, 6, 7) - 80

    def program(session: Session) -> torch.Tensor:
        import crypten

        crypten.init()
        return crypten.cryptensor(x, src=0).avg_pool2d(3, stride=2, padding=1).get_plain_text()

    expected = torch.nn.functional.avg_pool2d(x, 3, stride=2, padding=1)
    assert float((run(2, program)[0] - expected).abs().max()) < 80 * 2.0**-15


# Splines.


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(("name", "bound"), [("sigmoid", 1e-4), ("tanh", 2e-4)])
def test_splines_keep_their_documented_error(n: int, name: str, bound: float) -> None:
    dense = torch.linspace(-16, 16, 20_001, dtype=torch.float64)
    far = torch.tensor([s * 2.0**k for k in range(4, 46) for s in (1, -1)], dtype=torch.float64)
    x = torch.cat([dense, far])

    def program(session: Session) -> torch.Tensor:
        import crypten

        crypten.init()
        return getattr(crypten.cryptensor(x, src=0), name)().get_plain_text()

    assert float((run(n, program)[0] - getattr(x, name)()).abs().max()) < bound


@pytest.mark.parametrize("n", [2, 5])
def test_random_tensors_are_uniform_and_differ(n: int) -> None:
    from tests.protocol.uniformity import LEAST, bit_counts, p_uniform

    def program(session: Session) -> tuple[torch.Tensor, torch.Tensor]:
        import crypten

        crypten.init()
        return crypten.rand(100, 200).get_plain_text(), crypten.rand((100, 200)).get_plain_text()

    one, two = run(n, program, seed=n)[0]
    assert not torch.equal(one, two)
    for values in (one, two):
        assert float(values.min()) >= 0
        assert float(values.max()) < 1
        units = (values * 2**16).long()
        assert torch.equal(units.double() / 2**16, values)
        assert p_uniform(bit_counts(units, 8, 8)) > LEAST
        assert p_uniform(bit_counts(units, 0, 8)) > LEAST


@pytest.mark.parametrize("n", [2, 3])
def test_one_opening_truncates_and_compares(n: int) -> None:
    """relu and sigmoid of products that hold 32 fractional bits, as if they were truncated first."""
    size = 2.0 ** torch.linspace(-33, 29.99, 20_000, dtype=torch.float64)
    x = torch.cat([size, -size, torch.zeros(3, dtype=torch.float64)])

    def program(session: Session) -> None:
        raw = torch.round(x * 2**32).to(torch.int64)
        share = session.share_input(0, tuple(raw.shape), raw if session.rank == 0 else None)
        before = session.cost.rounds
        value, slope = piecewise.evaluate(session, piecewise.RELU, share, shift=16)
        assert session.cost.rounds - before == 4
        sigmoid = piecewise.evaluate(session, scaled_sigmoid(1.0), share, shift=16)[0]
        value, slope, sigmoid = session.open("result of a test", [value, slope, sigmoid])
        exact = raw.relu().double() / 2**16
        assert (value.double() - exact).abs().max() < 1.001, "floor or one more, decoded in units"
        assert torch.equal(slope, (raw >= 0).long())
        assert (sigmoid.double() / 2.0**BITS - x.sigmoid()).abs().max() < 1e-4

    run(n, program)
