"""``model.qdq.onnx``: the fake-quantized model, QuantizeLinear and DequantizeLinear with power-of-two scales.

Half-to-even by ONNX's definition, so it is close to the integer model and never called equal to it. The codes of a
tensor (the output of its QuantizeLinear) have the same name as in the other spellings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph
from onnxdiana.graph import Namer, name_of
from onnxdiana.integers import Parameters, accumulator_exponent, code_name
from onnxdiana.layers import Network, network
from onnxdiana.scales import ScaleTable, TensorScale


class _Inserter:
    """Inserts Q and DQ nodes into a clone of the float graph. A plain loop: a pattern would match its own result."""

    def __init__(self, target: ir.Graph) -> None:
        self._graph = target
        self.unique = Namer(graph.all_names(target))
        self._node_name = Namer(node.name for node in target if node.name)

    def constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        return graph.initializer(self._graph, self.unique(name), array)

    def node(self, op_type: str, inputs: Sequence[ir.Value | None], output: str, dtype: ir.DataType,
             shape: ir.Shape | None) -> ir.Value:
        value = ir.Value(name=output, type=ir.TensorType(dtype), shape=shape)
        ir.node(op_type, inputs, outputs=[value], name=self._node_name(output))
        return value

    def dequantized(self, name: str, codes: NDArray[Any], exponent: int, before: ir.Node) -> ir.Value:
        """A weight or bias: an initializer of codes and its DequantizeLinear."""
        quantized = self.constant(f"{name}.quantized", codes)
        scale = self.constant(f"{name}.scale", np.array(2.0**exponent, np.float32))
        zero = self.constant(f"{name}.zero_point", np.array(0, codes.dtype))
        result = self.node("DequantizeLinear", [quantized, scale, zero], self.unique(f"{name}.dequantized"),
                           ir.DataType.FLOAT, ir.Shape(codes.shape))
        self._graph.insert_before(before, [result.producer()])  # type: ignore[list-item]
        return result


def fake_quantize(
    view: Network, table: ScaleTable, parameters: Mapping[str, Parameters], metadata: dict[str, str] | None = None
) -> ir.Model:
    """The canonical float graph with every requantized tensor, weight and bias on its grid.

    Args:
        view: the canonical graph.
        table: exponents.
        parameters: weights and biases in codes, by layer; the biases without half and floor corrections.
        metadata: string properties of the model file.
    """
    names = {name_of(v): code_name(v) for v in view.quantized}
    exponents = {layer.name: accumulator_exponent(view, table, layer) for layer in view.layers}
    clone = view.model.clone()
    inside = network(clone)
    inserter = _Inserter(clone.graph)
    for layer in inside.layers:
        weight, node = layer.operator.weight(layer.node), layer.node
        if weight is None:
            continue
        own = parameters[layer.name]
        node.replace_input_with(1, inserter.dequantized(
            name_of(weight), own.weight, table.exponent(name_of(weight)), node))
        bias = inserter.dequantized(f"{layer.name}.bias", own.bias, exponents[layer.name], node)
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        node.replace_input_with(2, bias)
    bounds = {name_of(layer.output): layer.bounds for layer in view.layers}
    for value in inside.quantized:
        name = name_of(value)
        limits = _limits(table.tensors[name], bounds.get(name, (-math.inf, math.inf)))
        _insert(clone.graph, inserter, value, names[name], table.exponent(name), limits)
    graph.remove_unused(clone.graph)
    clone.metadata_props.update(metadata or {})
    return clone


Limits = tuple[float | None, float | None]


def _limits(scale: TensorScale, bounds: tuple[float, float]) -> Limits:
    """Real limits that neither int8 nor the tensor's own bounds set, but the target's narrower codes; None: none."""
    (lo, hi), (lower, upper) = scale.codes, (math.ldexp(bound, -scale.scalar) for bound in bounds)
    return (math.ldexp(lo, scale.scalar) if lo > -128 and lo - 1 >= lower else None,
            math.ldexp(hi, scale.scalar) if hi < 127 and hi + 1 <= upper else None)


def _insert(g: ir.Graph, inserter: _Inserter, value: ir.Value, codes: str, exponent: int, limits: Limits) -> None:
    """Put Q and DQ behind a value; the codes get its name, or ``<name>.quantized`` where that is an interface."""
    name, producer = name_of(value), value.producer()
    users = [(use.node, use.idx) for use in value.uses()]
    returned = value.is_graph_output()
    if producer is not None:
        value.name = inserter.unique(f"{name}.float")
    scale = inserter.constant(f"{name}.scale", np.array(2.0**exponent, np.float32))
    zero = inserter.constant(f"{name}.zero_point", np.array(0, np.int8))
    source = value
    if limits != (None, None):
        sides = [None if limit is None else inserter.constant(f"{name}.limit", np.array(limit, np.float32))
                 for limit in limits]
        source = inserter.node("Clip", [value, *sides], inserter.unique(f"{name}.clipped"), ir.DataType.FLOAT,
                               value.shape)
    quantized = inserter.node("QuantizeLinear", [source, scale, zero], codes, ir.DataType.INT8, value.shape)
    restored = inserter.node("DequantizeLinear", [quantized, scale, zero],
                             name if returned else inserter.unique(f"{name}.dequantized"),
                             ir.DataType.FLOAT, value.shape)
    new = dict.fromkeys(v.producer() for v in (source, quantized, restored) if v is not value)
    pair = [node for node in new if node is not None]
    if producer is None:
        g.insert_before(g[0], pair)
    else:
        g.insert_after(producer, pair)
    for user, index in users:
        user.replace_input_with(index, restored)
    if returned:
        graph.replace_graph_output(g, value, restored)
