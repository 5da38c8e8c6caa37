"""More rows for a classifier, so that its number of outputs is one that the accelerator takes.

The extra rows have weights of 0 and a bias at which the requantizer saturates: their outputs are always the least code
and never win. They are rows of the float network too, so that every spelling has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph, numerics
from onnxdiana.graph import Namer, name_of
from onnxdiana.integers import Parameters, code_name
from onnxdiana.layers import Layer, Network, network, with_weight
from onnxdiana.rules.ops import operator
from onnxdiana.scales import ScaleTable
from onnxdiana.tail import Tail
from onnxdiana.targets import Target

_LEAST_CODE = -128
_MOST = 8
"""Rows that are tried."""
_LARGEST_SHIFT = 22
"""``128 * 2**shift`` and a half step more stay within int32."""


@dataclass(frozen=True)
class Padded:
    """A network whose classifier has more rows."""

    view: Network
    tail: Tail
    parameters: Mapping[str, Parameters]
    fake: Mapping[str, Parameters]


def head(view: Network) -> Layer | None:
    """The linear layer whose outputs, one a class, the graph returns, as they are or moved; None without one."""
    if len(view.model.graph.outputs) != 1:
        return None
    result = view.model.graph.outputs[0]
    source = view.source(result)
    layer = next((layer for layer in view.layers if layer.output is source), None)
    if layer is None or layer.operator.weight(layer.node) is None or graph.attribute(layer.node, "group", 1) != 1 \
            or math.prod(graph.sample_shape(source)[1:]) != 1 \
            or any(len(operator(node).codes(node)) > 1 for node in _between(layer, result)):
        return None
    return layer


def own_rows(view: Network, own: int | None) -> dict[str, int]:
    """Of tensors with padded rows and of their codes, how many are the network's own, which come first.

    Args:
        view: the network.
        own: how many the classifier has of its own; None where none were added.
    """
    layer = head(view)
    if layer is None or own is None:
        return {}
    result = view.model.graph.outputs[0]
    whole = math.prod(graph.sample_shape(result)) == graph.sample_shape(layer.output)[0]
    names = (name_of(layer.output), code_name(layer.output), *([name_of(result)] if whole else []))
    return dict.fromkeys(names, own)


def is_padded(view: Network, table: ScaleTable, own: int) -> bool:
    """Whether the rows of the classifier behind its own are what :func:`pad` makes."""
    layer = head(view)
    if layer is None:
        return False
    weight, bias = (graph.constant(v) for v in (layer.operator.weight(layer.node), layer.operator.bias(layer.node)))
    return (weight is not None and bias is not None and 0 < own < len(weight) and not weight[own:].any()
            and bool((bias[own:] == _bias(table, layer)).all()))


def cropped(values: Mapping[str, NDArray[Any]], own: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    """Batches of tensors without their padded rows, which would count as right answers."""
    return {name: array[:, :own[name]] if name in own else array for name, array in values.items()}


def missing_rows(view: Network, tail: Tail, table: ScaleTable, target: Target) -> int | str:
    """How many rows the accelerator wants in addition, at least 1; or why none are added, for a person."""
    layer = head(view)
    if layer is None:
        return "no linear layer gives the model's only output, one value a class"
    if not (obstacles := target.judge(layer)):
        return "the accelerator takes the classifier as it is"
    result = view.model.graph.outputs[0]
    between = [node.op_type for node in _between(layer, result)]
    if set(between) - {"Flatten"}:
        return f"{' and '.join(between)} stand behind the classifier; return its outputs as they are"
    if tail.model is not None and name_of(result) in tail.outputs:
        return "the model returns its logits besides what is computed of them"
    shift = table.layers[layer.name].shift
    if shift > _LARGEST_SHIFT:
        return f"a bias that saturates behind a shift of {shift} leaves 32 bits"
    weight = graph.required_constant(layer.operator.weight(layer.node))
    own, *size = graph.sample_shape(layer.output)
    for more in range(1, _MOST + 1):
        with with_weight(layer, _with_zeros(weight, more), [own + more, *size]) as wider:
            if not target.judge(wider):
                return more
    return f"more outputs do not help: {'; '.join(obstacle.reason for obstacle in obstacles)}"


def pad(
    view: Network, tail: Tail, table: ScaleTable, parameters: Mapping[str, Parameters], fake: Mapping[str, Parameters],
    more: int,
) -> Padded:
    """The network with more rows (:func:`missing_rows`).

    What stands behind the classifier in float reads the network's own outputs; where nothing does, the network returns
    the extra ones too.
    """
    layer = head(view)
    assert layer is not None
    own, shift = graph.sample_shape(layer.output)[0], table.layers[layer.name].shift
    model = _with_rows(view, layer, more, _bias(table, layer))
    rest = tail if tail.model is None else _narrowed(model, tail.model, tail.outputs, own)
    code = _LEAST_CODE << shift
    return Padded(network(model), rest,
                  {**parameters, layer.name: _more(parameters[layer.name], more, code + numerics.half(shift))},
                  {**fake, layer.name: _more(fake[layer.name], more, code)})


def _bias(table: ScaleTable, layer: Layer) -> float:
    """Of an extra row: the least code at the output's scale."""
    return math.ldexp(_LEAST_CODE, table.exponent(name_of(layer.output)))


def _between(layer: Layer, result: ir.Value) -> list[ir.Node]:
    """Nodes from a layer's codes to the graph's output, which only move codes."""
    found: list[ir.Node] = []
    while result is not layer.output and (node := result.producer()) is not None:
        found.insert(0, node)
        result = operator(node).codes(node)[0]
    return found


def _with_rows(view: Network, layer: Layer, more: int, bias: float) -> ir.Model:
    """The float graph with so many rows more in its classifier."""
    model = view.model.clone()
    value = next(v for node in model.graph for v in node.outputs if v.name == layer.name)
    node = value.producer()
    assert node is not None
    weight = graph.required_constant(node.inputs[1])
    given = graph.constant(layer.operator.bias(node))
    given = np.zeros(len(weight), np.float32) if given is None else given
    for index, role, array in (
            (1, "weight", _with_zeros(weight, more)),
            (2, "bias", np.concatenate([given, np.full(more, bias, np.float32)]))):
        old = node.inputs[index] if index < len(node.inputs) else None
        if old is not None and len(old.uses()) == 1:
            graph.set_constant(old, array)
            continue
        name = f"{layer.name}.{role}" if old is None else name_of(old)
        node.resize_inputs(max(index + 1, len(node.inputs)))
        node.replace_input_with(index, graph.initializer(model.graph, name, array))
    for place in [node, *_behind(value)]:
        made = place.outputs[0]
        made.shape = ir.Shape([graph.BATCH, len(weight) + more, *graph.sample_shape(made)[1:]])
    return model


def _behind(value: ir.Value) -> list[ir.Node]:
    found: list[ir.Node] = []
    while (node := graph.sole_consumer(value)) is not None:
        found.append(node)
        value = node.outputs[0]
    return found


def _narrowed(model: ir.Model, rest: ir.Model, outputs: tuple[str, ...], own: int) -> Tail:
    """A Slice behind the body (changed), and the float tail that reads it."""
    result = model.graph.outputs[0]
    unique = Namer(graph.all_names(model.graph) | graph.all_names(rest.graph))
    name = unique(f"{name_of(result)}.own")
    cut = [graph.initializer(model.graph, unique(f"{name}.{role}"), np.array([number], np.int64))
           for role, number in (("start", 0), ("end", own), ("axis", 1))]
    narrow = ir.Value(name=name, type=result.type, shape=ir.Shape([graph.BATCH, own, *graph.sample_shape(result)[1:]]))
    model.graph.append(ir.node("Slice", [result, *cut], outputs=[narrow], name=name))
    graph.replace_graph_output(model.graph, result, narrow)
    rest = rest.clone()
    rest.graph.inputs[0].name = name
    return Tail(rest, outputs)


def _more(own: Parameters, rows: int, bias: int) -> Parameters:
    return Parameters(_with_zeros(own.weight, rows), np.concatenate([own.bias, np.full(rows, bias, np.int32)]))


def _with_zeros(weight: NDArray[Any], rows: int) -> NDArray[Any]:
    return np.concatenate([weight, np.zeros((rows, *weight.shape[1:]), weight.dtype)])
