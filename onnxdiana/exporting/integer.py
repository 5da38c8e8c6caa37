"""``model.int.onnx``: the integer graph in standard ONNX integer operators, opset 18, float only at the borders."""

from __future__ import annotations

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.exporting.lower import interface_names, lower
from onnxdiana.graph import IrEmitter

INTEGER_OPSET = 18


def integer_model(
    integer: ir.Model, metadata: dict[str, str] | None = None, opset: int = INTEGER_OPSET
) -> ir.Model:
    """Write the integer graph for onnxruntime (1.24 or newer: ConvInteger on int8).

    The interface is the float model's: names, open batch, float32 in and out.

    Args:
        integer: the integer graph.
        metadata: string properties of the model file.
        opset: a newer one, for what stands behind the dequantizers.
    """
    source = integer.graph
    inputs = [graph.input_like(v) for v in source.inputs]
    model = graph.new_model(inputs, {"": opset}, source.name or "model", 8)
    emitter = IrEmitter(model.graph, interface_names(integer))
    given = dict(zip(source.inputs, inputs, strict=True))
    values = lower(integer, given, emitter, lambda op: op.emit_integer)
    for value in source.outputs:
        output = values[value]
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
        model.graph.outputs.append(output)
    model.metadata_props.update(metadata or {})
    return model
