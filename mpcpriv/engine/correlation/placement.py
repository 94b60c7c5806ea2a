"""Where the masks of the latest triples stand: `Again` becomes `Words`.

The mask of a value is drawn once, and serves all its products. Each of them names the one before, so that
the turns of a loop look alike. The dealer remembers no request: it is told where the first one drew.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from mpcpriv.engine.correlation.base import Again, Correlation, Words
from mpcpriv.engine.correlation.product import Triple

REACH: Final = 1 << 15
"""A mask is found if a triple used it at most so many correlations ago."""

_KEPT: Final = 2 * REACH
"""More than `REACH` and all that is asked for ahead."""

_Masks = tuple[tuple[Words, int], ...]
"""Of both operands, where the mask stands and how many words it has."""


class Placement:
    """What was asked for last for each place among all that a party takes. No I/O.

    Where a prediction has failed, its places are asked for once more, in order: so whatever stands before
    a place when it is asked for is what was taken there, or will be before it.
    """

    def __init__(self) -> None:
        self._requests: dict[int, Correlation] = {}
        self._masks: dict[int, _Masks] = {}

    def take(self, place: int) -> Correlation:
        """What was asked for there, with its masks found. Once."""
        return self._requests.pop(place)

    def possible(self, request: Correlation, place: int) -> bool:
        """Whether masks of the right size stand where it refers to."""
        return not isinstance(request, Triple) or self._find(request, place, 0) is not None

    def put(self, request: Correlation, place: int, number: int) -> Correlation:
        """The request for this place, under this number, with its masks found."""
        self._masks.pop(place, None)
        self._masks.pop(place - _KEPT, None)
        if isinstance(request, Triple):
            masks = self._find(request, place, number)
            assert masks is not None, "a reference to what is no mask of this size"
            self._masks[place] = masks
            x, y = (
                mask if mask.source is None else replace(mask, source=words)
                for mask, (words, _) in zip((request.x_mask, request.y_mask), masks, strict=True)
            )
            request = replace(request, x_mask=x, y_mask=y)
        self._requests[place] = request
        return request

    def _find(self, request: Triple, place: int, number: int) -> _Masks | None:
        found: list[tuple[Words, int]] = []
        drawn = 0
        for mask, size in ((request.x_mask, math.prod(request.x)), (request.y_mask, math.prod(request.y))):
            if mask.source is None:
                found.append((Words(number, drawn), size))
                drawn += size
                continue
            assert isinstance(mask.source, Again)
            before = found if mask.source.ago == 0 else self._masks.get(place - mask.source.ago, ())
            if mask.source.slot >= len(before) or before[mask.source.slot][1] != size:
                return None
            found.append(before[mask.source.slot])
        return tuple(found)
