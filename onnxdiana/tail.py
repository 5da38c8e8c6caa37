"""The float tail: what stands behind the last layer and has no quantized form, or none worth its codes.

Softmax, ArgMax, a last Sigmoid: the integer model computes them in float, behind its dequantizers, and the hand-over
graph ends before them. All stages between canonicalization and export see the body alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.expressions import table_nodes
from onnxdiana.graph import Namer, name_of
from onnxdiana.loading import OPSET
from onnxdiana.rules import ops
from onnxdiana.rules.ops.tail import TAIL

_AXES = {"ArgMax": 0, "ArgMin": 0, "Concat": 0, "Gather": 0, "GatherElements": 0, "Hardmax": -1, "LogSoftmax": -1,
         "LpNormalization": -1, "Softmax": -1, "Split": 0, "TopK": -1}
"""ONNX's default of the axis along which an operator works."""


def tail_nodes(g: ir.Graph, formed: Collection[ir.Node] = ()) -> set[ir.Node]:
    """The nodes of the tail: everything behind an operator without a quantized form, where all of it may be float.

    Functions of one tensor that only the tail reads, or nothing, are of it too: a table of codes there would only round
    once more.

    Args:
        g: the float graph.
        formed: nodes that a rule is about to give a quantized form.
    """
    nodes, tables = list(g), table_nodes(g)
    possible = _possible(nodes, tables)
    own = {node for node in possible if node not in tables and node not in formed and _is_float(node)}
    behind = _behind(nodes, possible, own)
    ends: set[ir.Node] = set()
    for node in reversed(nodes):
        if node in possible and (node in tables or _moves(node)) and graph.readers(node) <= ends | behind:
            ends.add(node)
    return _behind(nodes, possible, own | (ends & tables))


def _possible(nodes: list[ir.Node], tables: set[ir.Node]) -> set[ir.Node]:
    """Nodes that may be float, with all behind them: none that reads a graph input, nor a function of one."""
    of_input = {node for node in nodes if any(v.is_graph_input() for v in graph.activations(node))}
    for node in nodes:
        makers = [v.producer() for v in graph.activations(node)]
        if node in tables and any(maker in of_input and maker in tables for maker in makers):
            of_input.add(node)
    possible: set[ir.Node] = set()
    for node in reversed(nodes):
        known = node.op_type in TAIL and graph.is_default_domain(node.domain) and node not in of_input
        if known and not _mixes_samples(node) and graph.readers(node) <= possible:
            possible.add(node)
    return possible


def _behind(nodes: list[ir.Node], possible: set[ir.Node], starts: set[ir.Node]) -> set[ir.Node]:
    """Some possible nodes, and what possible ones compute of their values."""
    found: set[ir.Node] = set()
    for node in nodes:
        if node in starts or (node in possible and any(v.producer() in found for v in graph.activations(node))):
            found.add(node)
    return found


def _mixes_samples(node: ir.Node) -> bool:
    """Whether it works along the first axis, which keeps samples, or moves codes in a way that no code can be moved."""
    shape = graph.dims(node.inputs[0])
    if not shape or graph.constant(node.inputs[0]) is not None:
        return False
    if node.op_type.startswith("Reduce"):
        axes = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is None or axes.size == 0:
            return not graph.attribute(node, "noop_with_empty_axes", 0)
        return any(axis % len(shape) == 0 for axis in axes.reshape(-1).tolist())
    op = ops.float_operator(node)
    if op is not None and _moves(node) and len(op.codes(node)) == 1 and _is_float(node):
        return True  # that is what keeps codes from being moved so
    axis = graph.attribute(node, "axis", _AXES.get(node.op_type, 1))
    return node.op_type in _AXES and axis % len(shape) == 0


def _moves(node: ir.Node) -> bool:
    op = ops.float_operator(node)
    return op is not None and not op.requantizes and op.bounds(node) is None


def _is_float(node: ir.Node) -> bool:
    """Whether a node has no quantized form."""
    op = ops.float_operator(node)
    return op is None or any(True for _ in op.obstacles(node))


@dataclass(frozen=True)
class Tail:
    """What stays in float behind the body."""

    model: ir.Model | None
    """From outputs of the body to those of the whole model that are computed of them; None where nothing is left."""
    outputs: tuple[str, ...]
    """Names of the whole model's outputs, in order."""

    @property
    def operators(self) -> list[str]:
        """Operator types, in execution order."""
        return [] if self.model is None else [node.op_type for node in self.model.graph]

    def opset(self, least: int) -> int:
        """The oldest opset, from ``least`` on, that has every operator as it stands."""
        nodes = [] if self.model is None else list(self.model.graph)
        return max([least, *(onnx.defs.get_schema(node.op_type, OPSET).since_version for node in nodes)])

    def behind(self, body: ir.Model) -> ir.Model:
        """A spelling of the body with the tail behind it.

        Args:
            body: returns what the tail reads, under the names that the tail knows; not changed.
        """
        if self.model is None:
            return body
        body = body.clone()
        unique, taken = Namer(graph.all_names(body.graph) | graph.all_names(self.model.graph)), _values(body)
        for name in (name_of(v) for node in self.model.graph for v in node.outputs if v.name in taken):
            taken[name].name = unique(name)  # one that the spelling made up
        body.graph.outputs.clear()
        _append(body, list(self.model.graph))
        values = _values(body)
        body.graph.outputs.extend(values[name] for name in self.outputs)
        return body


def split(model: ir.Model) -> tuple[ir.Model, Tail]:
    """A canonical graph as body and tail.

    Returns:
        The body, whose outputs are what the tail reads and what the model returns of it: a new model, but for one that
        is all body; the tail.
    """
    found, returned = tail_nodes(model.graph), tuple(name_of(v) for v in model.graph.outputs)
    if not found:
        return model, Tail(None, returned)
    names = {name_of(v) for node in found for v in node.outputs if v.name}
    read = [name_of(v) for node in model.graph if node in found for v in graph.activations(node)]
    borders = list(dict.fromkeys(name for name in (*returned, *read) if name not in names))
    body = model.clone()
    values = _values(body)
    body.graph.outputs.clear()
    body.graph.outputs.extend(values[name] for name in borders)
    graph.remove_unused(body.graph)
    rest = graph.new_model([graph.input_like(values[name]) for name in borders], {"": OPSET},
                           model.graph.name or "model", model.ir_version)
    _append(rest, [node for node in model.graph if node in found], graph.all_names(body.graph))
    made = _values(rest)
    rest.graph.outputs.extend(made[name] for name in returned if name in names)
    return body, Tail(rest, returned)


def _values(model: ir.Model) -> dict[str, ir.Value]:
    g = model.graph
    return {name_of(v): v for v in (*g.inputs, *g.initializers.values(), *(v for node in g for v in node.outputs))
            if v.name}


def _append(model: ir.Model, nodes: list[ir.Node], taken: Collection[str] = ()) -> None:
    """Copies of some nodes of another model, in order; constants come along, other inputs are found by name.

    Args:
        model, nodes: to append to, and what.
        taken: names that no constant may have: with a body's, both can be read back as one model and split again.
    """
    values, constants = _values(model), dict[ir.Value, ir.Value]()
    made = {name_of(v) for node in nodes for v in node.outputs if v.name}
    unique = Namer(graph.all_names(model.graph).union(made, taken))
    for node in nodes:
        feed: list[ir.Value | None] = []
        for value in node.inputs:
            array = graph.constant(value)
            if value is None or array is None:
                feed.append(None if value is None else values[name_of(value)])
                continue
            if value not in constants:
                constants[value] = graph.initializer(model.graph, unique(name_of(value)), array)
            feed.append(constants[value])
        outputs = [ir.Value(name=v.name, type=v.type, shape=v.shape) for v in node.outputs]
        values |= {name_of(v): v for v in outputs if v.name}
        model.graph.append(ir.node(node.op_type, feed, dict(node.attributes), outputs=outputs, name=node.name))
