"""``f(constants) -> constant``: Constant nodes become initializers, and whatever depends on nothing else is computed.

Shapes are static here (the batch too), so what an exporter computes from Shape folds away with the rest.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from onnxdiana import graph
from onnxdiana.shapes import infer_shapes

_DYNAMIC = frozenset({"Shape", "Size"})
_SKIPPED = frozenset({"ConstantOfShape", "DequantizeLinear", "QuantizeLinear"})
"""Operators that onnxscript leaves alone where nobody asks."""
_SHRINKS = frozenset({"Compress", "NonZero", "Unique"})
"""Operators whose result has no known shape, and at most a few times the size of what goes in."""
_SMALL = 1024  # elements that a result may have that is larger than what goes in, at no account
_LARGE = 2**26  # elements of such results in all: a few bytes of a file can ask for more than there is memory
_ACCOUNT = "onnxdiana.folded"


class FoldConstants:
    """onnxscript's folder, run only where there is something to fold."""

    name = "constants"

    def apply(self, model: ir.Model) -> int:
        """Lift and fold in place; the number of nodes that went away, at least 1 where anything changed."""
        before = len(model.graph)
        lift = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
        changed = lift(model).modified
        if any(self._foldable(node) for node in model.graph):
            from onnxscript.optimizer import fold_constants

            infer_shapes(model)
            folded = fold_constants(model, onnx_shape_inference=False, input_size_limit=2**31, output_size_limit=_LARGE,
                                    should_fold=lambda node: _worth_folding(node, model.meta))
            changed |= folded.modified
            lift(model)
            graph.remove_unused(model.graph)
        return max(before - len(model.graph), int(changed))

    @staticmethod
    def _foldable(node: ir.Node) -> bool:
        if node.op_type == "If" and graph.is_default_domain(node.domain):
            return graph.constant(node.inputs[0]) is not None
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
            return False
        return node.op_type in _DYNAMIC or all(v is None or graph.constant(v) is not None for v in node.inputs)


def _worth_folding(node: ir.Node, account: Any) -> bool | None:
    """Nothing too large, whatever the file says of its size; what onnxscript leaves alone too.

    Args:
        node: of constants alone.
        account: where the elements of results larger than what they are made of are counted.
    """
    given = sum(array.size for array in _tensors(node) if array is not None)
    size = _elements(node)
    if size is None or size > _LARGE:
        return False
    if size > max(given, _SMALL):
        account[_ACCOUNT] = account.get(_ACCOUNT, 0) + size
        if account[_ACCOUNT] > _LARGE:
            return False
    return True if node.op_type in _SKIPPED else None


def _tensors(node: ir.Node) -> list[ir.TensorProtocol | None]:
    """What is known of the inputs of a node that is being folded."""
    return [None if v is None else v.const_value for v in node.inputs]


def _elements(node: ir.Node) -> int | None:
    """How many elements a node of constants will give; None where that is not known."""
    values = _tensors(node)
    if node.op_type in _SHRINKS or not graph.is_default_domain(node.domain):
        return 0  # what onnxscript does not know, it leaves
    if node.op_type == "Range":
        start, limit, delta = (float(v.numpy().reshape(-1)[0]) if v is not None and v.size else 0.0 for v in values)
        known = delta != 0.0 and np.isfinite([start, limit, delta]).all()
        return max(0, math.ceil((limit - start) / delta)) if known else None
    if node.op_type == "OneHot":
        indices, depth = values[:2]
        if indices is None or depth is None or depth.size != 1:
            return None
        return int(indices.size) * max(0, int(depth.numpy().item()))
    total = 0
    for shape in [graph.dims(v) for v in node.outputs] if node.op_type != "ConstantOfShape" else [None]:
        if shape is None or None in shape:
            return _inferred(node)
        total += math.prod(shape)  # type: ignore[arg-type]
    return total


def _inferred(node: ir.Node) -> int | None:
    """The same by shape inference on this node alone, whose inputs have their values by now."""
    proto = onnx.ModelProto(ir_version=10)
    proto.opset_import.append(onnx.helper.make_opsetid("", 20))
    proto.graph.node.append(ir.serde.serialize_node(node))
    for value in {v.name: v for v in node.inputs if v is not None}.values():
        array = value.const_value
        if array is None:
            return None
        info = onnx.helper.make_tensor_value_info(value.name or "", int(array.dtype), array.shape.numpy())
        proto.graph.input.append(info)
        if array.size <= _SMALL:
            proto.graph.initializer.append(ir.serde.serialize_tensor(array))
            proto.graph.initializer[-1].name = value.name or ""
    found = onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True).graph
    shapes = {info.name: info.type.tensor_type for info in found.value_info}
    total = 0
    for output in node.outputs:
        form = shapes.get(output.name or "")
        if form is None or not form.HasField("shape") or not all(d.HasField("dim_value") for d in form.shape.dim):
            return None
        total += math.prod(d.dim_value for d in form.shape.dim)
    return total


RULE = FoldConstants()
