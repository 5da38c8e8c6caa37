"""Add of two activations (residual): both operands share one exponent, the sum is requantized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter, Namer
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Codes, Operator, T, insert_behind


class Add(Operator):
    """``acc = q_a + q_b``; no bias, so floor stays (docs/numerics.md)."""

    op_type = "Add"
    requantizes = True

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Two activations of one shape."""
        for value in node.inputs:
            if graph.constant(value) is not None:
                yield "one operand is a constant; fold it into the bias of the layer in front"
        shapes = [graph.dims(v) for v in node.inputs]
        if None not in shapes and len({s[1:] for s in shapes if s is not None}) > 1:
            yield f"the operands have different shapes {shapes[0]} and {shapes[1]}; only equal shapes are added"

    def pointwise(self, node: ir.Node) -> bool:
        """Of one tensor where the other operand is a constant, or a function of the same tensor."""
        return True

    def real(self, node: ir.Node, inputs: Sequence[Any]) -> Array:
        """The sum."""
        return np.asarray(inputs[0] + inputs[1])

    def codes(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """Both operands."""
        return tuple(v for v in node.inputs if v is not None)

    def ties(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """The operands, not the output."""
        return self.codes(node)

    def core(self, node: ir.Node) -> str | None:
        """The accelerator's element-wise sum."""
        return "add"

    def bound(self, node: ir.Node, inputs: Sequence[Codes]) -> int:
        """Sum of both magnitudes."""
        return sum(max(abs(lo), abs(hi)) for lo, hi in inputs)

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Sum in int64."""
        return np.asarray(inputs[0].astype(np.int64) + inputs[1])

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Both operands to int32, then Add."""
        wide = [emitter.add("Cast", [x], f"{output}.operand", to=int(ir.DataType.INT32)) for x in inputs]
        return emitter.add("Add", wide, output)

    def prepare_htvm(self, node: ir.Node, unique: Namer, forms: Forms) -> None:
        """``Requantize(0, hi) -> Relu(Requantize(-128, hi))``: the accelerator's sum has none; vectors become maps."""
        requantizer = graph.sole_consumer(node.outputs[0])
        assert requantizer is not None
        if len(graph.sample_shape(node.outputs[0])) == 1:
            _as_maps(node, requantizer, unique)
        if graph.attribute(requantizer, "lo") == 0 and forms.silicon == "safe":
            requantizer.attributes["lo"] = ir.AttrInt64("lo", -128)
            signed, name = requantizer.outputs[0], graph.name_of(requantizer.outputs[0])
            signed.name = unique(f"{name}.signed")
            insert_behind(signed, "Relu", name, {use.node for use in signed.uses()}, lo=0, hi=127)

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Add on requantized tensors."""
        return emitter.add("Add", list(inputs), output)


def _as_maps(node: ir.Node, requantizer: ir.Node, unique: Namer) -> None:
    """Vectors (N, C) are added as maps (N, C, 1, 1): HTVM's code generator asks for an axis that vectors have not.

    Source: HTVM, ``soma_dory/codegen.py``, ``create_dory_add_node`` (read, not run).
    """
    g, codes = node.graph, requantizer.outputs[0]
    assert isinstance(g, ir.Graph)
    channels, = graph.sample_shape(codes)
    insert_behind(codes, "Flatten", unique(f"{graph.name_of(codes)}.flat"), {use.node for use in codes.uses()}, axis=1)
    shape = ir.Shape([graph.BATCH, channels, 1, 1])
    for operand in [v for v in dict.fromkeys(node.inputs) if v is not None]:
        name = unique(f"{graph.name_of(operand)}.map")
        size = graph.initializer(g, f"{name}.shape", np.array([0, channels, 1, 1], np.int64))
        insert_behind(operand, "Reshape", name, [node], size).shape = shape
    node.outputs[0].shape = codes.shape = shape


OPERATOR = Add()
