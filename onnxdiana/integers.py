"""From exponents and parameters to the integer graph, and the proof that its accumulators fit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph, numerics, spec
from onnxdiana.errors import TargetError
from onnxdiana.forms import Forms
from onnxdiana.graph import IrEmitter, name_of
from onnxdiana.layers import Layer, Network
from onnxdiana.loading import OPSET
from onnxdiana.rules.ops import operator
from onnxdiana.rules.ops.base import ACCUMULATOR, DOMAIN
from onnxdiana.scales import ScaleTable
from onnxdiana.targets import Target

QUANTIZED = ".quantized"
"""What an interface's name gets for the integer graph; canonicalization keeps these names free."""
HANDOFF_INPUT = "input"
"""What the hand-over graph calls its input; old torch exporters call inner tensors so."""


@dataclass(frozen=True)
class Parameters:
    """Integer weight and bias of one linear layer."""

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    """At exponent ``e_x + e_w``; whatever half and corrections it carries are in it."""


def code_name(value: ir.Value) -> str:
    """Name of a quantized tensor's codes, the same in every spelling.

    The tensor's own, except where that names an interface, which stays float: a graph input or output, or the input of
    the hand-over graph.
    """
    interface = value.is_graph_input() or value.is_graph_output() or name_of(value) == HANDOFF_INPUT
    return f"{name_of(value)}{QUANTIZED}" if interface else name_of(value)


def round_parameters(network: Network, table: ScaleTable, *, halves: bool) -> dict[str, Parameters]:
    """Weights rounded to nearest (ties to even), biases likewise at the accumulator's exponent.

    Args:
        network, table: the float graph and its exponents.
        halves: add ``2**(s-1)`` to every bias, so that the floor shift rounds half up.
    """
    parameters: dict[str, Parameters] = {}
    for layer in network.layers:
        weight, bias = layer.operator.weight(layer.node), layer.operator.bias(layer.node)
        if weight is None:
            continue
        scale = table.tensors[name_of(weight)]
        codes = numerics.quantize(graph.required_constant(weight), scale.scalar, *scale.codes, "half_even")
        channels = codes.shape[0]
        exponent = accumulator_exponent(network, table, layer)
        real = np.zeros(channels) if bias is None else graph.required_constant(bias).astype(np.float64)
        offset = numerics.half(table.layers[layer.name].shift) if halves else 0
        parameters[layer.name] = Parameters(codes, to_int32(np.rint(np.ldexp(real, -exponent)) + offset, layer))
    return parameters


def to_int32(bias: NDArray[Any], layer: Layer) -> NDArray[np.int32]:
    """Whole numbers as int32, and such that float32 has them too.

    Raises:
        TargetError: one is beyond 32 bits.
    """
    bias = numerics.in_float32(np.clip(bias, -numerics.INT32_BOUND, numerics.INT32_BOUND))  # int64 would wrap
    if np.abs(bias).max(initial=0) >= numerics.INT32_BOUND:
        raise TargetError(f"{graph.where(layer.node)}: a bias leaves 32 bits; its values are extreme next to the input")
    return bias.astype(np.int32)


def accumulator_exponent(network: Network, table: ScaleTable, layer: Layer) -> int:
    """``e_x + e_w`` of a linear layer; what :meth:`Network.accumulator_exponent` says of any other."""
    return network.accumulator_exponent(layer, table.exponent)


def integerize(network: Network, table: ScaleTable, parameters: Mapping[str, Parameters]) -> ir.Model:
    """The integer graph: codes and accumulators only, in the domain :data:`~onnxdiana.rules.ops.base.DOMAIN`.

    Args:
        network: the canonical graph.
        table: exponents and shifts.
        parameters: of every linear layer, by layer name.

    Raises:
        TargetError: a scale is none that float32 has, and so none of ONNX's.
    """
    _check_scales(network, table)
    source = network.model.graph
    inputs = [graph.input_like(v) for v in source.inputs]
    model = graph.new_model(inputs, {DOMAIN: 1, "": OPSET}, source.name or "model", 10)
    names = {code_name(v) for v in network.quantized} | {name_of(v) for v in source.outputs}
    emitter = IrEmitter(model.graph, names, DOMAIN)
    codes: dict[ir.Value, ir.Value] = {}
    for value, given in zip(source.inputs, inputs, strict=True):
        scale = table.tensors[name_of(value)]
        codes[value] = _typed(emitter.add("Quantize", [given], code_name(value), exponent=scale.scalar,
                                          lo=scale.codes[0], hi=scale.codes[1]), value)
    layers = {layer.node: layer for layer in network.layers}
    for node in source:
        if node in network.fused:
            continue
        layer = layers.get(node)
        if layer is None:
            codes[node.outputs[0]] = _move(node, network, table, codes, emitter)
            continue
        scale, shift = table.tensors[name_of(layer.output)], table.layers[layer.name].shift
        accumulator = _accumulator(layer, network, table, parameters.get(layer.name), codes, emitter)
        _typed(accumulator, node.outputs[0])
        codes[layer.output] = _typed(
            emitter.add("Requantize", [accumulator], code_name(layer.output), shift=shift,
                        lo=scale.codes[0], hi=scale.codes[1]), layer.output)
    for value in source.outputs:
        exponent = table.exponent(name_of(network.source(value)))
        result = emitter.add("Dequantize", [codes[value]], name_of(value), exponent=exponent)
        result.type, result.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
        model.graph.outputs.append(result)
    spec.verify_integer(model)
    return model


def _accumulator(
    layer: Layer, network: Network, table: ScaleTable, own: Parameters | None, codes: Mapping[ir.Value, ir.Value],
    emitter: IrEmitter
) -> ir.Value:
    """The node of the integer graph that gives a layer's accumulators."""
    feed, name = [codes[v] for v in layer.inputs], f"{layer.name}{ACCUMULATOR}"
    if layer.function is not None:
        scale = table.tensors[name_of(layer.output)]
        entries = layer.function.table(table.exponent(name_of(network.source(layer.function.root))), scale.scalar,
                                       scale.codes)
        return emitter.add(layer.operator.op_type, [*feed, emitter.constant(f"{layer.name}.table", entries)], name,
                           function=layer.function.operators)
    if own is not None:
        weight = layer.operator.weight(layer.node)
        assert weight is not None
        feed += [emitter.constant(name_of(weight), own.weight), emitter.constant(f"{layer.name}.bias", own.bias)]
    attributes = graph.attributes(layer.node) | layer.operator.rounding(table.layers[layer.name].shift)
    return emitter.add(layer.node.op_type, feed, name, **attributes)


def _check_scales(network: Network, table: ScaleTable) -> None:
    """float32 has every scale and 128 times it; outputs are divided by the reciprocal of theirs."""
    returned = {network.source(v) for v in network.model.graph.outputs}
    needed = [(f"tensor '{name_of(v)}'", table.exponent(name_of(v)), -126 if v in returned else -149)
              for v in network.quantized]
    needed += [(graph.where(layer.node), accumulator_exponent(network, table, layer), -149)
               for layer in network.layers if layer.operator.weight(layer.node) is not None]
    for where, exponent, least in needed:
        if not least <= exponent <= 120:
            raise TargetError(f"{where}: needs a scale of 2**{exponent}, which float32 has not; its values are "
                              "extreme: scale the data or the weights in front of it")


def _typed(value: ir.Value, like: ir.Value) -> ir.Value:
    value.shape = like.shape
    return value


def _move(
    node: ir.Node, network: Network, table: ScaleTable, codes: Mapping[ir.Value, ir.Value], emitter: IrEmitter
) -> ir.Value:
    """A node that moves or clips codes: the same operator on codes, real bounds turned into codes."""
    attributes = graph.attributes(node)
    bounds = operator(node).bounds(node)
    carried = operator(node).codes(node)
    if bounds is not None:
        scale = table.tensors[name_of(network.source(carried[0]))]
        # as Target.codes: whole steps inside the bounds; where there are none, the one below the upper bound
        lo, hi = (np.clip(np.ldexp(bound, -scale.scalar), -128, 127) for bound in bounds)
        attributes["hi"] = math.floor(hi)
        attributes["lo"] = min(math.ceil(lo), attributes["hi"])
        feed: list[ir.Value | None] = [codes[v] for v in carried]
    else:
        # an absent input stays absent: what follows it keeps its place
        feed = [None if v is None else codes[v] if v in codes
                else emitter.constant(name_of(v), graph.required_constant(v)) for v in node.inputs]
    name = name_of(node.outputs[0])
    if node.outputs[0].is_graph_output():
        name = f"{name}.quantized"
    return _typed(emitter.add(node.op_type, feed, name, **attributes), node.outputs[0])


def accumulator_bounds(integer: ir.Model) -> dict[str, int]:
    """Largest magnitude of every accumulator, from the actual weights, biases and code ranges, by layer name.

    ``A = max over channels of (sum |q_w| * max|q_x| + |q_b|)`` for a linear layer (docs/numerics.md).
    """
    ranges: dict[ir.Value, tuple[int, int]] = {}
    bounds: dict[str, int] = {}
    for node in integer.graph:
        op = operator(node)
        inputs = [ranges[v] for v in op.codes(node) if v in ranges]
        if op.requantizes:
            bounds[name_of(node.outputs[0]).removesuffix(ACCUMULATOR)] = op.bound(node, inputs)
        elif node.op_type != "Dequantize":
            ranges[node.outputs[0]] = op.code_range(node, inputs)
    return bounds


def complete_table(
    network: Network, table: ScaleTable, integer: ir.Model, target: Target, core: str,
    forms: Forms | None = None
) -> ScaleTable:
    """The table with cores, roundings and the proven accumulator bounds of the final integer graph.

    Args:
        network, table, integer: the quantized network.
        target: says which layers its accelerator takes.
        core: ``cpu`` where it gets none.
        forms: in which it takes a layer that it would not take as it is, or does not take one that it would.

    Raises:
        TargetError: an accumulator does not fit 32 bits.
    """
    bounds = accumulator_bounds(integer)
    layers = {}
    for layer in network.layers:
        bound = bounds[layer.name]
        if bound >= numerics.INT32_BOUND:
            raise TargetError(f"{graph.where(layer.node)}: accumulator up to {bound}, beyond 32 bits")
        old = table.layers[layer.name]
        half_up = layer.operator.weight(layer.node) is not None or bool(layer.operator.rounding(1))
        layers[layer.name] = dataclasses.replace(
            old, accumulator_bound=bound, rounding="half_up" if half_up else "floor",
            core=_core(layer, target, core, forms or Forms()),
        )
    return table.replace(layers=layers)


def _core(layer: Layer, target: Target, core: str, forms: Forms) -> str:
    if core == "cpu" or layer.name in forms.unbiased | forms.kept:
        return "cpu"
    return target.accelerator if layer.name in forms.kernels else target.core(layer)
