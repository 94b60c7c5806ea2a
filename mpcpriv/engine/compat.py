"""What is mended in CrypTen 0.4.1 from outside, and why. The only list of it.

CrypTen's files are neither copied nor edited. Each function here says what is wrong and what it
does about it; `install` applies them all, once, in order.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import threading
import types
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

from mpcpriv.errors import Unsupported, UsageError

_installed = threading.Lock(), []  # type: ignore[var-annotated]


def install() -> None:
    """Imports CrypTen and mends it; the second call does nothing.

    Raises:
        UsageError: CrypTen was imported before, unmended, or has another version.
    """
    lock, done = _installed
    with lock:
        if done:
            return
        if "crypten" in sys.modules:
            raise UsageError("crypten was imported before mpcpriv.engine.activate(); import it after")
        sys.meta_path.insert(0, _MovedInTorch())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and deprecations in CrypTen's own files
            import crypten
            import crypten.config.config
            import crypten.mpc.mpc
        if crypten.__version__ != "0.4.1":
            raise UsageError(f"crypten {crypten.__version__}: mpcpriv mends 0.4.1; install crypten==0.4.1")
        _replace_communicator()
        _replace_tensor_type()
        _refuse_split_model()
        _refuse_generators()
        _guard_configuration()
        _separate_threads()
        _look_up_directly()
        _mend_functions()
        _mend_gradients()
        _mend_models()
        _refuse_silent_encryption()
        done.append(True)


class _MovedInTorch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """CrypTen's ONNX reader imports two modules that torch 2.9 moved and removed."""

    MOVED: ClassVar[dict[str, str]] = {
        "torch.onnx._internal.registration": "torch.onnx._internal.torchscript_exporter.registration",
        "torch.onnx.symbolic_registry": "",
    }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.MOVED:
            return None
        others = [f for f in sys.meta_path if f is not self]
        for finder in others:
            find = getattr(finder, "find_spec", None)
            if find and find(fullname, path, target):
                return None  # this torch still has it
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        try:
            return importlib.import_module(self.MOVED[spec.name])
        except (ImportError, ValueError):
            module = types.ModuleType(spec.name)
            module.registry = None  # type: ignore[attr-defined]
            return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is left to execute."""


def _replace_communicator() -> None:
    """gloo is unauthenticated plain text that pickles (S3, S5, S7): ours takes its place."""
    import crypten.communicator as comm

    from mpcpriv.engine.communicator import Communicator

    comm.DistributedCommunicator = Communicator


def _replace_tensor_type() -> None:
    """`MPCTensor` shares, multiplies and opens unsafely (S1-S4, C1-C6): ours is what every name makes."""
    import crypten
    import crypten.mpc
    import crypten.mpc.mpc
    from crypten.mpc.primitives import ArithmeticSharedTensor, BinarySharedTensor

    from mpcpriv.engine.tensor import SharedTensor

    crypten.register_cryptensor("mpcpriv")(SharedTensor)
    crypten.CrypTensor.__CRYPTENSOR_TYPES__["mpc"] = SharedTensor
    crypten.set_default_cryptensor_type("mpcpriv")

    def refused(*_: Any, **__: Any) -> None:
        raise Unsupported(
            "CrypTen's own shared tensors are unsafe and cannot be made; use crypten.cryptensor"
        )

    for unsafe in (crypten.mpc.mpc.MPCTensor, ArithmeticSharedTensor, BinarySharedTensor):
        unsafe.__init__ = unsafe.from_shares = refused
    crypten.mpc.MPCTensor = crypten.mpc.mpc.MPCTensor = SharedTensor
    crypten.mpc.run_multiprocess = crypten.mpc.context.run_multiprocess = _no_run_multiprocess


def _refuse_split_model() -> None:
    """Its differential-privacy noise comes from torch's global generator, so a seed predicts it (S1)."""
    from crypten.nn.privacy.dp_split import DPSplitModel

    def refused(*_: Any, **__: Any) -> None:
        raise Unsupported("DPSplitModel is not offered: its noise can be predicted")

    DPSplitModel.__init__ = refused


def _no_run_multiprocess(*_: Any, **__: Any) -> Any:
    """It forks, deadlocks on 5 MB results and turns failures into None (C14)."""
    raise Unsupported("run_multiprocess is not offered: use mpcpriv.launch(function, parties=...)")


class _NoGenerators(dict[str, Any]):
    """Stands where CrypTen kept 32-bit Mersenne Twisters (S1)."""

    def __missing__(self, key: str) -> Any:
        raise Unsupported(
            f"crypten.generators[{key!r}]: nothing secret is drawn from torch's generators here"
        )


def _refuse_generators() -> None:
    import crypten

    crypten.generators = _NoGenerators()

    def no_setup() -> None:
        """Keys are agreed by the session."""

    def refused(*_: Any, **__: Any) -> None:
        raise Unsupported("seeds cannot be chosen: every key is fresh and agreed between the parties")

    def no_threads(*_: Any, **__: Any) -> None:
        raise Unsupported("init_thread is not offered: use mpcpriv.launch(function, parties=...)")

    crypten._setup_prng = no_setup
    crypten.manual_seed = refused
    crypten.init_thread = no_threads


_REFUSED: dict[tuple[str, str], tuple[Any, str]] = {
    ("mpc", "provider"): (
        "dealer",
        (
            "with TFP the first party draws all triples and can decrypt everything, and the seeds of TTP "
            "have 32 bits; correlated randomness comes from the dealer process"
        ),
    ),
    ("mpc", "protocol"): (
        "beaver",
        "the replicated protocol sends shares without a mask, so one party reads another's secret",
    ),
    ("mpc", "active_security"): (
        False,
        (
            "its check covers one triple with 24 bits and lets errors pass; mpcpriv promises security "
            "against semi-honest parties and says so"
        ),
    ),
    ("debug", "debug_mode"): (False, "it opens secrets to print them"),
    ("debug", "validation_mode"): (False, "it opens the operands of every operation"),
    ("encoder", "precision_bits"): (16, "every encrypted tensor has 16 fractional bits"),
}
"""(section, option): the one value that holds here, and why not another."""


def _check(section: str, option: str, value: Any) -> None:
    allowed, why = _REFUSED.get((section, option), (value, ""))
    if isinstance(value, str) and not isinstance(allowed, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if str(value) != str(allowed):
        raise Unsupported(f"crypten.cfg.{section}.{option} = {value!r} is refused: {why}")


class _Section:
    """A section of CrypTen's configuration that checks what is assigned to it."""

    def __init__(self, name: str, section: Any) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_section", section)

    def __getattr__(self, option: str) -> Any:
        return getattr(self._section, option)

    def __getitem__(self, option: str) -> Any:
        return self._section[option]

    def __setattr__(self, option: str, value: Any) -> None:
        _check(self._name, option, value)
        if (self._name, option) not in _REFUSED:  # else it holds the one allowed value already
            setattr(self._section, option, value)

    __setitem__ = __setattr__

    def __repr__(self) -> str:
        return repr(self._section)


def _guard_configuration() -> None:
    """The options that decrypt or unmask are refused wherever they are set (S2, S4, S6, S12, C4)."""
    import crypten
    from crypten.config.config import CrypTenConfig
    from omegaconf import OmegaConf

    class GuardedConfig(CrypTenConfig):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            sections = {section for section, _ in _REFUSED}
            return _Section(name, value) if name in sections and not isinstance(value, _Section) else value

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "config":
                for section, option in _REFUSED:
                    held = value.get(section, {})
                    if option in held:
                        _check(section, option, held[option])
            elif "." in name:
                section, _, option = name.partition(".")
                _check(section, option, value)
            super().__setattr__(name, value)

    config = crypten.cfg
    config.config.mpc.provider = "dealer"
    for section, _ in _REFUSED:
        OmegaConf.set_readonly(config.config[section], True)
    config.__class__ = GuardedConfig


def _separate_threads() -> None:
    """Whether autograd is on is a global in CrypTen; parties that share a process each have their own."""
    from crypten.cryptensor import CrypTensorMetaclass

    local = threading.local()

    def get(_: Any) -> bool:
        return getattr(local, "enabled", True)

    def put(_: Any, value: bool) -> None:
        local.enabled = value

    CrypTensorMetaclass.AUTOGRAD_ENABLED = property(get, put)


def _look_up_directly() -> None:
    """Each attribute of a tensor is looked up by way of the configuration, for a mode that is refused, and of
    four lists: a tenth of an analysis's time. But for functions that are recorded, written in place (`add_`)
    or built in (`__add__`), it is the object's own.
    """
    from crypten.cryptensor import CrypTensor
    from crypten.gradients import FUNCTION_REGISTRY

    own, dispatched = object.__getattribute__, CrypTensor.__getattribute__.__wrapped__
    protected = frozenset(CrypTensor.PROTECTED_ATTRIBUTES)

    def get(self: Any, name: str) -> Any:
        if name in protected or not (name in FUNCTION_REGISTRY or name.endswith("_")):
            return own(self, name)
        return dispatched(self, name)

    CrypTensor.__getattribute__ = get


def _mend_functions() -> None:
    """Functions of the `crypten` package that compute something else than they say."""
    import crypten
    import torch

    def where(condition: Any, input: Any, other: Any) -> Any:
        """CrypTen multiplies by a public condition as a float, and twice by a shared one."""
        if isinstance(condition, torch.Tensor):
            chosen = condition.to(torch.int64)
            return input * chosen + other * (1 - chosen)
        return condition * (input - other) + other

    plain_cat = crypten.cat

    def cat(tensors: list[Any], dim: int = 0) -> Any:
        """CrypTen ignores `dim` when all tensors are plain (C10)."""
        if all(isinstance(t, torch.Tensor) for t in tensors):
            return torch.cat(tensors, dim=dim)
        return plain_cat(_lifted(tensors), dim=dim)

    plain_stack = crypten.stack

    def stack(tensors: list[Any], dim: int = 0) -> Any:
        """CrypTen refuses a plain tensor among encrypted ones."""
        return plain_stack(_lifted(tensors), dim=dim)

    crypten.where, crypten.cat, crypten.stack = where, cat, stack


def _mend_gradients() -> None:
    """Gradients that are wrong, missing or wasteful (C11): `engine.gradients`."""
    from mpcpriv.engine.gradients import register

    register()


def _mend_models() -> None:
    """Conversion, losses and layers that are wrong or missing (C9, C10, C12, S9): `engine.models`."""
    from mpcpriv.engine.models.install import install as install_models

    install_models()


def _lifted(tensors: Sequence[Any]) -> list[Any]:
    """Public tensors among encrypted ones as public constants."""
    from mpcpriv.engine.tensor import SharedTensor

    return [t if isinstance(t, SharedTensor) else SharedTensor.constant(t) for t in tensors]


def _refuse_silent_encryption() -> None:
    """A loss on plain labels encrypts the first party's labels for everybody (S12)."""
    import torch
    from crypten.nn.loss import _Loss

    def get(self: Any, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name != "forward":
            return value

        def forward(*args: Any, **kwargs: Any) -> Any:
            encrypted = [not isinstance(arg, torch.Tensor) for arg in args]
            if any(encrypted) and not all(encrypted):
                raise UsageError(
                    "a loss of an encrypted and a plain tensor: encrypt the plain one with "
                    "crypten.cryptensor(tensor, src=RANK), naming the party that holds it"
                )
            return value(*args, **kwargs)

        return forward

    _Loss.__getattribute__ = get
