"""``htvm/model.onnx``: float32-typed, integer-valued, only the operators of HTVM's dialect (htvm-contract, section 1).

Written afresh with onnx-graphsurgeon: one default domain, opset 13, IR 8, no metadata, batch 1, one input called
``input``, one output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph
from onnxdiana.exporting.lower import interface_names, lower
from onnxdiana.graph import Namer, name_of
from onnxdiana.rules.ops import operator

HTVM_OPSET = 13
HTVM_IR = 8
INPUT = "input"


def handoff_obstacles(integer: ir.Model) -> list[str]:
    """Why an integer graph cannot be handed over, each with the node and what to change; empty where it can."""
    found = []
    for count, what in ((len(integer.graph.inputs), "inputs"), (len(integer.graph.outputs), "outputs")):
        if count != 1:
            found.append(f"the model has {count} {what}; HTVM takes one: split the model")
    for node in integer.graph:
        found.extend(f"{graph.where(node)}: {reason}" for reason in operator(node).htvm_obstacles(node))
    return found


class _Surgeon:
    """An :class:`~onnxdiana.graph.Emitter` on onnx-graphsurgeon."""

    def __init__(self, target: Any, reserved: set[str]) -> None:
        import onnx_graphsurgeon as gs

        self._gs, self._graph = gs, target
        self._reserved = set(reserved)
        self._unique = Namer({INPUT} | reserved)

    def _name(self, name: str) -> str:
        if name in self._reserved and name != INPUT:
            self._reserved.discard(name)
            return name
        return self._unique(name)

    def constant(self, name: str, array: NDArray[Any]) -> Any:
        """A float32 (or int64 shape) initializer."""
        return self._gs.Constant(self._name(name), np.ascontiguousarray(array))

    def add(self, op_type: str, inputs: Sequence[Any], output: str, **attrs: Any) -> Any:
        """A node with exactly these attributes."""
        name = self._name(output)
        result = self._gs.Variable(name, dtype=np.float32)
        given = {k: v for k, v in attrs.items() if v is not None}
        self._graph.nodes.append(
            self._gs.Node(op_type, name=name, attrs=given, inputs=list(inputs), outputs=[result]))
        return result


def htvm_model(integer: ir.Model) -> onnx.ModelProto:
    """Write the integer graph in the dialect; call it only where :func:`handoff_obstacles` finds nothing."""
    import onnx_graphsurgeon as gs

    source = integer.graph
    entry = gs.Variable(INPUT, dtype=np.float32, shape=(1, *graph.sample_shape(source.inputs[0])))
    surgeon = gs.Graph(nodes=[], inputs=[entry], outputs=[], name="onnxdiana", opset=HTVM_OPSET)
    emitter = _Surgeon(surgeon, interface_names(integer))
    values = lower(integer, {source.inputs[0]: entry}, emitter, lambda op: op.emit_htvm)
    result = values[source.outputs[0]]
    result.shape = (1, *graph.sample_shape(source.outputs[0]))
    surgeon.outputs = [result]
    proto: onnx.ModelProto = gs.export_onnx(surgeon, do_type_check=False, ir_version=HTVM_IR)
    proto.producer_name = proto.producer_version = ""
    onnx.checker.check_model(proto)
    return proto


def tensor_names(integer: ir.Model) -> list[str]:
    """Names of the requantized tensors in the hand-over graph, in execution order (0 = the quantized input)."""
    return [name_of(node.outputs[0]) for node in integer.graph if node.op_type in ("Quantize", "Requantize")]
