"""The loop that every spelling shares: each node of the integer graph writes itself through an emitter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import onnx_ir as ir

from onnxdiana.graph import Emitter, name_of
from onnxdiana.rules.ops import Operator, operator

T = TypeVar("T")
Emit = Callable[[ir.Node, Sequence[Any], str, Emitter[Any]], Any]


def interface_names(integer: ir.Model) -> set[str]:
    """Names that a spelling must keep: every tensor of the integer graph, codes and outputs."""
    return {name_of(v) for node in integer.graph for v in node.outputs}


def lower(
    integer: ir.Model, inputs: Mapping[ir.Value, T], emitter: Emitter[T], choose: Callable[[Operator], Emit]
) -> dict[ir.Value, T]:
    """Write every node.

    Args:
        integer: the integer graph.
        inputs: the graph inputs in the spelling's terms.
        emitter: what the nodes write to.
        choose: which of an operator's forms to write.

    Returns:
        Every tensor of the integer graph in the spelling's terms.
    """
    values = dict(inputs)
    for node in integer.graph:
        op = operator(node)
        feed = [values[v] for v in op.codes(node)]
        emitter.begin(name_of(node.outputs[0]))
        values[node.outputs[0]] = choose(op)(node, feed, name_of(node.outputs[0]), emitter)
    return values
