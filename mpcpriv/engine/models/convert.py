"""From a torch model to a module that runs encrypted, checked against the original (C12).

`torch.export` lists the operators that the model runs; each is looked up in `operators`. The result
is compared with the model on random inputs before anybody sees it.
"""

from __future__ import annotations

import copy
import inspect
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from mpcpriv.engine.models.converted import Converted, flat
from mpcpriv.engine.models.functions import uniform
from mpcpriv.engine.models.kinds import MASKED
from mpcpriv.engine.models.operators import OPERATORS, PUBLIC
from mpcpriv.engine.models.program import Input, Program, Ref, Step, references, without_overload
from mpcpriv.errors import Unsupported, UsageError

TOLERANCE: Final = 1e-3
"""How far the converted model may be from the original, in plain: relative, and absolute below 1."""

_exporting = threading.Lock()  # tracing changes state of the process, and parties may be threads
_PLACES: Final = ("device", "layout", "pin_memory", "memory_format", "non_blocking", "copy")


def convert(model: torch.nn.Module, dummy_input: Any) -> Converted:
    """The model as a module that can be encrypted: `convert(model, x).encrypt(src=0)`.

    Every party converts the same architecture; only the parameters of `src` matter. Float parameters
    and buffers become secret; the architecture, numbers in its code, and integer or boolean tensors
    (indices, masks) are public. An embedding takes its indices one-hot once it is encrypted.

    Args:
        model: a plain torch model; it is not changed, and nothing of it is kept.
        dummy_input: a tensor, or a tuple of them, of the shapes and types that it takes. The first
            dimension may have another length later, where the model allows it; the others may not.

    Raises:
        Unsupported: the model uses an operator that is not offered (named), cannot be exported, or
            the converted model computes something else.
    """
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"from_pytorch takes a torch.nn.Module, not a {type(model).__name__}")
    inputs = tuple(dummy_input) if isinstance(dummy_input, (list, tuple)) else (dummy_input,)
    if not all(isinstance(x, torch.Tensor) for x in inputs):
        raise UsageError("dummy_input: a tensor or a tuple of tensors is needed")
    original = copy.deepcopy(model).eval()
    return converted(original, inputs).train(model.training)


def converted(
    model: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    *,
    names: Mapping[str, str] | None = None,
    oracle: Callable[..., Any] | None = None,
) -> Converted:
    """A torch module in evaluation mode, which is ours, as a module that can be encrypted.

    Args:
        inputs: as the model takes them.
        names: other names for its parameters and buffers.
        oracle: what the result is compared with; by default the model.

    Raises:
        Unsupported: as `convert`.
    """
    with _exporting, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about its own internals
        refused: Exception | None = None
        for free in (True, False):
            try:
                return _converted(model, inputs, names or {}, oracle or model, free=free)
            except Exception as error:  # noqa: BLE001 - the model's own code runs here
                refused = refused if free is False and isinstance(refused, Unsupported) else error
    if isinstance(refused, Unsupported):
        raise refused
    reason = str(refused).strip().split("\n")[0] or type(refused).__name__
    raise Unsupported(f"this model cannot be exported: {reason}")


def _converted(
    model: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    renamed: Mapping[str, str],
    oracle: Callable[..., Any],
    *,
    free: bool,
) -> Converted:
    """`free` leaves the length of the first dimension open."""
    exported, unknown = _export(model, inputs, free=free)
    names = {name: renamed.get(first, first) for name, first in _first_names(model).items()}
    evaluation = _program(exported, names, unknown)
    training = _training(model, inputs, names, evaluation, free=free)
    used = [evaluation, training] if isinstance(training, Program) else [evaluation]
    wanted = {name for p in used for s in p.steps for name in references((s.args, s.kwargs))}
    wanted |= {name for p in used for name in references(p.output)}
    parameters, buffers, public = {}, {}, {}
    for name, tensor in _tensors(exported, names).items():
        if name not in wanted:
            continue
        if not tensor.is_floating_point():
            public[name] = tensor.detach().clone()
        elif isinstance(tensor, torch.nn.Parameter):
            parameters[name] = tensor
        else:
            buffers[name] = tensor.clamp(min=MASKED)
    result = Converted(evaluation, training, parameters, buffers, public)
    _check(oracle, result, inputs, free=free)
    return result


def _export(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], *, free: bool) -> tuple[Any, str]:
    """torch's list of operators, with those that are not in the tables taken apart where torch can.

    Returns:
        the list, and which operators had to be taken apart.
    """
    shapes = None
    if free:
        if any(x.dim() == 0 for x in inputs):
            raise UsageError("an input without dimensions")
        inputs = tuple(torch.cat([x, x, x]) if x.shape[0] == 1 else x for x in inputs)
        open_first = {0: torch.export.Dim.AUTO}
        arguments = inspect.signature(model.forward).bind(*inputs).arguments
        shapes = {  # of `*inputs`, a tuple
            name: (open_first,) * len(value) if isinstance(value, tuple) else open_first
            for name, value in arguments.items()
        }
    exported = torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)
    first: list[str] = []
    for _ in range(3):
        unknown = {
            node.target
            for node in exported.graph.nodes
            if node.op == "call_function"
            and isinstance(node.target, torch._ops.OpOverload)  # noqa: SLF001 - has no public name
            and _name(node.target).rstrip("_") not in {*OPERATORS, *PUBLIC}
        }
        first = first or sorted(map(str, unknown))
        known = torch.export.default_decompositions()
        table = {target: known[target] for target in unknown if target in known}
        if not table:
            break
        exported = exported.run_decompositions(table)
    return exported, ", ".join(first)


def _name(target: Any) -> str:
    text = str(target)
    return without_overload(text) if text.startswith("aten.") else f"operator.{target.__name__}"


def _first_names(model: torch.nn.Module) -> dict[str, str]:
    """Each parameter's and buffer's name, or the first one where several share a tensor."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def _tensors(exported: Any, names: dict[str, str]) -> dict[str, torch.Tensor]:
    """Parameters, buffers and constants by name."""
    found: dict[str, torch.Tensor] = {}
    for spec in exported.graph_signature.input_specs:
        if spec.target is not None:
            held = exported.state_dict.get(spec.target)
            tensor = exported.constants.get(spec.target) if held is None else held
            if isinstance(tensor, torch.Tensor):
                found[names.get(spec.target, spec.target)] = tensor
    return found


def _program(exported: Any, names: dict[str, str], unknown: str) -> Program:
    """The steps that the output depends on, with torch's in-place operators as plain ones."""
    tensors = _tensors(exported, names)
    kinds = {spec.arg.name: spec for spec in exported.graph_signature.input_specs}
    now: dict[str, Ref | Any] = {}  # by node, what stands for it: an in-place operator replaces it
    inputs: list[Input] = []
    public: set[str] = {name for name, tensor in tensors.items() if not tensor.is_floating_point()}
    steps: list[Step] = []
    output: Any = None

    def argument(value: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            return now[value.name]
        if isinstance(value, (list, tuple)):
            return type(value)(argument(v) for v in value)
        if isinstance(value, slice):
            raise Unsupported("a slice among the arguments of an operator")
        return value

    for node in exported.graph.nodes:
        if node.op == "placeholder":
            spec = kinds[node.name]
            if spec.target is None:
                value = node.meta["val"]
                lengths = tuple(n if isinstance(n, int) else None for n in value.shape)
                inputs.append(Input(node.name, lengths, not value.is_floating_point()))
                now[node.name] = Ref(node.name)
            else:
                now[node.name] = Ref(names.get(spec.target, spec.target))
        elif node.op == "output":
            output = argument(node.args[0])
        elif node.op == "call_function":
            name = _name(node.target)
            if name.startswith("aten._assert") or (not node.users and "_assert" in name):
                continue
            operator = str(node.target) if name.startswith("aten.") else name
            args = tuple(argument(a) for a in node.args)
            kwargs = {k: argument(v) for k, v in node.kwargs.items() if k not in _PLACES}
            uses = references((args, kwargs))
            is_public = name == "aten.sym_size" or all(use in public for use in uses)
            if name.endswith("_") and not is_public:
                operator = f"{name.rstrip('_')}.{operator.split('.')[2]}"
                now[node.args[0].name] = Ref(node.name)
            now[node.name] = Ref(node.name)
            if is_public:
                public.add(node.name)
            steps.append(Step(node.name, operator, args, kwargs, is_public))
        else:
            raise Unsupported(f"{node.op} {node.target}: control flow that depends on data is not offered")
    single = isinstance(output, (list, tuple)) and len(output) == 1
    output = output[0] if single else output
    needed, kept = set(references(output)), []
    for step in reversed(steps):
        if step.name in needed:
            needed |= set(references((step.args, step.kwargs)))
            kept.append(step)
    for step in reversed(kept):
        try:
            step.function()
        except Unsupported:
            here = unknown or step.operator
            raise Unsupported(f"{here} is not offered for encrypted tensors") from None
    return Program(tuple(inputs), tuple(reversed(kept)), output)


def _training(
    model: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    names: dict[str, str],
    evaluation: Program,
    *,
    free: bool,
) -> Program | str:
    """What runs while training, or why that is refused; it must differ in dropout and statistics only."""
    if not any(p.requires_grad for p in model.parameters()):
        return "none of its parameters asks for a gradient"
    try:
        exported, unknown = _export(copy.deepcopy(model).train(), inputs, free=free)
        program = _program(exported, names, unknown)
    except Exception as error:  # noqa: BLE001 - the model's own code runs here
        return str(error).strip().split("\n")[0] or type(error).__name__
    drops = ("aten.dropout", "aten.feature_dropout")
    here, there = (
        [without_overload(s.operator) for s in p.steps if without_overload(s.operator) not in drops]
        for p in (evaluation, program)
    )
    return program if here == there else "it takes another path through its code while training"


def _check(
    oracle: Callable[..., Any], found_by: Converted, inputs: tuple[torch.Tensor, ...], *, free: bool
) -> None:
    """Compares the two, in plain, on the dummy input's shapes and on another length where that is free.

    Raises:
        Unsupported: they differ.
    """
    trials = [tuple(_like(x) for x in inputs)]
    if free:
        trials.append(tuple(torch.cat([_like(x), _like(x)]) for x in inputs))
    for trial in trials:
        with torch.no_grad():
            expected, found = flat(oracle(*trial)), flat(found_by(*trial))
        if len(expected) != len(found):
            raise Unsupported(f"the converted model returns {len(found)} values, not {len(expected)}")
        for one, other in zip(expected, found, strict=True):
            if other is None:
                raise Unsupported("the model returns where a maximum stands, which is not offered")
            if one.shape != other.shape:
                raise Unsupported(
                    f"the converted model returns shape {list(other.shape)}, not {list(one.shape)}"
                )
            away = _distance(one.double(), other.double())
            if not away <= TOLERANCE:
                raise Unsupported(f"the converted model is {away:.3g} away from the original: not converted")


def _distance(expected: torch.Tensor, found: torch.Tensor) -> float:
    """The largest error, relative (absolute below 1), where the original is inside its domain."""
    asked = expected.isfinite()
    if not expected.numel():
        return 0.0
    if not asked.any():
        raise Unsupported("the model returns nothing finite for random input: it cannot be checked")
    expected, found = expected[asked], found[asked]
    return ((expected - found).abs() / expected.abs().clamp(min=1)).max().item()


def _like(x: torch.Tensor) -> torch.Tensor:
    """Random values of the same kind: integers among those of x, real numbers in (-2, 2)."""
    if not x.is_floating_point():
        places = (uniform(x.shape) * max(x.numel(), 1)).long().clamp(max=max(x.numel() - 1, 0))
        return x.flatten()[places] if x.numel() else x
    return (uniform(x.shape) * 4 - 2).to(x.dtype)
