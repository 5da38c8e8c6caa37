"""The canonical graph as quantization sees it: which tensors are requantized, and where a tensor's codes come from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph
from onnxdiana.expressions import Expression, tables
from onnxdiana.graph import name_of
from onnxdiana.rules.ops import REGISTRY, Operator, operator
from onnxdiana.rules.ops.table import Table


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
    function: Expression | None = None
    """What is looked up in a table of all codes; ``node`` is its last one."""

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """The activations it reads."""
        return self.operator.codes(self.node) if self.function is None else (self.function.root,)

    @property
    def factors(self) -> tuple[ir.Value, ...]:
        """Activations and weight whose exponents add up to the accumulator's."""
        return self.operator.factors(self.node) if self.function is None else self.inputs

    @property
    def operation(self) -> str:
        """Operator type; of a table, all that are in it."""
        return self.node.op_type if self.function is None else self.function.operators


@contextlib.contextmanager
def with_weight(layer: Layer, weight: NDArray[Any], shape: Sequence[int], **attributes: Any) -> Iterator[Layer]:
    """A linear layer with another weight; its node lives as long as the context.

    Args:
        layer: reads the same tensors.
        weight: as the operator has it.
        shape: of the output, without the batch.
        attributes: that are others, too.
    """
    given, own = layer.node.inputs, layer.operator.weight(layer.node)
    assert own is not None
    weights = ir.Value(name=own.name, const_value=ir.Tensor(weight))
    output = ir.Value(name=layer.name, type=layer.output.type, shape=ir.Shape([graph.BATCH, *shape]))
    node = ir.node(layer.node.op_type, [given[0], weights, *given[2:]], graph.attributes(layer.node) | attributes,
                   outputs=[output])
    try:
        yield Layer(layer.name, node, layer.operator, output, layer.bounds)
    finally:
        for index in range(len(node.inputs)):  # or the network's tensors would keep it as a reader
            node.replace_input_with(index, None)


@dataclass(frozen=True)
class Network:
    """What the stages ask of a canonical graph, derived once."""

    model: ir.Model
    layers: tuple[Layer, ...]
    """In execution order."""
    fused: frozenset[ir.Node]
    """Nodes whose output has no codes: clips that a requantizer has taken over, the inner nodes of tables."""

    @property
    def quantized(self) -> tuple[ir.Value, ...]:
        """Every tensor with a requantizer, in execution order: the graph's inputs, then the layers' outputs."""
        return (*self.model.graph.inputs, *(layer.output for layer in self.layers))

    def source(self, value: ir.Value) -> ir.Value:
        """The requantized tensor whose exponent a tensor's codes have."""
        node = value.producer()
        while node is not None and value not in self._outputs:
            value = operator(node).codes(node)[0]
            node = value.producer()
        return value

    @cached_property
    def _outputs(self) -> frozenset[ir.Value]:
        return frozenset(layer.output for layer in self.layers)

    def accumulator_exponent(self, layer: Layer, exponent: Callable[[str], int]) -> int:
        """Exponent of a layer's accumulator, given those of requantized tensors and weights by name."""
        if layer.operator.own_exponent:
            return exponent(name_of(layer.output))
        return sum(exponent(name_of(self.source(v))) for v in layer.factors) - layer.operator.scale_bits(layer.node)

    def movers(self) -> Iterator[ir.Node]:
        """Nodes that are neither layers nor taken over by one: they move or clip codes."""
        nodes = {layer.node for layer in self.layers}
        return (node for node in self.model.graph if node not in nodes and node not in self.fused)


def network(model: ir.Model, without: Container[ir.Node] = ()) -> Network:
    """Derive layers and fused bounds from a canonical graph, or from one that is canonical but for some nodes."""
    layers: list[Layer] = []
    functions = {top: function for top, function in tables(model.graph).items() if top not in without}
    fused = {node for top, function in functions.items() for node in function.nodes if node not in functions}
    for node in model.graph:
        if node in without or node in fused:
            continue
        if node in functions:
            bounds = operator(node).bounds(node) or operator(node).image
            layers.append(Layer(name_of(node.outputs[0]), node, REGISTRY[Table.op_type], node.outputs[0], bounds,
                                functions[node]))
            continue
        op = operator(node)
        if not op.requantizes:
            continue
        output, lo, hi = node.outputs[0], -math.inf, math.inf
        while (consumer := graph.sole_consumer(output)) is not None and consumer not in without:
            limits = operator(consumer).bounds(consumer)
            if limits is None or consumer in fused or consumer in functions:
                break
            lo, hi = (min(max(bound, limits[0]), limits[1]) for bound in (lo, hi))  # as ONNX: the upper bound wins
            fused.add(consumer)
            output = consumer.outputs[0]
        layers.append(Layer(name_of(node.outputs[0]), node, op, output, (lo, hi)))
    return Network(model, tuple(layers), frozenset(fused))
