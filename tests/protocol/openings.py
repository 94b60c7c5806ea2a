"""What a party opens of operands of products, for the tests of operands that stay the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from unittest import mock

import torch

import mpcpriv.engine
from mpcpriv.engine.ring import MAP_NAMES
from mpcpriv.engine.session import Session

mpcpriv.engine.activate()

import crypten  # noqa: E402

UNIT: Final = 2.0**-16
BOTH: Final = "x - a, y - b"
LEFT: Final = "x - a"
RIGHT: Final = "y - b"


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(8 << 8), 8 << 8, shape, generator=generator).double() / 256


class Watch:
    """What a party opens of operands of products, step by step."""

    def __init__(self, session: Session) -> None:
        if not crypten.is_initialized():
            crypten.init()
        self.session = session

    def opens(self, operation: Callable[[], Any]) -> tuple[list[str], Any]:
        """Which operands an operation opens, product by product, and its result."""
        opened: list[str] = []
        genuine = self.session.open

        def opening(name: str, *args: Any, **kwargs: Any) -> Any:
            map_name, _, operands = name.partition(": ")
            if map_name in MAP_NAMES:
                opened.append(operands)
            return genuine(name, *args, **kwargs)

        with mock.patch.object(self.session, "open", opening):
            result = operation()
        return opened, result


def off(shared: Any, wanted: torch.Tensor) -> float:
    return float((shared.get_plain_text() - wanted).abs().max())
