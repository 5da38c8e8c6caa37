"""``htvm/model.onnx``: float32-typed, integer-valued, only the operators of HTVM's dialect (docs/htvm-dialect.md).

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
from onnxdiana.forms import Forms
from onnxdiana.graph import EmitterNames, Namer, name_of
from onnxdiana.integers import HANDOFF_INPUT
from onnxdiana.rules.ops import operator

HTVM_OPSET = 13
HTVM_IR = 8
INPUT = HANDOFF_INPUT
QUANTIZERS = ("Quantize", "Requantize")
"""Nodes of the integer graph that give the codes which all spellings share by name."""


def handoff_obstacles(integer: ir.Model, forms: Forms) -> list[str]:
    """Why an integer graph cannot be handed over, each with the node and what to change; empty where it can."""
    found = []
    for count, what in ((len(integer.graph.inputs), "inputs"), (len(integer.graph.outputs), "outputs")):
        if count != 1:
            found.append(f"the model has {count} {what}; HTVM takes one: split the model")
    for node in integer.graph:
        found.extend(f"{graph.where(node)}: {reason}" for reason in operator(node).htvm_obstacles(node, forms))
    return found


class _Surgeon(EmitterNames):
    """An :class:`~onnxdiana.graph.Emitter` on onnx-graphsurgeon."""

    def __init__(self, target: Any, reserved: set[str]) -> None:
        import onnx_graphsurgeon as gs

        super().__init__({INPUT}, reserved - {INPUT})
        self._gs, self._graph = gs, target

    def constant(self, name: str, array: NDArray[Any]) -> Any:
        """A float32 (or int64 shape) initializer."""
        return self._gs.Constant(self._unique(name), np.asarray(array, order="C"))  # keeps rank 0

    def add(self, op_type: str, inputs: Sequence[Any], output: str, **attrs: Any) -> Any:
        """A node with exactly these attributes."""
        name = self._name(output)
        result = self._gs.Variable(name, dtype=np.float32)
        given = {k: v for k, v in attrs.items() if v is not None}
        self._graph.nodes.append(
            self._gs.Node(op_type, name=name, attrs=given, inputs=list(inputs), outputs=[result]))
        return result


def input_permutation(integer: ir.Model) -> list[int] | None:
    """Axes from the float model's input to the hand-over graph's, where all that reads the codes is one Transpose."""
    quantizer = next(iter(integer.graph.inputs[0].uses())).node
    readers = [use.node for use in quantizer.outputs[0].uses()]
    perms = [graph.attribute(node, "perm") if node.op_type == "Transpose" else None for node in readers]
    return perms[0] if all(perm == perms[0] for perm in perms) else None


def handed_over(integer: ir.Model, array: NDArray[Any]) -> NDArray[Any]:
    """Inputs, or their codes, in the hand-over graph's layout."""
    perm = input_permutation(integer)
    return array if perm is None else np.ascontiguousarray(array.transpose(perm))


def restored(integer: ir.Model, array: NDArray[Any]) -> NDArray[Any]:
    """The inverse of :func:`handed_over`."""
    perm = input_permutation(integer)
    return array if perm is None else np.ascontiguousarray(array.transpose(np.argsort(perm)))


def _permute_input(integer: ir.Model) -> None:
    """The Transpose behind the input's quantizer goes: the input comes permuted."""
    perm = input_permutation(integer)
    if perm is None:
        return
    entry = integer.graph.inputs[0]
    codes = next(iter(entry.uses())).node.outputs[0]
    for node in [use.node for use in codes.uses()]:
        node.outputs[0].replace_all_uses_with(codes)
        integer.graph.remove(node, safe=True)
    for value in (entry, codes):
        sizes = graph.sample_shape(value)
        value.shape = ir.Shape([graph.BATCH, *(sizes[axis - 1] for axis in perm[1:])])


def arrange(integer: ir.Model, forms: Forms) -> ir.Model:
    """The same graph in the order that the dialect wants, with the choices made; the argument is not changed."""
    clone = integer.clone()
    unique = Namer(graph.all_names(clone.graph))
    _permute_input(clone)
    for node in list(clone.graph):
        operator(node).prepare_htvm(node, unique, forms)
    _dequantize_early(clone.graph, unique)
    return clone


def _dequantize_early(g: ir.Graph, unique: Namer) -> None:
    """HTVM dequantizes directly behind a requantizer only: what moves codes at the end moves floats there.

    Args:
        g: the integer graph; changed.
        unique: names that are free.
    """
    result, = g.outputs
    dequantizer = result.producer()
    assert dequantizer is not None
    moves: list[ir.Node] = []
    source = dequantizer.inputs[0]
    while source is not None and (node := source.producer()) is not None and node.op_type not in QUANTIZERS:
        moves.append(node)
        source, = operator(node).codes(node)
    if not moves or source is None:
        return
    name, value = name_of(result), result
    dequantizer.replace_input_with(0, source)
    result.name, result.shape = unique(f"{name}.real"), source.shape
    for node in reversed(moves):
        moved = ir.Value(name=unique(f"{name}.moved"), shape=node.outputs[0].shape)
        g.append(ir.node(node.op_type, [value, *node.inputs[1:]], graph.attributes(node), domain=node.domain,
                         outputs=[moved], name=moved.name))
        value = moved
    value.name = name
    graph.replace_graph_output(g, result, value)
    for node in moves:
        if not node.outputs[0].uses():
            g.remove(node, safe=True)


def htvm_model(arranged: ir.Model) -> onnx.ModelProto:
    """Write an arranged graph in the dialect; there is one only where :func:`handoff_obstacles` finds nothing."""
    import onnx_graphsurgeon as gs

    source = arranged.graph
    entry = gs.Variable(INPUT, dtype=np.float32, shape=(1, *graph.sample_shape(source.inputs[0])))
    surgeon = gs.Graph(nodes=[], inputs=[entry], outputs=[], name="onnxdiana", opset=HTVM_OPSET)
    emitter = _Surgeon(surgeon, interface_names(arranged))
    values = lower(arranged, {source.inputs[0]: entry}, emitter, lambda op: op.emit_htvm)
    result = values[source.outputs[0]]
    result.shape = (1, *graph.sample_shape(source.outputs[0]))
    surgeon.outputs = [result]
    proto: onnx.ModelProto = gs.export_onnx(surgeon, do_type_check=False, ir_version=HTVM_IR)
    proto.producer_name = proto.producer_version = ""
    onnx.checker.check_model(proto)
    return proto


def tensor_names(integer: ir.Model) -> list[str]:
    """Names of the requantized tensors in the hand-over graph, in execution order (0 = the quantized input)."""
    return [name_of(node.outputs[0]) for node in integer.graph if node.op_type in QUANTIZERS]


def handed_names(integer: ir.Model, arranged: ir.Model) -> list[str]:
    """Tensors with codes that both graphs have, by the integer graph's names, in execution order.

    These are its requantized tensors, but for those that were joined (Concat as an Add), where the joined one is.
    """
    made = {name_of(v) for node in arranged.graph for v in node.outputs}
    return [name for node in integer.graph if node.op_type in (*QUANTIZERS, "Concat")
            and (name := name_of(node.outputs[0])) in made]
