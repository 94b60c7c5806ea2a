"""What one party loads and the others compute with: shapes and architecture travel, values never (S8)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from mpcpriv.engine import session
from mpcpriv.engine.communicator import Communicator
from mpcpriv.engine.models.converted import Converted
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import Unsupported, UsageError


def load_from_party(
    f: Any = None,
    preloaded: Any = None,
    encrypted: bool = False,
    model_class: type | None = None,
    src: int = 0,
    load_closure: Callable[[Any], Any] | None = None,
    dummy_input: Any = None,
) -> Any:
    """A tensor or a model of the party of rank `src`, encrypted at every party.

    CrypTen's sends the model with its parameters zeroed and its buffers in clear (S8), and unpickles it.
    Here the source converts its model, and the architecture and shapes are all that travels.

    Args:
        f: at the source, what `load_closure` loads; ignored elsewhere.
        preloaded: at the source, in the place of `f`, a plain tensor, torch module or converted model.
        encrypted: must be False: `crypten.load` loads encrypted ones.
        model_class: no longer needed: no class travels.
        src: the source's rank.
        load_closure: reads `f`; there is no default, since torch.load can execute what it reads.
        dummy_input: at the source, an input of the model's shape.

    Returns:
        an encrypted tensor, or an encrypted model.

    Raises:
        UsageError: arguments that do not fit together, at the source.
        Unsupported: `encrypted`, or the model cannot be converted.
    """
    del model_class
    if encrypted:
        raise Unsupported("load_from_party loads plain values: use crypten.load for encrypted ones")
    s = session.current()
    if isinstance(src, bool) or src not in range(s.size):
        raise UsageError(f"src={src!r}: the parties have ranks 0 to {s.size - 1}")
    mine = None
    if s.rank == src:
        if (f is None) == (preloaded is None):
            raise UsageError("load_from_party: the source gives either f or preloaded")
        if f is not None and load_closure is None:
            raise UsageError(
                "load_from_party: give preloaded=torch.load(f, weights_only=True), or a load_closure; "
                "there is no default, since torch.load can execute what it reads"
            )
        mine = preloaded if load_closure is None else load_closure(f)
        if isinstance(mine, torch.nn.Module):
            if dummy_input is None:
                raise UsageError("load_from_party: dummy_input= is needed to convert a model")
            from mpcpriv.engine.models.convert import convert

            mine = convert(mine, dummy_input)
        if not isinstance(mine, (torch.Tensor, Converted)):
            raise UsageError(f"load_from_party: a {type(mine).__name__}; a tensor or a model is needed")
    told: dict[str, Any] | None = None
    if isinstance(mine, Converted):
        told = {"model": mine.architecture()}
    elif mine is not None:
        told = {"shape": list(mine.shape)}
    told = Communicator.get().broadcast_obj(told, src)
    if not isinstance(told, dict) or len(told) != 1:
        raise UsageError(f"{s.parties[src]} sent neither a shape nor an architecture")
    if "shape" in told:
        return SharedTensor(mine, size=told["shape"], src=src, requires_grad=False)
    model = mine if mine is not None else Converted.from_architecture(told["model"])
    return model.encrypt(src=src)


def save_from_party(
    obj: Any, f: str | os.PathLike[str], src: int = 0, save_closure: Callable[[Any, Any], Any] | None = None
) -> None:
    """Writes a plain object at the party of rank `src` by `save_closure`; the others wait.

    Raises:
        UsageError: no `save_closure`: what is plain is the program's own to save.
        Unsupported: an encrypted object.
    """
    if isinstance(obj, SharedTensor):
        raise Unsupported("save_from_party saves plain values: use crypten.save for encrypted ones")
    if save_closure is None:
        raise UsageError("save_from_party: give save_closure=torch.save, or save it without CrypTen")
    if session.current().rank == src:
        save_closure(obj, f)
    Communicator.get().barrier()
