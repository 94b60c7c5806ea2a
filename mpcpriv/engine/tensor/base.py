"""The shared tensor's storage: what it holds, how it is made, opened and reshaped."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Self

import crypten
import torch
from crypten.cryptensor import CrypTensor
from crypten.gradients import get_grad_fn

from mpcpriv.engine import session
from mpcpriv.engine.correlation.wire import MOST_DIMS, MOST_ELEMENTS
from mpcpriv.engine.encoding import FRACTIONAL_BITS, as_tensor, decode, encode
from mpcpriv.engine.interval import Bound, Interval
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.tensor.deferred import FEW, PRODUCT_BITS, Deferred
from mpcpriv.errors import Desynchronised, Unsupported, UsageError

Public = int | float | torch.Tensor


class Shares(Deferred):
    """This party's additive share of a tensor, and the number of fractional bits of its fixed point.

    `_tensor` holds the share as int64: CrypTen's own structural functions (view, sum, index ...) act
    on it directly, since they are linear. `bits` is 16; or 0 for a tensor of integers such as the
    result of a comparison; or up to 24 for a gradient and sums with it, which keeps the digits of small
    ones and halves its range for each bit. Arithmetic aligns them, so all behave as numbers.
    No operation writes into the memory of another tensor.
    """

    __array_ufunc__ = None  # a numpy array on the left leaves the operation to the encrypted tensor

    def __init__(
        self,
        tensor: object = None,
        size: Sequence[int] | None = None,
        broadcast_size: bool = False,
        precision: int | None = None,
        src: int = 0,
        device: Any = None,
        ptype: Any = None,
        requires_grad: bool | None = None,
        bound: Bound | None = None,
    ) -> None:
        """Shares the tensor that the party of rank `src` holds; nothing is sent.

        Args:
            tensor: at `src`, numbers of magnitude below 2^46; elsewhere ignored but for its shape.
            size: the shape, where a party has no tensor to show it.
            broadcast_size: `src` tells the others the shape (one round).
            precision: None or 16, the fractional bits.
            src: the owner's rank.
            device: None or the CPU.
            ptype: None or `crypten.mpc.arithmetic`.
            requires_grad: whether autograd follows it; by default as `tensor` does.
            bound: a magnitude that no element exceeds, or (low, high); every party states the same, and it
                is public. Operations that could leave the ring are refused then (`ranges.py`).

        Raises:
            UsageError: no shape is known, or no such party, or a value is out of its bound.
            RangeError: a value is not finite or too large.
            Unsupported: another precision, device or kind of sharing.
        """
        if precision not in (None, FRACTIONAL_BITS):
            raise Unsupported(
                f"precision={precision}: every encrypted tensor here has {FRACTIONAL_BITS} fractional bits"
            )
        if ptype is not None and ptype.name != "arithmetic":
            raise Unsupported(
                f"ptype={ptype.name}: tensors are shared arithmetically; comparisons work on them"
            )
        if device is not None and torch.device(device).type != "cpu":
            raise Unsupported(f"device={device}: encrypted tensors live on the CPU")
        if requires_grad is None:
            requires_grad = isinstance(tensor, torch.Tensor) and tensor.requires_grad
        super().__init__(requires_grad=requires_grad)
        self.bits = FRACTIONAL_BITS
        if isinstance(tensor, list) and not tensor:  # CrypTen makes one such to dispatch cat and stack
            self._tensor = torch.empty(0, dtype=torch.int64)
            return
        s = session.current()
        if isinstance(src, bool) or src not in range(s.size):
            raise UsageError(f"src={src!r}: the parties have ranks 0 to {s.size - 1}")
        owner = s.rank == src
        if owner and tensor is None:
            raise UsageError(f"src={src} is this party, so it must give the tensor")
        interval = None if bound is None else Interval.stated(bound)
        value = s.encoded(tensor, interval) if owner else None
        if broadcast_size:
            # Public by request of the program: the shape of the owner's tensor.
            shape = _broadcast_size(src, tuple(value.shape) if value is not None else None)
        elif value is not None:
            shape = tuple(value.shape)
        elif tensor is not None:
            shape = tuple(as_tensor(tensor).shape)
        elif size is not None:
            shape = tuple(size)
        else:
            raise UsageError("give size=, a tensor of the right shape, or broadcast_size=True")
        if interval is not None:
            s.note(f"within {interval.low} and {interval.high}")
        self._tensor = s.share_input(src, shape, value)
        self.interval = interval

    @classmethod
    def of(cls, share: torch.Tensor, bits: int = FRACTIONAL_BITS) -> Self:
        """The tensor with this share; not followed by autograd."""
        result = cls([])
        result.share, result.bits = share, bits
        return result

    @classmethod
    def from_shares(cls, share: torch.Tensor, precision: int | None = None, **_: Any) -> Self:
        """CrypTen's name for `of`: each party gives its own int64 share, which is copied.

        Raises:
            Unsupported: another precision than 16.
        """
        if precision not in (None, FRACTIONAL_BITS):
            raise Unsupported(f"precision={precision}: shares have {FRACTIONAL_BITS} fractional bits")
        return cls.of(session.current().given(share.to(torch.int64, copy=True)))

    @classmethod
    def constant(cls, value: Any, bits: int = FRACTIONAL_BITS) -> Self:
        """A public value as shares: the first party holds it, the others zero."""
        encoded = encode(value, bits)
        result = cls.of(encoded if session.current().rank == 0 else torch.zeros_like(encoded), bits)
        result.interval = Interval.of_public(value)
        return result

    @property
    def share(self) -> torch.Tensor:
        """This party's share, int64."""
        return self._tensor

    @share.setter
    def share(self, value: torch.Tensor) -> None:
        self._tensor = value

    @property
    def data(self) -> torch.Tensor:
        """CrypTen's name for `share`; assigning gives this tensor another share, and no other one."""
        return self._tensor

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        self._tensor = value

    def shallow_copy(self) -> Self:
        """Another tensor with the same share."""
        return self.of(self._tensor, self.bits)._take_value(self)

    def clone(self) -> Self:
        """A copy."""
        return self.of(self._tensor.clone(), self.bits)

    def detach(self) -> Self:
        """The same value, not followed by autograd."""
        return self.of(self._tensor, self.bits)._take_value(self)

    def detach_(self) -> Self:
        """Autograd follows this tensor no longer; what was made of it before keeps its gradient."""
        self._reset_gradients()
        self.requires_grad = False
        return self

    def copy_(self, other: Shares) -> Self:
        """Takes over the value of `other`, of the same shape; earlier views keep what they held.

        Raises:
            Unsupported: autograd follows `other`, or how this tensor was made.
        """
        if CrypTensor.AUTOGRAD_ENABLED and (other.requires_grad or (self.requires_grad and self.children)):
            raise Unsupported("writing into a tensor has no gradient: use detach(), or no_grad() around it")
        if other.share.shape != self._tensor.shape:
            raise UsageError(f"cannot copy shape {list(other.shape)} into shape {list(self.shape)} in place")
        self._tensor, self.bits, self.interval = other.share, other.bits, other.interval
        return self

    @classmethod
    def of_product(cls, share: torch.Tensor) -> Self:
        """The tensor with this share of a product, which is still to be truncated."""
        return cls([])._with_product(share)

    def at(self, bits: int) -> torch.Tensor:
        """The share with so many fractional bits; fewer than the tensor has cost a round."""
        if bits == PRODUCT_BITS and self._product is not None:
            return self._product
        if bits >= self.bits:
            return self._tensor << (bits - self.bits) if bits > self.bits else self._tensor
        (lowered,) = truncate(session.current(), [(self._tensor, self.bits - bits)])
        return lowered

    @property
    def argument(self) -> tuple[torch.Tensor, int]:
        """The share with 16 fractional bits, and 0; or `untruncated`, where functions gain by it."""
        if self.deferred and self._any.numel() <= FEW:
            return self.untruncated
        return self.at(FRACTIONAL_BITS), 0

    def get_plain_text(self, dst: int | Sequence[int] | None = None) -> torch.Tensor | None:
        """Opens the tensor to all parties, or to those of rank `dst` only.

        Returns:
            float64, or None at a party that is not a recipient.

        Raises:
            UsageError: no party has that rank, or an analysis asks (`Session.sealed`).
            PeerError: a member failed.
        """
        opened = self.reveal(dst)
        return None if opened is None else decode(opened, self.bits)

    def reveal(self, dst: int | Sequence[int] | None = None) -> torch.Tensor | None:
        """As `get_plain_text`, but the ring elements (int64) that encode the values."""
        s = session.current()
        if s.sealed:
            raise UsageError("an analysis opens nothing: return what is shared, and it is released as agreed")
        recipients = list(range(s.size)) if dst is None else [dst] if isinstance(dst, int) else list(dst)
        for rank in recipients:
            if not 0 <= rank < s.size:
                raise UsageError(f"dst={rank}: the parties have ranks 0 to {s.size - 1}")
        to = "all" if dst is None else ", ".join(s.parties[r] for r in recipients)
        # The program asks for this result to be opened; only the recipients get shares of it.
        return s.open_to(f"open to {to}", self._tensor, recipients)

    def __getitem__(self, index: Any) -> Self:
        if self.requires_grad and CrypTensor.AUTOGRAD_ENABLED:
            # Python looks special methods up on the class, past CrypTen's autograd (C11).
            followed: Self = self._get_autograd_forward_function(
                "__getitem__", get_grad_fn("__getitem__"), False
            )(index)
            return followed
        return self.of(self._tensor[index], self.bits)

    def __setitem__(self, index: Any, value: Any) -> None:
        value = self.lift(value)
        if CrypTensor.AUTOGRAD_ENABLED and (value.requires_grad or self.requires_grad):
            raise Unsupported("x[i] = y has no gradient: use crypten.where or cat, detach() or no_grad()")
        bits = max(self.bits, value.bits)
        fresh = self.at(bits).clone()
        fresh[index] = value.at(bits)
        interval = _joined([self, value])
        self._tensor, self.bits, self.interval = fresh, bits, interval

    def __iadd__(self, other: Any) -> Any:
        return self._updated("add", other)

    def __isub__(self, other: Any) -> Any:
        return self._updated("sub", other)

    def __imul__(self, other: Any) -> Any:
        return self._updated("mul", other)

    def __itruediv__(self, other: Any) -> Any:
        return self._updated("div", other)

    def _updated(self, operation: str, other: Any) -> Any:
        """x += y: in place, or a new tensor where autograd follows (other names keep the old value)."""
        follows = self.requires_grad or (isinstance(other, Shares) and other.requires_grad)
        if not (CrypTensor.AUTOGRAD_ENABLED and follows):
            return getattr(self, operation + "_")(other)
        if self.requires_grad and not self.children:
            raise Unsupported(f"{operation} in place on a leaf that requires a gradient: use no_grad()")
        return getattr(self, operation)(other)

    def lift(self, value: Any) -> Shares:
        """`value` itself when encrypted, else as a public constant."""
        return value if isinstance(value, Shares) else self.constant(value)

    def index_add(self, dim: int, index: torch.Tensor, tensor: Any) -> Self:
        """Adds slices of `tensor` at `index` along `dim`; repeated indices accumulate."""
        value = self.lift(tensor)
        bits = max(self.bits, value.bits)
        return self.of(self.at(bits).index_add(dim, index, value.at(bits)), bits)

    def scatter_add(self, dim: int, index: torch.Tensor, other: Any) -> Self:
        """As `torch.Tensor.scatter_add`."""
        value = self.lift(other)
        bits = max(self.bits, value.bits)
        return self.of(self.at(bits).scatter_add(dim, index, value.at(bits)), bits)

    def scatter(self, dim: int, index: torch.Tensor, src: Any) -> Self:
        """As `torch.Tensor.scatter`."""
        value = self.lift(src)
        bits = max(self.bits, value.bits)
        return self.of(self.at(bits).scatter(dim, index, value.at(bits)), bits)

    @property
    def T(self) -> Any:  # noqa: N802 - torch's name
        """All dimensions in reverse."""
        return self.permute(list(range(self.ndim))[::-1])

    @property
    def mT(self) -> Any:  # noqa: N802 - torch's name
        """The last two dimensions exchanged."""
        return self.transpose(-1, -2)

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> tuple[Any, ...]:
        """As `torch.split`."""
        wanted = split_size if isinstance(split_size, int) else list(split_size)
        sizes = [piece.numel() for piece in torch.split(torch.arange(self._tensor.shape[dim]), wanted)]
        return tuple(self.narrow(dim, sum(sizes[:i]), size) for i, size in enumerate(sizes))

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Any, ...]:
        """As `torch.chunk`."""
        sizes = [piece.numel() for piece in torch.arange(self._tensor.shape[dim]).chunk(chunks)]
        return self.split(sizes, dim)

    def unbind(self, dim: int = 0) -> tuple[Any, ...]:
        """As `torch.unbind`."""
        return tuple(self.narrow(dim, i, 1).squeeze(dim) for i in range(self._tensor.shape[dim]))

    def expand_as(self, other: Any) -> Any:
        """As `torch.Tensor.expand_as`."""
        return self.expand(tuple(other.shape))

    def prod(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """As `torch.prod`; ceil(log2 n) products in depth."""
        if dim is None:
            return self.flatten().prod(0)
        result, size = self, self._tensor.shape[dim]
        if size == 0:
            shape = [1 if i == dim % self.ndim else n for i, n in enumerate(self._tensor.shape)]
            result, size = self.constant(torch.ones(shape)), 1
        while size > 1:
            half = size // 2
            pairs = result.narrow(dim, 0, half) * result.narrow(dim, half, half)
            rest = [result.narrow(dim, size - 1, 1)] if size % 2 else []
            result = crypten.cat([pairs, *rest], dim=dim) if rest else pairs
            size = half + len(rest)
        return result if keepdim else result.squeeze(dim)

    def std(self, dim: Any = None, unbiased: bool = True, keepdim: bool = False, **options: Any) -> Any:
        """As `torch.Tensor.std`."""
        return self.var(dim, unbiased=unbiased, keepdim=keepdim, **options).sqrt()

    def cosine_similarity(self, other: Any, dim: int = 1, eps: float = 1e-8) -> Any:
        """As `torch.nn.functional.cosine_similarity`; `eps` is less than can be held and counts as 0."""
        del eps
        if not isinstance(other, Shares):
            other = self.constant(other)
        norms = self.square().sum(dim).inv_sqrt() * other.square().sum(dim).inv_sqrt()
        return (self * other).sum(dim) * norms

    @staticmethod
    def cat(tensors: Sequence[Any], dim: int = 0) -> Shares:
        """As `torch.cat`; public tensors among them become constants."""
        return _join(torch.cat, tensors, dim)

    @staticmethod
    def stack(tensors: Sequence[Any], dim: int = 0) -> Shares:
        """As `torch.stack`; public tensors among them become constants."""
        return _join(torch.stack, tensors, dim)

    def pad(self, pad: Sequence[int], mode: str = "constant", value: Any = 0) -> Self:
        """As `torch.nn.functional.pad` with a constant, which may be encrypted and of no dimension.

        Raises:
            Unsupported: another mode.
        """
        if mode != "constant":
            raise Unsupported(f"pad with mode={mode!r}: only 'constant' is offered")
        filling = self.lift(value)
        if filling.share.dim() != 0:
            raise UsageError("pad needs a value without dimensions")
        bits = max(self.bits, filling.bits)
        inside = torch.nn.functional.pad(torch.ones_like(self._tensor), list(pad))
        # torch takes the value through a float, which has too few bits for a share.
        padded = torch.nn.functional.pad(self.at(bits), list(pad)) + (1 - inside) * filling.at(bits)
        return self.of(padded, bits)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Only the CPU and arithmetic shares are offered, so this is the tensor itself.

        Raises:
            Unsupported: anything else is asked for.
        """
        for wanted in (*args, *kwargs.values()):
            name = getattr(wanted, "name", None) or str(wanted)
            if name not in ("arithmetic", "cpu"):
                raise Unsupported(f"to({name}): tensors are shared arithmetically and live on the CPU")
        return self

    def cuda(self, device: Any = None) -> Self:
        """Not offered, like any device but the CPU.

        Raises:
            Unsupported: always.
        """
        raise Unsupported("cuda(): encrypted tensors live on the CPU; products on CUDA would not be exact")

    def cpu(self) -> Self:
        """The tensor itself."""
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={list(self._tensor.shape)}, <shares>)"

    def __hash__(self) -> int:
        return id(self)


def _join(join: Any, tensors: Sequence[Any], dim: int) -> Shares:
    first = next(t for t in tensors if isinstance(t, Shares))
    lifted = [first.lift(t) for t in tensors]
    bits = max(t.bits for t in lifted)
    result = first.of(join([t.at(bits) for t in lifted], dim=dim), bits)
    result.interval = _joined(lifted)
    return result


def _joined(tensors: Sequence[Shares]) -> Interval | None:
    intervals = [t.interval for t in tensors if t.interval is not None]
    return functools.reduce(Interval.joined, intervals) if len(intervals) == len(tensors) else None


def _broadcast_size(src: int, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    from mpcpriv.engine.communicator import Communicator

    received = Communicator.get().broadcast_obj(shape, src)
    valid = isinstance(received, tuple) and all(type(n) is int and n >= 0 for n in received)
    if not valid or len(received) > MOST_DIMS or math.prod(received) > MOST_ELEMENTS:
        name = session.current().parties[src]
        raise Desynchronised(name, f"{name} announces a tensor of an impossible shape")
    return received  # type: ignore[no-any-return]
