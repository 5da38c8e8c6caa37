"""What an operator has to say for itself; the defaults are those of an operator that moves codes unchanged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph, numerics
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter, Namer
from onnxdiana.numerics import Rounding

DOMAIN = "onnxdiana"
"""Domain of the integer graph's operators: same names as ONNX's, on codes and accumulators instead of floats."""

ACCUMULATOR = ".accumulator"
"""What a layer's name gets for its node in the integer graph; canonicalization keeps the name free."""

Array = NDArray[Any]
Codes = tuple[int, int]
T = TypeVar("T")


class Operator:
    """One operator type.

    In the canonical graph a node works on floats; in the integer graph a node of the same type, domain
    :data:`DOMAIN`, works on int8 codes and gives codes (operators that only move them) or int32 accumulators
    (``requantizes``), which a ``Requantize`` node brings back to codes.
    """

    op_type: str
    requantizes = False
    """Whether the output has a line of its own in the scale table and leaves through a requantizer."""
    internal = False
    """Whether it is of the integer graph alone."""
    own_exponent = False
    """Whether the accumulator is at the output's exponent, whatever the input's."""
    image = (-math.inf, math.inf)
    """What the values of a pointwise operator lie in."""

    # -- questions about a node of the canonical graph ----------------------------------------------------------------

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Why this node has no quantized form, each with the nearest spelling that has one."""
        return iter(())

    def codes(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """The inputs that carry codes; the others are constants of the operator."""
        return tuple(v for v in node.inputs[:1] if v is not None)

    def ties(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """Values that must share one exponent because of this node; a group of fewer than two ties nothing."""
        return (*self.codes(node), node.outputs[0])

    def factors(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """Values whose exponents add up to the accumulator's: the input that carries codes, and the weight."""
        weight = self.weight(node)
        return self.codes(node)[:1] if weight is None else (*self.codes(node)[:1], weight)

    def scale_bits(self, node: ir.Node) -> int:
        """How many bits finer than its factors the accumulator is, because of a constant of the operator's own."""
        return 0

    def bounds(self, node: ir.Node) -> tuple[float, float] | None:
        """Real bounds where the node is a clip, else None; a requantizer in front of it takes them over."""
        return None

    def weight(self, node: ir.Node) -> ir.Value | None:
        """The weight, where the operator is linear."""
        return None

    def bias(self, node: ir.Node) -> ir.Value | None:
        """The bias, where the operator is linear and the node has one."""
        return None

    def macs(self, node: ir.Node) -> int:
        """Multiply-accumulates for one sample."""
        return 0

    def rounding(self, shift: int) -> dict[str, int]:
        """Attributes of the integer node that turn its requantizer's floor into half-up, where the node has a place."""
        return {}

    def pointwise(self, node: ir.Node) -> bool:
        """Whether every element of the output is a function of the elements at its place."""
        return False

    def tabulated(self, node: ir.Node) -> bool:
        """Whether a pointwise node makes a table of what it is part of: no layer or requantizer can take it in."""
        return False

    def real(self, node: ir.Node, inputs: Sequence[Any]) -> Array:
        """A pointwise node's values for real inputs, in float64; None for an input that is absent."""
        raise NotImplementedError

    def core(self, node: ir.Node) -> str | None:
        """Kind of accelerator layer this could be (``conv``, ``dense``, ``add``), or None where the CPU runs it."""
        return None

    # -- the integer graph --------------------------------------------------------------------------------------------

    def code_range(self, node: ir.Node, inputs: Sequence[Codes]) -> Codes:
        """Range of the output codes of a non-requantizing node, given those of :meth:`codes`."""
        return min(lo for lo, _ in inputs), max(hi for _, hi in inputs)

    def bound(self, node: ir.Node, inputs: Sequence[Codes]) -> int:
        """Largest magnitude of the accumulator of a requantizing node in the integer graph."""
        return max(max(abs(lo), abs(hi)) for lo, hi in inputs)

    def violations(self, node: ir.Node, inputs: Sequence[Codes]) -> Iterator[str]:
        """Why a node of the integer graph would not be exact in every spelling: a bug of ours where there is one."""
        return iter(())

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """The reference: codes in, codes or int64 accumulators out.

        ``inputs`` are the arrays of :meth:`codes`. ``rounding`` matters to operators that divide.
        """
        raise NotImplementedError

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Write the node in standard ONNX integer operators (opset 18): int8 codes in, int8 codes or int32 out."""
        return self._copy(node, inputs, output, emitter)

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Write the node in the dialect that HTVM takes (opset 13, float-typed integers, batch 1)."""
        return self._copy(node, inputs, output, emitter)

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """Why this node of the integer graph cannot be written in the dialect, each with what to change."""
        return iter(())

    def prepare_htvm(self, node: ir.Node, unique: Namer, forms: Forms) -> None:
        """Rearrange the integer graph (a clone) around this node, where the dialect or a choice wants it otherwise."""

    def _copy(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Write the node as it is: the same operator and attributes, constants copied."""
        feed: list[T] = []
        given = iter(inputs)
        for value in node.inputs:
            array = graph.constant(value)
            if value is None:
                continue
            feed.append(next(given) if array is None else emitter.constant(graph.name_of(value), array))
        return emitter.add(node.op_type, feed, output, **graph.attributes(node))


class Scaled(Operator):
    """An operator whose output has an exponent of its own."""

    requantizes = True

    def ties(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """None."""
        return ()


class HalfUp(Scaled):
    """A product that carries half a step of the output, so that the floor shift rounds half up.

    It is the attribute ``offset`` of the node of the integer graph.
    """

    def rounding(self, shift: int) -> dict[str, int]:
        """The offset."""
        return {"offset": numerics.half(shift)}

    @staticmethod
    def offset(node: ir.Node, rounding: Rounding = "floor") -> int:
        """Half a step; it belongs to the floor alone."""
        return int(graph.attribute(node, "offset", 0)) if rounding == "floor" else 0

    def emit_product(self, node: ir.Node, factors: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Mul of int32 tensors, Add of the offset."""
        if not self.offset(node):
            return emitter.add("Mul", list(factors), output)
        product = emitter.add("Mul", list(factors), f"{output}.product")
        half = emitter.constant(f"{output}.offset", np.array(self.offset(node), np.int32))
        return emitter.add("Add", [product, half], output)


class Linear(Scaled):
    """Conv and Gemm: a sum of products with constant weights, plus a bias per output channel, then a requantizer."""

    def weight(self, node: ir.Node) -> ir.Value | None:
        """Second input."""
        return node.inputs[1]

    def bias(self, node: ir.Node) -> ir.Value | None:
        """Third input, where present."""
        return node.inputs[2] if len(node.inputs) > 2 else None

    @staticmethod
    def parameters(node: ir.Node) -> tuple[tuple[str, Array], tuple[str, Array]]:
        """Name and values of the weight, name and values of the bias, of a node of the integer graph."""
        weight, bias = node.inputs[1], node.inputs[2]
        assert weight is not None
        assert bias is not None
        return ((graph.name_of(weight), graph.required_constant(weight)),
                (graph.name_of(bias), graph.required_constant(bias)))

    def bound(self, node: ir.Node, inputs: Sequence[Codes]) -> int:
        """``max over channels of (sum |q_w| * max|q_x| + |q_b|)``."""
        (_, weight), (_, bias) = self.parameters(node)
        return numerics.accumulator_bound(weight, bias, *inputs[0])

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Weights and bias must be constants."""
        if graph.constant(node.inputs[1]) is None:
            yield "the weight is computed in the graph; make it a constant (an initializer)"
        bias = self.bias(node)
        if bias is not None and graph.constant(bias) is None:
            yield "the bias is computed in the graph; make it a constant (an initializer)"


def insert_behind(
    value: ir.Value, op_type: str, name: str, readers: Iterable[ir.Node], *constants: ir.Value, **attributes: Any
) -> ir.Value:
    """A node of the integer graph on a tensor, which ``readers`` then read instead; its output."""
    producer = value.producer()
    assert producer is not None
    assert isinstance(producer.graph, ir.Graph)
    result = ir.Value(name=name, shape=value.shape)
    producer.graph.insert_after(producer, ir.node(
        op_type, [value, *constants], attributes, domain=DOMAIN, outputs=[result], name=name))
    for reader in readers:
        for index in [i for i, v in enumerate(reader.inputs) if v is value]:
            reader.replace_input_with(index, result)
    return result


def window(node: ir.Node, axes: int) -> dict[str, Any]:
    """Strides, pads and dilations of a Conv or pooling node over so many axes, with ONNX's defaults filled in."""
    return {"strides": graph.attribute(node, "strides", [1] * axes),
            "pads": graph.attribute(node, "pads", [0] * 2 * axes),
            "dilations": graph.attribute(node, "dilations", [1] * axes)}


def bias_shape(rank: int) -> tuple[int, ...]:
    """Shape that broadcasts a per-channel vector over (N, C, ...)."""
    return (1, -1, *(1,) * (rank - 2))


def scalar(value: float, dtype: type) -> Array:
    """A rank-0 array."""
    return np.array(value, dtype=dtype)
