"""The numpy reference: runs the integer graph in int64, the judge of every exported spelling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana.graph import name_of
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops import operator

Arrays = dict[str, NDArray[Any]]


class Walk:
    """A walk over the integer graph, node by node, forgetting what nothing reads any more.

    ``codes`` holds the live tensors by name. A walk can be split: :meth:`fork` copies it, so that two continuations
    of one beginning are computed without computing the beginning twice.
    """

    def __init__(self, integer: ir.Model, inputs: Mapping[str, NDArray[Any]], rounding: Rounding = "floor") -> None:
        """Args: integer: the graph; inputs: floats by input name; rounding: of every quantizer and division."""
        self.rounding = rounding
        self.codes: Arrays = dict(inputs)
        self._keep = {v.name for v in integer.graph.outputs}

    def evaluate(self, node: ir.Node, samples: slice | None = None) -> NDArray[Any]:
        """A node's output for the live inputs, without storing it."""
        arrays = [self.codes[name_of(v)] for v in operator(node).codes(node)]
        if samples is not None:
            arrays = [a[samples] for a in arrays]
        return operator(node).evaluate(node, arrays, self.rounding)

    def store(self, node: ir.Node, value: NDArray[Any], done: set[ir.Node]) -> None:
        """Record a node's output and drop inputs that no node outside ``done`` reads."""
        done.add(node)
        self.codes[name_of(node.outputs[0])] = value
        for source in operator(node).codes(node):
            name = name_of(source)
            if name not in self._keep and all(use.node in done for use in source.uses()):
                self.codes.pop(name, None)


def run(
    integer: ir.Model, inputs: Mapping[str, NDArray[Any]], fetch: Sequence[str] | None = None,
    rounding: Rounding = "floor",
) -> Arrays:
    """Run the integer graph.

    Args:
        integer: the graph.
        inputs: float32 samples by input name, (N, ...).
        fetch: tensors to return, codes as int8; by default the float outputs.
        rounding: ``floor`` is the chip; ``half_even`` is what the fake-quantized model does.
    """
    wanted = set(fetch if fetch is not None else [name_of(v) for v in integer.graph.outputs])
    found: Arrays = {}
    for node, value in walk(integer, inputs, rounding):
        name = name_of(node.outputs[0])
        if name in wanted:
            found[name] = value
    return found


def walk(
    integer: ir.Model, inputs: Mapping[str, NDArray[Any]], rounding: Rounding = "floor"
) -> Iterator[tuple[ir.Node, NDArray[Any]]]:
    """Every node of the integer graph with its output, in order; tensors are dropped behind their last reader."""
    state, done = Walk(integer, inputs, rounding), set[ir.Node]()
    for node in integer.graph:
        value = np.ascontiguousarray(state.evaluate(node))
        state.store(node, value, done)
        yield node, value
