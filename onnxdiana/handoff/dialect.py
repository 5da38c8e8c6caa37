"""Errors of the nodes: what HTVM does not compile or computes otherwise (E1, E4 to E13, E15 of docs/handoff.md).

One walk in execution order. Source: the HTVM code that docs/handoff.md cites, ``onnx_transform.py`` above all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnxdiana.handoff import chains, layers, moves
from onnxdiana.handoff.findings import Finding
from onnxdiana.handoff.nodes import Graph, Node
from onnxdiana.handoff.operators import MOVES
from onnxdiana.handoff.walk import UNKNOWN, Array, Place, Value, Walk

_JUDGES: dict[str, Callable[[Walk, Node], Value]] = {
    "Conv": layers.conv, "Gemm": layers.gemm, "MatMul": layers.matmul, "Add": layers.add, "Mul": layers.mul,
    "GlobalAveragePool": chains.pool, **dict.fromkeys(chains.CLIP_RUN, chains.clip_run),
    **dict.fromkeys(MOVES, moves.move),
}


@dataclass(frozen=True)
class Verdict:
    """What the walk found."""

    findings: tuple[Finding, ...]
    requantized: tuple[str, ...]
    """Outputs of the Mins that make codes, in execution order."""
    scale: Array | None
    """Divisor of the output's dequantizer, where there is one."""
    beyond: Mapping[str, str]
    """Nodes (``Node.where``) that are legal and that the interpreter does not compute, with the reason."""


def judge(graph: Graph) -> Verdict:
    """Walk over a graph."""
    walk = Walk(graph)
    for node in graph.nodes:
        if node.index in walk.done:
            continue
        if walk.legal(node):
            walk.values[node.output] = _JUDGES[node.op_type](walk, node)
        else:
            walk.values.update((name, UNKNOWN) for name in node.outputs)
    for name in graph.outputs:
        _leave(walk, name)
    findings = [*walk.findings, *(
        Finding("E1", name, "a constant that cannot be read", "float32 or int64", "write it again")
        for name in sorted(walk.written - set(graph.constants) - walk.told))]
    return Verdict(tuple(findings), tuple(walk.requantized), walk.scale, walk.beyond)


def _leave(walk: Walk, name: str) -> None:
    value = walk.values.get(name)
    if value is None:
        walk.findings.append(Finding("E4", name, "an output that no node makes", "a tensor of the graph",
                                     "name the last Div's output"))
    elif value.place in (Place.CODES, Place.MOVED):
        walk.findings.append(Finding(
            "E11", name, f"an output of {value.place.value}", "a Div behind the last Min, for floats",
            "add Div(y, 1 / scale): the output stays declared float32, and HTVM does not compile int8 under that"))
    elif value.place not in (Place.REAL, Place.UNKNOWN):
        walk.findings.append(Finding("E11", name, f"an output of {value.place.value}", "a requantizer and a Div",
                                     "put Div(2**k), Floor, Max, Min and the output's Div in front of it"))
