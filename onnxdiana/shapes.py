"""Shape inference: every type and shape in an onnx_ir graph that can be known is filled in."""

from __future__ import annotations

import onnx
import onnx_ir as ir

_SMALL = 1024  # bytes; an initializer that holds a shape, axes or pads is smaller, weights stay out of the copy


def infer_shapes(model: ir.Model) -> None:
    """Fill in types and shapes in place; an operator that says nothing leaves only its readers without.

    Sizes that are not numbers are left open. Linear in the number of nodes, which onnx_ir's own pass is not; it also
    builds the model a second time, and logs a traceback where inference fails.
    """
    for weight in model.graph.initializers.values():
        if weight.const_value is not None:
            weight.dtype, weight.shape = weight.const_value.dtype, ir.Shape(weight.const_value.shape.numpy())
    known = [*model.graph.inputs, *(v for v in model.graph.initializers.values() if not v.is_graph_input())]
    computed = {v.name: v for node in model.graph for v in node.outputs if v.name}
    proto = onnx.ModelProto(ir_version=model.ir_version)
    proto.opset_import.extend(onnx.helper.make_opsetid(*item) for item in model.graph.opset_imports.items())
    proto.graph.node.extend(ir.serde.serialize_node(node) for node in model.graph)
    proto.graph.input.extend(ir.serde.serialize_value(value) for value in known)
    for value in known:
        if value.const_value is not None and value.const_value.nbytes <= _SMALL:
            proto.graph.initializer.append(ir.serde.serialize_tensor(value.const_value))
            proto.graph.initializer[-1].name = value.name or ""  # a tensor may carry another name than its value
    proto.graph.value_info.extend(ir.serde.serialize_value(value) for value in computed.values())
    propagates = all(node.op_type != "Range" for node in model.graph)  # onnx would write out a Range of any length
    found = onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=propagates).graph
    for info in found.value_info:
        output, kind = computed.get(info.name), info.type.tensor_type
        if output is None:
            continue
        if kind.elem_type:
            output.dtype = ir.DataType(kind.elem_type)
        if kind.HasField("shape"):
            output.shape = ir.Shape([dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim])
