"""``f(constants) -> constant``: Constant nodes become initializers, and whatever depends on nothing else is computed.

Shapes are static here (the batch too), so what an exporter computes from Shape folds away with the rest.
"""

from __future__ import annotations

import math

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from onnxdiana import graph
from onnxdiana.shapes import infer_shapes

_DYNAMIC = frozenset({"Shape", "Size"})
_SMALL = 1024  # elements that a ConstantOfShape may have
_LARGE = 2**26  # elements that any constant may have: a file of a few bytes can ask for more than there is memory


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
                                    should_fold=self._worth_folding)
            changed |= folded.modified
            lift(model)
            graph.remove_unused(model.graph)
        return max(before - len(model.graph), int(changed))

    @staticmethod
    def _foldable(node: ir.Node) -> bool:
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
            return False
        return node.op_type in _DYNAMIC or all(v is None or graph.constant(v) is not None for v in node.inputs)

    @staticmethod
    def _worth_folding(node: ir.Node) -> bool | None:
        """Nothing too large; a small ConstantOfShape, which onnxscript leaves, though TorchScript computes pads so."""
        if any(math.prod(size or 0 for size in graph.dims(v) or ()) > _LARGE for v in node.outputs):
            return False
        if node.op_type != "ConstantOfShape":
            return None
        shape = graph.constant(node.inputs[0])
        return True if shape is not None and math.prod(shape.tolist()) <= _SMALL else None


RULE = FoldConstants()
