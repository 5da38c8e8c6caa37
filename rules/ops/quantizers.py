"""The borders of the integer graph: Quantize (float to codes), Requantize (accumulator to codes), Dequantize."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph, numerics
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Codes, Operator, T


def _limits(node: ir.Node) -> Codes:
    return graph.attribute(node, "lo"), graph.attribute(node, "hi")


def _floor_clip(limits: Codes, value: T, output: str, emitter: Emitter[T]) -> T:
    """``Floor -> Max(lo) -> Min(hi)``: the tail of every quantizer of the dialect; rank-0 bounds are portable."""
    lo, hi = limits
    floored = emitter.add("Floor", [value], f"{output}.floor")
    lower = emitter.add("Max", [floored, emitter.constant(f"{output}.lo", np.array(lo, np.float32))], f"{output}.max")
    return emitter.add("Min", [lower, emitter.constant(f"{output}.hi", np.array(hi, np.float32))], output)


class Quantize(Operator):
    """``q = clip(floor(x / 2**e), lo, hi)`` on a graph input."""

    op_type = "Quantize"
    internal = True

    def code_range(self, node: ir.Node, inputs: Sequence[Codes]) -> Codes:
        """The clip."""
        return _limits(node)

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Exact: a power of two divides without rounding."""
        return numerics.quantize(inputs[0], graph.attribute(node, "exponent"), *_limits(node), rounding)

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Div, Floor, Clip in float, then Cast to int8."""
        step = emitter.constant(f"{output}.scale", np.array(2.0 ** graph.attribute(node, "exponent"), np.float32))
        floored = emitter.add("Floor", [emitter.add("Div", [inputs[0], step], f"{output}.div")], f"{output}.floor")
        bounds = [emitter.constant(f"{output}.{side}", np.array(bound, np.float32))
                  for side, bound in zip(("lo", "hi"), _limits(node), strict=True)]
        clipped = emitter.add("Clip", [floored, *bounds], f"{output}.clip")
        return emitter.add("Cast", [clipped], output, to=int(ir.DataType.INT8))

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Div, Floor, Max, Min directly on the graph input."""
        step = emitter.constant(f"{output}.scale", np.array([2.0 ** graph.attribute(node, "exponent")], np.float32))
        return _floor_clip(_limits(node), emitter.add("Div", [inputs[0], step], f"{output}.div"), output, emitter)


class Requantize(Operator):
    """``y = clip(floor(acc / 2**s), lo, hi)``."""

    op_type = "Requantize"
    internal = True

    def code_range(self, node: ir.Node, inputs: Sequence[Codes]) -> Codes:
        """The clip."""
        return _limits(node)

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Shift and clip."""
        return numerics.requantize(inputs[0], graph.attribute(node, "shift"), *_limits(node), rounding)

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Floor shift of a negative int32: ``(x - x mod P) / P`` up to s = 30, an unsigned BitShift for s = 31."""
        shift, value = graph.attribute(node, "shift"), inputs[0]
        if shift == 31:
            value = _shift_31(value, output, emitter)
        elif shift:
            divisor = emitter.constant(f"{output}.divisor", np.array(1 << shift, np.int32))
            rest = emitter.add("Mod", [value, divisor], f"{output}.mod")
            value = emitter.add("Div", [emitter.add("Sub", [value, rest], f"{output}.sub"), divisor], f"{output}.div")
        bounds = [emitter.constant(f"{output}.{side}", np.array(bound, np.int32))
                  for side, bound in zip(("lo", "hi"), _limits(node), strict=True)]
        return emitter.add("Cast", [emitter.add("Clip", [value, *bounds], f"{output}.clip")], output,
                           to=int(ir.DataType.INT8))

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Div by (1,)-shaped 2**s, Floor, Max, Min; behind a mean no Div, since it is at the exponent of its input."""
        producer = node.inputs[0].producer() if node.inputs[0] is not None else None
        if producer is not None and producer.op_type == "GlobalAveragePool":
            return _floor_clip(_limits(node), inputs[0], output, emitter)
        divisor = emitter.constant(f"{output}.divisor", np.array([2.0 ** graph.attribute(node, "shift")], np.float32))
        return _floor_clip(_limits(node), emitter.add("Div", [inputs[0], divisor], f"{output}.div"), output, emitter)

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """HTVM wants a lower bound below the upper one (docs/htvm-dialect.md, 2)."""
        lo, hi = _limits(node)
        if lo == hi:
            yield (f"every code is {lo}: the bounds of this layer lie within one step of its scale, and HTVM takes no "
                   "clip to a single value; widen the bounds, or leave the layer out")


def _shift_31(value: T, output: str, emitter: Emitter[T]) -> T:
    """``x >> 31`` on int32 by way of uint32: flip the sign bit, shift, subtract what the flip became."""
    unsigned = emitter.add("Cast", [value], f"{output}.unsigned", to=int(ir.DataType.UINT32))
    flip = emitter.constant(f"{output}.sign", np.array(1 << 31, np.uint32))
    flipped = emitter.add("BitwiseXor", [unsigned, flip], f"{output}.flipped")
    places = emitter.constant(f"{output}.shift", np.array(31, np.uint32))
    shifted = emitter.add("BitShift", [flipped, places], f"{output}.shifted", direction="RIGHT")
    signed = emitter.add("Cast", [shifted], f"{output}.wide", to=int(ir.DataType.INT32))
    return emitter.add("Sub", [signed, emitter.constant(f"{output}.one", np.array(1, np.int32))], f"{output}.sub")


class Dequantize(Operator):
    """``x = q * 2**e`` on a graph output."""

    op_type = "Dequantize"
    internal = True

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Exact in float32."""
        return numerics.dequantize(inputs[0], graph.attribute(node, "exponent"))

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Cast to float, Div by 2**-e."""
        wide = emitter.add("Cast", [inputs[0]], f"{output}.cast", to=int(ir.DataType.FLOAT))
        step = emitter.constant(f"{output}.scale", np.array(2.0 ** -graph.attribute(node, "exponent"), np.float32))
        return emitter.add("Div", [wide, step], output)

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Div by 2**-e: without it HTVM's output would stay declared float and not compile."""
        step = emitter.constant(f"{output}.scale", np.array([2.0 ** -graph.attribute(node, "exponent")], np.float32))
        return emitter.add("Div", [inputs[0], step], output)


OPERATORS = [Quantize(), Requantize(), Dequantize()]
