"""A converted model: a CrypTen module that runs a program on parameters of its own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import crypten
import torch
from crypten.nn.module import Module

from mpcpriv.engine import objects, session
from mpcpriv.engine.models.kinds import encrypted
from mpcpriv.engine.models.program import Program, Ref, Step, without_overload
from mpcpriv.errors import Unsupported, UsageError


class Converted(Module):  # type: ignore[misc]
    """A torch model's architecture, with parameters under the names that torch gave them.

    Plain, it computes on plain tensors. After `encrypt(src=RANK)` parameters and floating-point
    buffers are encrypted with the values of that party, whatever the others passed, and nothing of
    them stays plain in this object. Public are the architecture, numbers in the program's text, and
    integer and boolean tensors (indices, masks).

    Attributes:
        programs: by whether it trains, what runs.
    """

    SUPPORTS_PLAINTEXT_INPUTS = True  # they are refused below, with a better sentence

    def __init__(
        self,
        evaluation: Program,
        training: Program | str,
        parameters: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        public: Mapping[str, torch.Tensor],
    ) -> None:
        """Of parts.

        Args:
            evaluation, training: the programs, or why the model does not train.
            parameters, buffers: floating-point tensors, which become secret.
            public: integer and boolean tensors, which do not.
        """
        super().__init__()
        self.programs: dict[bool, Program | str] = {False: evaluation, True: training}
        self.evaluation = evaluation
        self.public = dict(public)
        self._inverse: dict[str, Any] = {}
        for name, tensor in parameters.items():
            self.register_parameter(name, tensor.detach().clone())
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor.detach().clone())
        self.train(False)

    def forward(self, *inputs: Any) -> Any:
        """What the torch model computes.

        Raises:
            UsageError: plain inputs to an encrypted model, or encrypted ones to a plain model.
            Unsupported: it cannot train.
        """
        for value in inputs:
            if self.encrypted and isinstance(value, torch.Tensor):
                raise UsageError(
                    "a plain input to an encrypted model: encrypt it with crypten.cryptensor(x, src=RANK), "
                    "or say with crypten.public(x) that all parties hold the same"
                )
        program = self.programs[self.training]
        if isinstance(program, str):
            raise Unsupported(f"this model does not train encrypted: {program}")
        if self.training:
            self._inverse.clear()
        return program.run(inputs, self._values(), self.encrypted, self._adjust)

    def encrypt(self, mode: bool = True, src: int = 0) -> Converted:
        """Encrypts parameters and buffers, with the values of the party of rank `src`; or decrypts.

        Raises:
            Desynchronised: later, where the parties' architectures differ.
        """
        if mode and not self.encrypted:
            session.current().note(f"model {self.digest()}")
            roots = {}
            for step in self._normalisations():
                variance, eps = self._buffers[step.args[4].name], float(step.args[7])
                roots[step.args[4].name] = (variance.to(torch.float64) + eps).clamp(min=2.0**-32).rsqrt()
            super().encrypt(True, src=src)
            self._inverse = {name: crypten.cryptensor(root, src=src) for name, root in roots.items()}
        elif not mode and self.encrypted:
            self._inverse = {}
            super().encrypt(False, src=src)
            dtype = torch.get_default_dtype()
            for name, tensor in list(self._parameters.items()):
                self.set_parameter(name, tensor.detach().to(dtype).requires_grad_(tensor.requires_grad))
            for name, tensor in list(self._buffers.items()):
                self.set_buffer(name, tensor.to(dtype))
        return self

    def train(self, mode: bool = True) -> Converted:
        """Sets whether parameters are followed by autograd, and dropout and batch statistics work."""
        super().train(mode)
        return self

    def forget(self) -> None:
        """The buffers have changed."""
        self._inverse.clear()

    def set_buffer(self, name: str, buffer: Any) -> None:
        """As CrypTen's."""
        self.forget()
        super().set_buffer(name, buffer)

    def to_pytorch(self) -> Any:
        """Not offered: nothing of the torch model is kept (S9); `state_dict` has its names."""
        raise Unsupported(
            "to_pytorch is not offered: the converted model keeps nothing of the original (S9); "
            "decrypt it and load its state_dict() into your torch model"
        )

    def digest(self) -> str:
        """The same at every party with this architecture: steps, names, shapes and public tensors."""
        shapes = [[n, list(t.shape)] for n, t in [*self._parameters.items(), *self._buffers.items()]]
        return hashlib.sha256(objects.encode([self.architecture(), shapes])).hexdigest()[:32]

    def architecture(self) -> dict[str, Any]:
        """All but the secret values, in types that travel between parties (`engine.objects`)."""
        training = self.programs[True]
        return {
            "evaluation": self.evaluation.to_object(),
            "training": training if isinstance(training, str) else training.to_object(),
            "parameters": [[n, list(t.size())] for n, t in self._parameters.items()],
            "buffers": [[n, list(t.size())] for n, t in self._buffers.items()],
            "public": [[n, t] for n, t in self.public.items()],
        }

    @classmethod
    def from_architecture(cls, value: Any) -> Converted:
        """The model with that architecture, its parameters and buffers zero.

        Raises:
            UsageError: not what `architecture` returned.
        """
        try:
            training = value["training"]
            parts: dict[str, dict[str, torch.Tensor]] = {"parameters": {}, "buffers": {}}
            for kind, tensors in parts.items():
                for name, shape in value[kind]:
                    if math.prod(shape) > 1 << 40:
                        raise UsageError(f"{name}: a tensor of an impossible shape")
                    tensors[str(name)] = torch.zeros([int(n) for n in shape])
            return cls(
                Program.from_object(value["evaluation"]),
                training if isinstance(training, str) else Program.from_object(training),
                parts["parameters"],
                parts["buffers"],
                {str(name): tensor for name, tensor in value["public"]},
            )
        except (KeyError, TypeError, RuntimeError):
            raise UsageError("not a model's architecture") from None

    def _values(self) -> dict[str, Any]:
        return {**self._parameters, **self._buffers, **self.public}

    def _normalisations(self) -> list[Step]:
        """The batch normalisations that use running statistics outside training."""
        return [
            step
            for step in self.evaluation.steps
            if without_overload(step.operator) == "aten.batch_norm"
            and isinstance(step.args[4], Ref)
            and not step.args[5]
        ]

    def _adjust(self, step: Step) -> dict[str, Any]:
        """1 / sqrt(running variance + eps), computed once for as long as the variance stays."""
        if without_overload(step.operator) != "aten.batch_norm" or step.args[5] or not self.encrypted:
            return {}
        variance = step.args[4]
        if not isinstance(variance, Ref) or not encrypted(self._buffers.get(variance.name)):
            return {}
        if variance.name not in self._inverse:
            shifted = self._buffers[variance.name] + float(step.args[7])
            self._inverse[variance.name] = shifted.inv_sqrt()
        return {"inverse": self._inverse[variance.name]}

    def __repr__(self) -> str:
        kind = "encrypted" if self.encrypted else "plain"
        held = sum(math.prod(p.size()) for p in self._parameters.values())
        return f"Converted({len(self.evaluation.steps)} steps, {held} parameters, {kind})"


def flat(value: Any) -> list[Any]:
    """The tensors in an output, in order."""
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in flat(item)]
    return [value]
