"""The canonical graph as quantization sees it: which tensors are requantized, and where a tensor's codes come from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.graph import name_of
from onnxdiana.rules.ops import Operator, operator


@dataclass(frozen=True)
class Layer:
    """One requantizing node with the bounds (Relu, Clip) that its requantizer takes over."""

    name: str
    """Output tensor of the node itself: the key in the scale table's ``layers``."""
    node: ir.Node
    operator: Operator
    output: ir.Value
    """The requantized tensor, behind the bounds: the key in the scale table's ``tensors``."""
    bounds: tuple[float, float]
    """Real bounds of the output, infinite where there are none."""

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """The activations it reads."""
        return self.operator.codes(self.node)


@dataclass(frozen=True)
class Network:
    """What the stages ask of a canonical graph, derived once."""

    model: ir.Model
    layers: tuple[Layer, ...]
    """In execution order."""
    fused: frozenset[ir.Node]
    """Clip nodes that a requantizer has taken over."""

    @property
    def quantized(self) -> tuple[ir.Value, ...]:
        """Every tensor with a requantizer, in execution order: the graph's inputs, then the layers' outputs."""
        return (*self.model.graph.inputs, *(layer.output for layer in self.layers))

    def source(self, value: ir.Value) -> ir.Value:
        """The requantized tensor whose exponent a tensor's codes have."""
        node = value.producer()
        while node is not None and node not in self.fused and not operator(node).requantizes:
            value = operator(node).codes(node)[0]
            node = value.producer()
        return value


def network(model: ir.Model) -> Network:
    """Derive layers and fused bounds from a canonical graph."""
    layers: list[Layer] = []
    fused: set[ir.Node] = set()
    for node in model.graph:
        op = operator(node)
        if not op.requantizes:
            continue
        output, lo, hi = node.outputs[0], -math.inf, math.inf
        while (consumer := graph.sole_consumer(output)) is not None:
            bounds = operator(consumer).bounds(consumer)
            if bounds is None:
                break
            lo, hi = (min(max(bound, bounds[0]), bounds[1]) for bound in (lo, hi))  # as ONNX: the upper bound wins
            fused.add(consumer)
            output = consumer.outputs[0]
        layers.append(Layer(name_of(node.outputs[0]), node, op, output, (lo, hi)))
    return Network(model, tuple(layers), frozenset(fused))
