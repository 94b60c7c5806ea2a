"""From an ONNX file to a module that runs encrypted, checked against onnx's own reference.

ONNX, "Open Neural Network Exchange Intermediate Representation", versions of its operators from 7 on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import google.protobuf.message
import numpy as np
import onnx
import onnx.checker
import onnx.inliner
import onnx.reference
import torch

from mpcpriv.engine.models.convert import converted
from mpcpriv.engine.models.converted import Converted
from mpcpriv.engine.models.onnx.call import name_of
from mpcpriv.engine.models.onnx.graph import Graph
from mpcpriv.errors import Unsupported, UsageError

OLDEST: Final = 7
"""The oldest version of ONNX's operators that is read: before, broadcasting had to be declared."""

_TRIED: Final = 2
"""The length that an open first dimension has while converting."""


def from_onnx(model: Any, dummy_input: Any = None) -> Converted:
    """The model of an ONNX file as a module that can be encrypted: `from_onnx(path).encrypt(src=0)`.

    As `from_pytorch`: every party reads a file of the same architecture (or gets it from
    `load_from_party`), and only the values of `src` matter. Initializers of real numbers become secret,
    and so do constants of more than one real number. The graph, integers, attributes, single numbers,
    and what an operator needs in the open (an exponent, the bounds of Clip, the value of Pad) are
    architecture, even where the file keeps them as initializers.

    Args:
        model: a path, the file's bytes, a file open for reading bytes, or an `onnx.ModelProto`. Weights
            in further files are read for a path only, and from its directory only.
        dummy_input: a tensor or a tuple of them; needed where another dimension than the first is open.

    Returns:
        a converted model in evaluation mode.

    Raises:
        UsageError: not a valid ONNX model.
        Unsupported: an operator that is not offered (named, with its node), or the conversion computes
            something else than onnx's reference evaluator.
    """
    proto = _read(model)
    _check(proto)
    graph = Graph(proto)
    declared = [i for i in proto.graph.input if i.name in graph.inputs]
    if dummy_input is None:
        inputs = tuple(_made(i, proto) for i in declared)
    else:
        inputs = tuple(dummy_input) if isinstance(dummy_input, (list, tuple)) else (dummy_input,)
    if len(inputs) != len(declared) or not all(isinstance(x, torch.Tensor) for x in inputs):
        raise UsageError(f"dummy_input: the model takes {len(declared)} tensors ({', '.join(graph.inputs)})")
    return converted(graph.eval(), inputs, names=graph.names, oracle=_oracle(proto, graph.inputs))


def _read(model: Any) -> onnx.ModelProto:
    """The model with all its weights.

    Raises:
        UsageError: it cannot be read.
    """
    directory: Path | None = None
    if isinstance(model, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(model)  # inlining and loading change it
    else:
        if isinstance(model, (str, os.PathLike)):
            try:
                data = Path(model).read_bytes()
            except OSError as error:
                raise UsageError(f"ONNX file {model}: {error.strerror}") from None
            directory = Path(model).resolve().parent
        else:
            data = model.read() if hasattr(model, "read") else model
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise UsageError(
                f"from_onnx takes a path, bytes, a binary file or a ModelProto, not a {type(model).__name__}"
            )
        try:
            proto = onnx.load_model_from_string(bytes(data))
        except google.protobuf.message.DecodeError:
            raise UsageError("not an ONNX file: it cannot be parsed") from None
    if not proto.graph.node or not proto.opset_import:
        raise UsageError("not an ONNX file: it holds no graph")
    _load_external(proto, directory)
    return proto


def _load_external(proto: onnx.ModelProto, directory: Path | None) -> None:
    """Weights in further files: beside the model and nowhere else, since the file itself names them."""
    attributes = [a for n in proto.graph.node for a in n.attribute]
    for function in proto.functions:
        attributes += [*function.attribute_proto, *(a for n in function.node for a in n.attribute)]
    held = [*proto.graph.initializer, *(t for a in attributes for t in (a.t, *a.tensors))]
    external = [t for t in held if t.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in external:
        locations = [e.value for e in tensor.external_data if e.key == "location"]
        location = locations[0] if len(locations) == 1 else ""  # of several, onnx would read the last
        if directory is None:
            raise UsageError(f"{tensor.name} is kept in another file ({location}): give the model's path")
        path = directory / location
        if not location or path.resolve().parent != directory or path.is_symlink():
            raise UsageError(f"{tensor.name} is kept in {location!r}: only files beside the model are read")
    if external:
        try:
            onnx.load_external_data_for_model(proto, str(directory))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise UsageError(f"the weights beside the model cannot be read: {_first_line(error)}") from None


def _check(proto: onnx.ModelProto) -> None:
    """Refuses what is not offered by name, then what is not valid.

    Raises:
        UsageError: not a valid model.
        Unsupported: versions, sparse weights, or inputs that are no tensors.
    """
    versions = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    if not versions or versions[0] < OLDEST:
        raise Unsupported(f"ONNX operators of version {versions}: {OLDEST} is the oldest that is offered")
    if proto.graph.sparse_initializer:
        raise Unsupported("sparse initializers are not offered")
    if proto.functions:
        proto.CopyFrom(onnx.inliner.inline_local_functions(proto))
    for value in (*proto.graph.input, *proto.graph.output):
        if not value.type.HasField("tensor_type"):
            raise Unsupported(
                f"{value.name} is no tensor: sequences, maps and optional values are not offered"
            )
    for node in proto.graph.node:
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type):
            raise Unsupported(f"{name_of(node)} is not an operator of ONNX {onnx.__version__}")
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise UsageError(f"not a valid ONNX model: {_first_line(error)}") from None


def _made(value: onnx.ValueInfoProto, proto: onnx.ModelProto) -> torch.Tensor:
    """A tensor of an input's declared shape."""
    kind = value.type.tensor_type
    dims = [d.dim_value or None for d in kind.shape.dim]
    if not kind.HasField("shape") or None in dims[1:]:
        open_dims = [d.dim_param or "?" if not d.dim_value else str(d.dim_value) for d in kind.shape.dim]
        raise UsageError(
            f"input {value.name} has the shape [{', '.join(open_dims)}]: only the first dimension may be "
            "open; say the others with dummy_input="
        )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    shape = [n or _TRIED for n in dims]
    if dtype.kind == "f":
        return torch.from_numpy(np.zeros(shape, dtype))
    rows = [1]  # of the table that it points into: the check should see all of them
    tables = {t.name: t.dims for t in proto.graph.initializer}
    lookups = [n.input for n in proto.graph.node if n.op_type == "Gather"]
    rows += [tables[table][0] for table, index in lookups if index == value.name and table in tables]
    return (
        torch.arange(int(np.prod(shape)))
        .reshape(shape)
        .remainder(max(rows))
        .to(torch.from_numpy(np.zeros(1, dtype)).dtype)
    )


def _oracle(proto: onnx.ModelProto, names: list[str]) -> Callable[..., Any]:
    """The plain model as onnx's reference computes it, on torch tensors."""
    try:
        evaluator = onnx.reference.ReferenceEvaluator(proto)
    except Exception as error:  # noqa: BLE001 - it runs code for every kind of node
        raise _unchecked(error) from None

    def run(*inputs: torch.Tensor) -> Any:
        given = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        try:
            with np.errstate(all="ignore"):
                found = evaluator.run(None, given)
        except Exception as error:  # noqa: BLE001 - it runs code for every kind of node
            raise _unchecked(error) from None
        return [torch.from_numpy(np.array(value)) for value in found]

    return run


def _unchecked(error: Exception) -> Unsupported:
    return Unsupported(
        "onnx's reference, which a conversion is checked against, cannot run this model: "
        f"{_first_line(error)}"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
