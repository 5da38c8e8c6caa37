"""Table: a function of every code by itself, 256 values looked up; of the integer graph alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Codes, Scaled, T, bias_shape


class Table(Scaled):
    """``acc[n,c] = table[c][q[n,c] + 128]``, at the output's exponent; second input (1 or C, 256).

    The attribute ``function`` tells people what is in it.
    """

    op_type = "Table"
    internal = True
    own_exponent = True

    def bound(self, node: ir.Node, inputs: Sequence[Codes]) -> int:
        """Largest entry."""
        return int(np.abs(graph.required_constant(node.inputs[1])).max())

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """The entries; rounded to nearest when the table was made, whatever the rounding of quantizers."""
        table = graph.required_constant(node.inputs[1]).astype(np.int64)
        return np.asarray(table.reshape(-1)[inputs[0].astype(np.int64) + self._first(table, inputs[0].ndim)])

    @staticmethod
    def _first(table: Array, rank: int) -> Array:
        """Where in the flat table the entry of code 0 is, for every channel: broadcasts over (N, C, ...)."""
        return (128 + 256 * np.arange(len(table))).reshape(bias_shape(rank) if len(table) > 1 else (1,) * rank)

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Gather from the flat int32 table, at the code plus where the channel's code 0 is."""
        table = graph.required_constant(node.inputs[1])
        rank = len(graph.sample_shape(node.outputs[0])) + 1
        wide = emitter.add("Cast", [inputs[0]], f"{output}.operand", to=int(ir.DataType.INT32))
        first = emitter.constant(f"{output}.first", self._first(table, rank).astype(np.int32))
        entry = emitter.add("Add", [wide, first], f"{output}.entry")
        flat = emitter.constant(graph.name_of(node.inputs[1]), table.reshape(-1))  # type: ignore[arg-type]
        return emitter.add("Gather", [flat, entry], output, axis=0)

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """The dialect has ReLU and bounds, and no table."""
        yield (f"{graph.attribute(node, 'function')} is looked up in a table of codes, which HTVM's dialect has not; "
               "train with ReLU or ReLU6 instead")


OPERATOR = Table()
