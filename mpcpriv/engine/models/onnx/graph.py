"""An ONNX graph as a torch module, so that one converter serves both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.reference
import torch

from mpcpriv.engine.models.kinds import MASKED
from mpcpriv.engine.models.onnx.call import Call, is_symbolic, name_of
from mpcpriv.engine.models.onnx.operators import CONSTANTS, CONTROL, OPERATORS
from mpcpriv.engine.models.onnx.sizes import SIZES
from mpcpriv.errors import Unsupported

_STATISTICS = {"BatchNormalization": (3, 4)}


class Graph(torch.nn.Module):
    """Computes the graph on plain tensors, node by node.

    Real initializers are parameters (running statistics and masks: buffers), and so are constants of
    more than one real number, where some exporters keep weights. Everything else in the file (single
    numbers, integers, attributes) is architecture.

    Attributes:
        names: by torch's name, ONNX's name of each parameter and buffer.
        inputs: the names of the inputs, in order.
        outputs: the names of the outputs, in order.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Of a checked model.

        Raises:
            Unsupported: a node that is not offered, by name.
        """
        super().__init__()
        graph = model.graph
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.names: dict[str, str] = {}
        self._places: dict[str, str] = {}
        self._stored: dict[str, np.ndarray[Any, Any]] = {}
        self._known: dict[str, Any] = {}
        statistics = {
            node.input[i]
            for node in graph.node
            for i in _STATISTICS.get(node.op_type, ())
            if i < len(node.input)
        }
        for tensor in graph.initializer:
            value = onnx.numpy_helper.to_array(tensor)
            if value.dtype.kind not in "fiub":
                raise Unsupported(
                    f"{tensor.name} holds {value.dtype}: real numbers, integers or flags are needed"
                )
            if value.dtype.kind == "f":
                self._hold(tensor.name, value, constant=tensor.name in statistics)
            else:
                self._known[tensor.name] = value
        self.inputs = [i.name for i in graph.input if i.name not in {t.name for t in graph.initializer}]
        self.outputs = [o.name for o in graph.output]
        self.nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            self._add(node)

    def _hold(self, name: str, value: np.ndarray[Any, Any], *, constant: bool) -> None:
        place = f"tensor{len(self.names)}"
        self.names[place], self._places[name], self._stored[name] = name, place, value
        tensor = torch.from_numpy(value.copy())
        if constant or bool((tensor <= MASKED).any()):
            self.register_buffer(place, tensor)
        else:
            self.register_parameter(place, torch.nn.Parameter(tensor))

    def _add(self, node: onnx.NodeProto) -> None:
        """Keeps a node, or computes it at once where all of it is known."""
        name = node.op_type
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            reason = "control flow" if name in CONTROL else "a graph inside a node"
            raise Unsupported(f"{name_of(node)}: {reason} is not offered")
        if node.domain not in ("", "ai.onnx") or name not in OPERATORS.keys() | CONSTANTS:
            raise Unsupported(f"{name_of(node)} is not offered for encrypted tensors")
        if all(i == "" or i in self._known for i in node.input) and not name.startswith("Random"):
            outputs = folded(node, self._known, self.opset)
            for output, value in zip(node.output, outputs, strict=False):
                if value.dtype.kind == "f" and value.size > 1:
                    self._hold(output, value, constant=True)
                else:
                    self._known[output] = value
        elif name in CONSTANTS:
            raise Unsupported(f"{name_of(node)} is offered on constants only")
        else:
            self.nodes.append(node)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The outputs: a tensor, or a tuple of them."""
        values: dict[str, Any] = {**self._known, **dict(zip(self.inputs, inputs, strict=True))}
        values.update((name, getattr(self, place)) for name, place in self._places.items())
        for node in self.nodes:
            found = self._computed(node, values)
            outputs = found if isinstance(found, tuple) else (found,)
            values.update(zip((o for o in node.output if o), outputs, strict=False))
        outputs = tuple(
            value if isinstance(value, torch.Tensor) else torch.tensor(value.tolist())
            for value in (values[name] for name in self.outputs)
        )
        return outputs[0] if len(outputs) == 1 else outputs

    def _computed(self, node: onnx.NodeProto, values: Mapping[str, Any]) -> Any:
        inputs = tuple(values[name] if name else None for name in node.input)
        stored = tuple(self._stored.get(name) for name in node.input)
        call = Call(node, inputs, stored, self.opset, self.training)
        if not any(isinstance(value, torch.Tensor) for value in inputs):
            if not any(map(is_symbolic, inputs)):
                return folded(node, values, self.opset)
            if node.op_type in SIZES:
                return SIZES[node.op_type](call)
        return OPERATORS[node.op_type](call)


def folded(node: onnx.NodeProto, values: Mapping[str, Any], opset: int) -> tuple[Any, ...]:
    """A node whose inputs are all known, as onnx's own reference computes it."""
    inputs = [name for name in dict.fromkeys(node.input) if name]
    graph = onnx.helper.make_graph(
        [node],
        "folded",
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in inputs],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    found = onnx.reference.ReferenceEvaluator(model).run(None, {name: values[name] for name in inputs})
    return tuple(np.asarray(value) for value in found)
