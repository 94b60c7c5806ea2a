"""Shapes as torch has them, on plain and on encrypted tensors; all of it local."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mpcpriv.engine.models.kinds import Tensor, encrypted, finite, functional
from mpcpriv.errors import Unsupported


def joiner(name: str) -> Callable[..., Tensor]:
    """`torch.cat` or `torch.stack` of tensors of which some may be encrypted."""

    def join(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
        import crypten

        return getattr(crypten if any(map(encrypted, tensors)) else torch, name)(list(tensors), dim=dim)

    return join


def axes(x: Tensor, dim: Any) -> list[int]:
    """The dimensions meant, counted from the front, in order; all of them for None."""
    if dim is None or dim == []:
        return list(range(x.dim()))
    return sorted(d % x.dim() for d in ([dim] if isinstance(dim, int) else dim))


def part(x: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    """x[start:end:step] along a dimension."""
    return x[(slice(None),) * (dim % x.dim()) + (slice(start, end, step),)]


def select(x: Tensor, dim: int, index: int) -> Tensor:
    """x at one place along a dimension, which goes."""
    return x[(slice(None),) * (dim % x.dim()) + (index,)]


def index(x: Tensor, indices: Sequence[Any]) -> Tensor:
    """x at public indices, None for all along a dimension."""
    return x[tuple(slice(None) if i is None else i for i in indices)]


def split(x: Tensor, sizes: Any, dim: int = 0) -> list[Tensor]:
    """Pieces of these sizes, or of one size, along a dimension."""
    total = x.size(dim)
    if isinstance(sizes, int):
        sizes = [min(sizes, total - begin) for begin in range(0, total, sizes)]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [part(x, dim, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def chunk(x: Tensor, chunks: int, dim: int = 0) -> list[Tensor]:
    """At most that many equal pieces along a dimension."""
    return split(x, -(-x.size(dim) // chunks), dim)


def unbind(x: Tensor, dim: int = 0) -> list[Tensor]:
    """The slices along a dimension, which goes."""
    return [select(x, dim, i) for i in range(x.size(dim))]


def squeeze(x: Tensor, dim: Any = None) -> Tensor:
    """x without its dimensions (or those named) of length 1."""
    kept = [n for d, n in enumerate(x.size()) if d not in axes(x, dim) or n != 1]
    return x.reshape(kept)


def flatten(x: Tensor, start: int = 0, end: int = -1) -> Tensor:
    """x with dimensions `start` to `end` as one."""
    size = list(x.size())
    start, end = start % max(x.dim(), 1), end % max(x.dim(), 1)
    return x.reshape([*size[:start], math.prod(size[start : end + 1]), *size[end + 1 :]])


def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """x with one dimension as several."""
    size, dim = list(x.size()), dim % x.dim()
    return x.reshape([*size[:dim], *sizes, *size[dim + 1 :]])


def repeat(x: Tensor, times: Sequence[int]) -> Tensor:
    """x repeated along each dimension."""
    x = x.reshape([1] * (len(times) - x.dim()) + list(x.size()))
    for dim, count in enumerate(times):
        x = joiner("cat")([x] * count, dim) if count != 1 else x
    return x


def upsample(x: Tensor, size: Any, *scales: Any) -> Tensor:
    """Each pixel repeated (nearest neighbour), as `torch.nn.functional.interpolate`."""
    given = [s for s in scales if s is not None]
    factors = given[0] if given and isinstance(given[0], (list, tuple)) else given
    for i in range(x.dim() - 2):
        old = x.size(i + 2)
        new = int(size[i]) if size is not None else int(old * factors[i])
        x = x.index_select(i + 2, torch.arange(new) * old // new)
    return x


def pad(x: Tensor, sides: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """As `torch.nn.functional.pad`; negative sides crop."""
    if mode == "constant":
        crop = [min(side, 0) for side in sides]
        for i in range(len(sides) // 2):
            dim, before, after = x.dim() - 1 - i, -crop[2 * i], -crop[2 * i + 1]
            if before or after:
                x = x.narrow(dim, before, x.size(dim) - before - after)
        grow = [max(side, 0) for side in sides]
        filling = 0.0 if value is None else finite(float(value))
        return functional("pad", x, grow, value=filling) if any(grow) else x
    for i in range(len(sides) // 2):
        dim = x.dim() - 1 - i
        size, places = x.size(dim), torch.arange(-sides[2 * i], x.size(dim) + sides[2 * i + 1])
        if mode == "reflect":
            places = (size - 1) - (places.abs() - (size - 1)).abs()
        elif mode == "replicate":
            places = places.clamp(0, size - 1)
        elif mode == "circular":
            places = places % size
        else:
            raise Unsupported(f"pad with mode={mode!r}")
        x = x.index_select(dim, places)
    return x


def broadcast(x: Tensor, shape: Sequence[int]) -> Tensor:
    """As `torch.Tensor.expand`; local, and followed by autograd."""
    old = [1] * (len(shape) - x.dim()) + list(x.size())
    target = [was if now == -1 else now for was, now in zip(old, shape, strict=True)]
    return x if target == list(x.size()) else x + torch.zeros(target, dtype=torch.int64)
