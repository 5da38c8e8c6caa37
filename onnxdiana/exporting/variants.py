"""Forms that a hand-over graph may take on request, DORY-annotated or for int8 codes; the float tail for the host."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir
from onnx import NodeProto, TensorProto, helper

from onnxdiana.errors import HandoffError
from onnxdiana.exporting.htvm import HTVM_IR
from onnxdiana.exporting.integer import INTEGER_OPSET
from onnxdiana.tail import Tail

TAIL_FILE = "tail.onnx"
"""Beside the hand-over graph; HTVM reads no file of that name."""
DORY_FILE = "dory/model.onnx"
"""In a folder of its own: HTVM rejects the attributes."""
_QUANTIZER = ("Div", "Floor", "Max", "Min")
_ANALOG = (*_QUANTIZER, "Mul")
"""What follows the accumulator of the analog core and no other: the ADC, and the scale of its codes."""
_ANNOTATIONS: dict[str, dict[str, int | str]] = {
    "Conv": {"weight_bits": 8, "bias_bits": 32, "weight_data_layout": "OIHW", "input_data_layout": "NCHW"},
    "Gemm": {"weight_bits": 8, "bias_bits": 32},
    "Mul": {"mult_bits": 8},
    "Add": {"add_bits": 8},
}


def tail_model(tail: Tail) -> onnx.ModelProto | None:
    """What of the float model stands behind the last quantized layer, for the host.

    It computes as the tail of ``model.int.onnx`` does: the same operators at the same opset.

    Returns:
        A model from the body's outputs, by name, with open batch, to what the whole model returns of them; None where
        nothing is left.
    """
    if tail.model is None:
        return None
    model = tail.model.clone()
    for value in [v for v in model.graph.inputs if not v.uses()]:
        model.graph.inputs.remove(value)
    model.opset_imports[""] = tail.opset(INTEGER_OPSET)
    model.ir_version, model.producer_name = HTVM_IR, ""
    proto: onnx.ModelProto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    return proto


def dory_twin(htvm: onnx.ModelProto) -> onnx.ModelProto:
    """The hand-over graph with the attributes that the original toolkit writes for DORY; nothing else is changed.

    Weights have 8 bits, on the analog core 2; biases have 32.
    """
    twin = copied(htvm)
    for node in twin.graph.node:
        given = dict(_ANNOTATIONS.get(node.op_type, {}))
        if node.op_type == "Conv" and _behind(twin.graph, node.output[0], _ANALOG) is not None:
            given["weight_bits"] = 2
        node.attribute.extend(helper.make_attribute(name, value) for name, value in given.items())
    return twin


def int8_input(htvm: onnx.ModelProto) -> onnx.ModelProto:
    """The hand-over graph without the input's quantizer: it takes int8 codes, which one Cast makes float.

    The Cast gives the quantized input tensor under its name. It is there because ONNX's Conv and Gemm take no int8.

    Raises:
        HandoffError: the graph input is not quantized by Div, Floor, Max and Min.
    """
    twin = copied(htvm)
    entry, graph = twin.graph.input[0], twin.graph
    quantizer = _behind(graph, entry.name, _QUANTIZER)
    if quantizer is None:
        raise HandoffError(f"graph input '{entry.name}': it is not read by {', '.join(_QUANTIZER)} alone, in this "
                           "order; give the graph that onnxdiana wrote")
    codes = quantizer[-1].output[0]
    nodes = [node for node in graph.node if node not in quantizer]
    del graph.node[:]
    graph.node.append(helper.make_node("Cast", [entry.name], [codes], name=codes, to=TensorProto.FLOAT))
    graph.node.extend(nodes)
    entry.type.tensor_type.elem_type = TensorProto.INT8
    drop_unread(graph)
    onnx.checker.check_model(twin)
    return twin


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that can be changed without changing the argument."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def drop_unread(graph: onnx.GraphProto) -> None:
    """Initializers that no node reads go, and what is said of tensors that are not there."""
    read = {name for node in graph.node for name in node.input}
    made = {name for node in graph.node for name in node.output}
    for entries, names in ((graph.initializer, read), (graph.value_info, made)):
        kept = [entry for entry in entries if entry.name in names]
        del entries[:]
        entries.extend(kept)


def _behind(graph: onnx.GraphProto, name: str, op_types: Sequence[str]) -> list[NodeProto] | None:
    """The chain of nodes of these types behind a tensor, each the only reader of the one before; None if it differs."""
    chain: list[NodeProto] = []
    for op_type in op_types:
        readers = [node for node in graph.node if name in node.input]
        if len(readers) != 1 or readers[0].op_type != op_type or readers[0].input[0] != name:
            return None
        chain += readers
        name = readers[0].output[0]
    return chain
