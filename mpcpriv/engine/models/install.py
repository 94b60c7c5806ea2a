"""Puts these models, layers, losses and optimisers under CrypTen's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcpriv.errors import UsageError

_LOSSES = (
    "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss",
    "NLLLoss",
)  # fmt: skip


def install() -> None:
    """Replaces what is wrong in `crypten.nn` and `crypten.optim`, and adds what is missing."""
    import crypten
    import crypten.nn
    import crypten.optim

    from mpcpriv.engine.models import losses, modules, optimisers, parties, storage

    for name in _LOSSES:
        for place in (crypten.nn, crypten.nn.loss):
            setattr(place, name, getattr(losses, name))
    for name, layer in modules.MODULES.items():
        for place in (crypten.nn, crypten.nn.module):
            setattr(place, name, layer)
    crypten.nn.__getattr__ = modules.missing
    for place in (crypten.nn, crypten.nn.onnx_converter):
        place.from_pytorch, place.from_onnx = from_pytorch, from_onnx
    crypten.nn.Module.load_state_dict = load_state_dict
    for name in ("SGD", "Adam"):
        setattr(crypten.optim, name, getattr(optimisers, name))
    crypten.public = losses.public
    crypten.save, crypten.load = storage.save, storage.load
    crypten.load_from_party, crypten.save_from_party = parties.load_from_party, parties.save_from_party


def from_pytorch(model: Any, dummy_input: Any) -> Any:
    """As `mpcpriv.engine.models.convert.convert`."""
    from mpcpriv.engine.models.convert import convert  # loads torch.export

    return convert(model, dummy_input)


def from_onnx(model: Any, dummy_input: Any = None) -> Any:
    """As `mpcpriv.engine.models.onnx.file.from_onnx`."""
    from mpcpriv.engine.models.onnx.file import from_onnx as read  # loads torch.export

    return read(model, dummy_input)


def load_state_dict(self: Any, state_dict: Mapping[str, Any], strict: bool = True) -> None:
    """CrypTen's ignores buffers and refuses torch's own state dicts (C12).

    A counter of batches, which torch keeps beside the statistics, is left out.

    Raises:
        UsageError: a name that only one side has, another shape, or plain for encrypted or the reverse.
    """
    import crypten
    import torch

    own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
    given = {name: value for name, value in state_dict.items() if not name.endswith("num_batches_tracked")}
    if strict and own.keys() != given.keys():
        missing, unknown = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
        raise UsageError(f"load_state_dict: missing are {missing}, unknown are {unknown}")
    both = own.keys() & given.keys()
    for name in both:
        if own[name].size() != given[name].size():
            shapes = f"{list(given[name].size())} for {list(own[name].size())}"
            raise UsageError(f"load_state_dict: {name} has shape {shapes}")
        if isinstance(own[name], torch.Tensor) != isinstance(given[name], torch.Tensor):
            kind = (
                "a plain value for an encrypted one"
                if self.encrypted
                else "an encrypted value for a plain one"
            )
            raise UsageError(
                f"load_state_dict: {name} is {kind}; encrypt the model after loading, or both before"
            )
    with crypten.no_grad(), torch.no_grad():
        for name in sorted(both):
            own[name].copy_(given[name])
    for module in self.modules():
        if hasattr(module, "forget"):  # what it computed of its buffers
            module.forget()
