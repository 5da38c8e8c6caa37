"""What HTVM's rewriters recognize in an ONNX graph: every node in exactly one match, matches in execution order.

Source: HTVM 132018d, ``soma_dory/onnx_transform.py`` (the rewriters, in their order) and ``soma_dory.py`` (the patterns
of the partitioner). Its matcher tries swapped operands for Add and Mul alone, and takes a chain only where nothing
outside reads its inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from onnx import TensorProto

from onnxdiana.handoff.constants import MOST_SHIFT, exponent
from onnxdiana.handoff.nodes import Graph, Node
from onnxdiana.handoff.operators import DOMAINS, MOVES

LAYERS = ("conv", "dense", "add", "analog conv")
"""Kinds of matches that an accelerator could take."""

_REQUANTIZER = ("Floor", "Max", "Min")
_CONVERTER = ("Div", *_REQUANTIZER, "Mul", "Add")  # the analog core's, up to its own requantizer
_HAS_CONSTANT = ("Div", "Max", "Min", "Mul", "Add")
_COMMUTES = ("Mul", "Add")


@dataclass(frozen=True, eq=False)
class Match:
    """A layer, a pattern that HTVM forms on the CPU, or a single node."""

    kind: str
    """One of :data:`LAYERS`, ``mean``, ``input quantizer``, or a single node's operator type."""
    nodes: tuple[Node, ...]
    between: tuple[Node, ...] = ()
    """Those of ``nodes`` between accumulator and requantizer, for which the accelerator has no place."""

    @property
    def first(self) -> Node:
        """Conv, Gemm, MatMul or Add of a layer."""
        return self.nodes[0]

    @property
    def last(self) -> Node:
        """The node whose output leaves it."""
        return self.nodes[-1]

    def node(self, op_type: str) -> Node | None:
        """The first of this type, or None."""
        return next((node for node in self.nodes if node.op_type == op_type), None)


def matches(graph: Graph) -> list[Match]:
    """Every node but ``Constant`` in one match, ordered by the first node of each, which needs all others finished."""
    found: list[Match] = []
    taken: set[int] = set()
    inputs = {value.name for value in graph.inputs}
    for node in graph.nodes:
        if node.index in taken or node.op_type == "Constant":
            continue
        match = _layer(graph, node) or _mean(graph, node) or _input_quantizer(graph, node, inputs)
        parts = {node.index} if match is None else {part.index for part in match.nodes}
        if match is None or len(parts) < len(match.nodes) or not taken.isdisjoint(parts):  # out of order, or in circles
            match, parts = Match(node.op_type, (node,)), {node.index}
        taken |= parts
        found.append(match)
    return found


def scalar(graph: Graph, node: Node | None, index: int = 1) -> float | None:
    """A constant input of one element, whatever its shape, or None."""
    array = None if node is None else graph.constant(node, index)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 and numeric(array) else None


def clip(graph: Graph, last: Node | None) -> tuple[float, float] | None:
    """Bounds of a Max and the Min behind it, given the Min, or None."""
    if last is None or last.op_type != "Min":
        return None
    maximum = graph.producer(last)
    lo, hi = scalar(graph, maximum), scalar(graph, last)
    return None if lo is None or hi is None or maximum is None or maximum.op_type != "Max" else (lo, hi)


def shift(graph: Graph, floor: Node) -> int | None:
    """Right shift in front of a Floor: 0 without a Div, None where the divisor is no 2**k with 0 <= k <= 31."""
    div = graph.producer(floor)
    if div is None or div.op_type != "Div":
        return 0
    divisor = scalar(graph, div)
    found = None if divisor is None else exponent(divisor)
    return found if found is not None and 0 <= found <= MOST_SHIFT else None


def weights(graph: Graph, node: Node, rank: int) -> NDArray[Any] | None:
    """The constant second input of a linear operator, None where it is no array of numbers of this rank."""
    array = graph.constant(node, 1)
    return array if array is not None and array.ndim == rank and array.size and numeric(array) else None


def integers(node: Node, name: str, default: Sequence[int]) -> tuple[int, ...] | None:
    """An attribute of as many integers as the default has, or None where it is something else."""
    value = node.attributes.get(name, default)
    if not isinstance(value, Sequence) or len(value) != len(default) or not all(isinstance(i, int) for i in value):
        return None
    return tuple(value)


def _layer(graph: Graph, node: Node) -> Match | None:
    """A linear operator or sum with its requantizer."""
    head = _linear(graph, node) or _sum(graph, node)
    if head is None:
        return None
    kind, nodes = head
    between = moved(graph, nodes[-1].output)
    nodes = (*nodes, *between)
    if kind == "conv" and (converter := _chain(graph, nodes[-1], _CONVERTER)):
        requantizer = _requantizer(graph, converter[-1])
        if requantizer:
            return Match("analog conv", (*nodes, *converter, *requantizer), between)
    requantizer = _requantizer(graph, nodes[-1])
    return Match(kind, (*nodes, *requantizer), between) if requantizer else None


def _linear(graph: Graph, node: Node) -> tuple[str, tuple[Node, ...]] | None:
    """Kind and nodes of what becomes an int32 accumulator."""
    if not _standard(node, "Conv", "Gemm", "MatMul") or not node.inputs or node.inputs[0] in graph.constants:
        return None
    if len(node.inputs) > 2 and node.inputs[2] and graph.constant(node, 2) is None:
        return None
    if node.op_type == "Conv":
        return None if weights(graph, node, 4) is None else ("conv", (node,))
    if weights(graph, node, 2) is None or len(graph.shapes.get(node.inputs[0], (1, 1))) != 2:
        return None
    if node.op_type == "Gemm" and (node.attributes.get("alpha", 1.0) != 1 or node.attributes.get("transA", 0)):
        return None
    add = None if len(node.inputs) > 2 and node.inputs[2] else _next(graph, node, "Add")
    ordered = add is not None and add.inputs[0] == node.output  # with the constant first, HTVM ends with an exception
    return "dense", (node, add) if add is not None and ordered else (node,)


def _sum(graph: Graph, node: Node) -> tuple[str, tuple[Node, ...]] | None:
    if not _standard(node, "Add") or len(node.inputs) != 2 or any(name in graph.constants for name in node.inputs):
        return None
    return "add", (node,)


def _mean(graph: Graph, node: Node) -> Match | None:
    """GlobalAveragePool, Flatten(axis=1), Floor, Max, Min."""
    if not _standard(node, "GlobalAveragePool"):
        return None
    rest = _chain(graph, node, ("Flatten", *_REQUANTIZER))
    return Match("mean", (node, *rest)) if rest and rest[0].attributes.get("axis", 1) == 1 else None


def _input_quantizer(graph: Graph, node: Node, inputs: Set[str]) -> Match | None:
    """The first operators on a float input: Div (optional), Floor, Max, Min."""
    if not node.inputs or node.inputs[0] not in inputs:
        return None
    if _standard(node, "Div") and graph.constant(node, 1) is not None:
        rest = _chain(graph, node, _REQUANTIZER)
    else:
        rest = _chain(graph, node, _REQUANTIZER[1:]) if _standard(node, "Floor") else ()
    return Match("input quantizer", (node, *rest)) if rest else None


def _requantizer(graph: Graph, node: Node) -> tuple[Node, ...]:
    return _chain(graph, node, ("Div", *_REQUANTIZER)) or _chain(graph, node, _REQUANTIZER)


def _chain(graph: Graph, node: Node, op_types: Iterable[str]) -> tuple[Node, ...]:
    """The nodes of these types that follow, each the only reader of the one in front; empty where one is missing."""
    found: list[Node] = []
    for op_type in op_types:
        follower = _next(graph, found[-1] if found else node, op_type)
        if follower is None:
            return ()
        found.append(follower)
    return tuple(found)


def _next(graph: Graph, node: Node, op_type: str) -> Node | None:
    """The only reader, if of this type and with a constant where the pattern has one."""
    reader = graph.sole_reader(node.output)
    if reader is None or not _standard(reader, op_type):
        return None
    index = reader.inputs.index(node.output)
    if op_type not in _HAS_CONSTANT:
        return reader if index == 0 else None
    fits = graph.constant(reader, 1 - index) is not None if len(reader.inputs) == 2 else False
    return reader if fits and (index == 0 or op_type in _COMMUTES) else None


def _standard(node: Node, *op_types: str) -> bool:
    return node.op_type in op_types and node.domain in DOMAINS


def moved(graph: Graph, name: str, op_types: Sequence[str] = MOVES) -> tuple[Node, ...]:
    """The chain of these operators behind a tensor, as far as each is the only reader of the one in front."""
    found: list[Node] = []
    while (node := graph.sole_reader(name)) is not None and _standard(node, *op_types) and node.inputs[0] == name \
            and len(found) < len(graph.nodes):  # a broken file may go in circles
        found.append(node)
        name = node.output
    return tuple(found)


def code_range(graph: Graph, name: str) -> tuple[float, float] | None:
    """Smallest and largest code of a tensor, by the Max and Min in front of it, zeros of a Pad apart; or None."""
    through: list[str] = []
    node = graph.producers.get(name)
    while node is not None and node.op_type in MOVES and node.inputs and len(through) < len(graph.nodes):
        through.append(node.op_type)
        name = node.inputs[0]
        node = graph.producers.get(name)
    bounds = clip(graph, node)
    if any(value.name == name and value.type.tensor_type.elem_type == TensorProto.INT8 for value in graph.inputs):
        bounds = (-128.0, 127.0)
    if bounds is None:
        return None
    return (max(bounds[0], 0.0), max(bounds[1], 0.0)) if "Relu" in through else bounds


def numeric(array: NDArray[Any]) -> bool:
    """Whether it holds numbers."""
    return array.dtype.kind in "fiu"
