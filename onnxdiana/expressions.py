"""Functions of one tensor: which nodes together are one, to be looked up in a table of all codes.

``x * sigmoid(x)``, ``x * clip(x + 3, 0, 6) / 6`` or a lone LeakyRelu are functions of every element by itself. With
int8 codes such a function has 256 values, so all its nodes become one table, rounded once. Between the tensor that the
expression starts from and the node that gives its value, no tensor has codes of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph
from onnxdiana.rules import ops

CODES = np.arange(-128, 128)
"""Every code a table has an entry for, in order."""


@dataclass(frozen=True)
class Expression:
    """A function of one tensor, element by element, perhaps another one for every channel."""

    root: ir.Value
    """The tensor that it is a function of."""
    nodes: tuple[ir.Node, ...]
    """In execution order; the last one gives the value."""

    @property
    def operators(self) -> str:
        """What it is made of, for people."""
        return " ".join(node.op_type for node in self.nodes)

    def real(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The function's values for real ones of the root: (n,) to (1 or C, n)."""
        rank = len(self.root.shape or ())
        values = {self.root: x.reshape(-1, *(1,) * (rank - 1))}
        for node in self.nodes:
            feed = [None if v is None else values[v] if v in values else graph.required_constant(v).astype(np.float64)
                    for v in node.inputs]
            with np.errstate(all="ignore"):  # codes that never occur may lie outside the function's domain
                values[node.outputs[0]] = ops.operator(node).real(node, feed)
        result = values[self.nodes[-1].outputs[0]].reshape(len(x), -1).T
        return np.where(np.isnan(result), 0.0, result)

    def table(self, exponent: int, result: int, codes: tuple[int, int]) -> NDArray[np.int32]:
        """Output codes for all input codes, in the order of :data:`CODES`: (1 or C, 256).

        Args:
            exponent: of the root.
            result: of the output.
            codes: range of the output's codes.
        """
        with np.errstate(over="ignore"):  # an infinite quotient is clipped
            values = np.ldexp(self.real(np.ldexp(CODES.astype(np.float64), exponent)), -result)
        return np.asarray(np.rint(np.clip(values, *codes)), np.int32)


def tables(g: ir.Graph) -> Mapping[ir.Node, Expression]:
    """The expressions of a graph that become tables, by the node that gives their value."""
    found = _expressions(g)
    if not any(f.table for f in found.values()):
        return {}
    position = {node: index for index, node in enumerate(g)}
    return {node: Expression(f.root, _members(node, found, position)) for node, f in found.items()
            if f.table and not _absorbed(node, found)}


def table_nodes(g: ir.Graph) -> set[ir.Node]:
    """Every node that belongs to an expression of :func:`tables`, and to nothing else."""
    found = _expressions(g)
    inside: set[ir.Node] = set()
    for node in reversed(list(g)):
        if node in found and (found[node].table or (_absorbed(node, found) and graph.readers(node) <= inside)):
            inside.add(node)
    return inside


@dataclass(frozen=True)
class _Found:
    root: ir.Value
    table: bool
    """Whether it is more than factors, offsets and bounds, which layers and requantizers take."""


def _expressions(g: ir.Graph) -> dict[ir.Node, _Found]:
    """Of every node that is a function of one tensor, that tensor."""
    found: dict[ir.Node, _Found] = {}
    for node in g:
        op = ops.find(node)
        if op is None or not op.pointwise(node):
            continue
        active = list(graph.activations(node))
        inner = [found.get(p) if (p := v.producer()) is not None else None for v in active]
        roots = {v if f is None else f.root for v, f in zip(active, inner, strict=True)}
        table = op.tabulated(node) or any(f is not None and f.table for f in inner)
        if len(roots) != 1 or (op.bounds(node) is not None and inner == [None]):
            continue  # of several tensors, or a bound on codes
        if len(active) > 1 and not table:
            continue  # a sum of a tensor with itself is an Add
        root = roots.pop()
        shape = graph.dims(node.outputs[0])
        if shape and graph.dims(root) == shape and _per_channel(node, len(shape)):
            found[node] = _Found(root, table)
    return found


def _per_channel(node: ir.Node, rank: int) -> bool:
    """Whether every constant is a scalar or lies along axis 1 (PRelu's slope, too, broadcasts to its input)."""
    for array in (graph.constant(v) for v in node.inputs):
        if array is not None and array.size > 1:
            shape = (1,) * (rank - array.ndim) + array.shape
            if len(shape) != rank or any(d != 1 for axis, d in enumerate(shape) if axis != 1):
                return False
    return True


def _absorbed(node: ir.Node, found: Mapping[ir.Node, _Found]) -> bool:
    """Whether nothing but tables with the same root read a node."""
    readers = graph.readers(node)
    return not node.outputs[0].is_graph_output() and bool(readers) and all(reader in found for reader in readers)


def _members(top: ir.Node, found: Mapping[ir.Node, _Found], position: Mapping[ir.Node, int]) -> tuple[ir.Node, ...]:
    """The nodes between an expression's root and its value, in execution order."""
    members, stack = {top}, [top]
    while stack:
        for value in graph.activations(stack.pop()):
            producer = value.producer()
            if producer is None or producer not in found or value is found[top].root:
                continue
            if producer not in members:
                members.add(producer)
                stack.append(producer)
    return tuple(sorted(members, key=position.__getitem__))
