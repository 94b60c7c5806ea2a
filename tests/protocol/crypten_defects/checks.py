"""Checks that use CrypTen's interface alone, so that they run here and on CrypTen's own backend alike.

    @row(there=r"1 away")
    def test_c1_...() -> None:                # a test here, with two and three parties
        close(crypten.cryptensor(x).get_plain_text(), x, 2**-17)

Each raises when the numbers are wrong. `own_backend.py` runs the same functions on CrypTen's own backend,
and `test_own_backend.py` holds each of them to fail there, for the reason that `there` names.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Container, Iterable
from typing import Any, NamedTuple

import pytest
import torch

import mpcpriv.engine
from tests.protocol.parties import run

if "crypten" not in sys.modules:  # own_backend.py has imported it unmended
    mpcpriv.engine.activate()

import crypten
import crypten.nn
import crypten.optim

UNIT = 2.0**-16


class Check(NamedTuple):
    """What one test checks.

    Attributes:
        body: does it, at one party of an initialised CrypTen.
        there: matches the error that CrypTen's own backend makes of it; None where it cannot run.
    """

    body: Callable[[], None]
    there: re.Pattern[str] | None


CHECKS: dict[str, dict[str, Check]] = {}
"""By module, then by the test's name with its case."""


def row(
    *, there: str | None, cases: Iterable[str] | None = None, slow: Container[str] = ()
) -> Callable[[Callable[..., None]], Any]:
    """Makes a check, of each case if there are any, a test with two and three parties.

    Args:
        there: what CrypTen's own backend answers, as a regular expression.
        cases: what the check takes as its argument, one after the other.
        slow: the cases that `make slow` runs.
    """
    names = None if cases is None else list(cases)
    marked = [pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in names or ()]

    def decorate(check: Callable[..., None]) -> Any:
        mine = CHECKS.setdefault(check.__module__, {})
        pattern = None if there is None else re.compile(there)
        for case in [None] if names is None else names:
            name = check.__name__ if case is None else f"{check.__name__}[{case}]"
            mine[name] = Check(check if case is None else _of(check, case), pattern)

        def at_party(_: object, *case: str) -> None:
            crypten.init()
            check(*case)

        if names is None:

            def test(n: int) -> None:
                run(n, at_party)
        else:

            @pytest.mark.parametrize("case", marked)
            def test(n: int, case: str) -> None:
                run(n, at_party, case)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return pytest.mark.parametrize("n", [2, 3])(test)

    return decorate


def _of(check: Callable[[str], None], case: str) -> Callable[[], None]:
    return lambda: check(case)


def close(found: torch.Tensor, wanted: Any, absolute: float, relative: float = 0.0) -> None:
    """Raises AssertionError with the worst distance unless all of them are small enough."""
    wanted = torch.as_tensor(wanted).detach().double()
    if found.shape != wanted.shape:
        raise AssertionError(f"shape {list(found.shape)} in place of {list(wanted.shape)}")
    away = (found.double() - wanted).abs()
    if not bool((away <= absolute + relative * wanted.abs()).all()):
        raise AssertionError(
            f"{float(away.max()):.3g} away, {away.numel()} values up to {wanted.abs().max()}"
        )


def numbers(*shape: int, seed: int = 1, scale: float = 1.0) -> torch.Tensor:
    """Normal deviates that fixed point holds exactly, made anew at each call: parties are threads."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * scale / UNIT).round() * UNIT


def opened(value: Any) -> torch.Tensor:
    """The plain text, in float64."""
    return value.get_plain_text().double()


def rank() -> int:
    """This party's."""
    return int(crypten.communicator.get().get_rank())


def tensors_within(value: Any, seen: set[int] | None = None) -> list[torch.Tensor]:
    """Every torch tensor that an object leads to, through attributes and containers."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, type | str | bytes | int | float):
        return []
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return [value]
    inner: list[Any] = list(value) if isinstance(value, list | tuple | set | frozenset) else []
    inner += [*value.keys(), *value.values()] if isinstance(value, dict) else []
    inner += list(getattr(value, "__dict__", {}).values())
    inner += [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    return [tensor for item in inner for tensor in tensors_within(item, seen)]
