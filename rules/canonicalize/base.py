"""What a canonicalization is, and the guards that every pattern needs."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter import pattern

from onnxdiana import graph

Array = NDArray[Any]
CANONICAL_GEMM = (1.0, 1.0, 0, 1)
"""alpha, beta, transA and transB of ``x @ w.T + b``."""


class Rule(Protocol):
    """One spelling brought into the canonical one, float outputs unchanged."""

    name: str

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place wherever it fits; the number of places."""


class PatternRule(abc.ABC):
    """A rule on onnxscript's pattern engine.

    The helpers keep what the engine would lose: node names, output names, the uniqueness of initializers, and weights
    that a second layer shares.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._unique = graph.Namer(())

    @abc.abstractmethod
    def pattern(self, op: Any, *args: Any, **kwargs: Any) -> Any:
        """The nodes to look at; the last output is named ``out``."""

    @abc.abstractmethod
    def check(self, op: Any, *args: Any, **kwargs: Any) -> bool:
        """Whether a match is rewritten: decided here, since a node built before declining would stay a user."""

    @abc.abstractmethod
    def rewrite(self, op: Any, *args: Any, **kwargs: Any) -> ir.Value:
        """The replacement of ``out``."""

    def patterns(self) -> Sequence[Callable[..., Any]]:
        """Every spelling that ``check`` and ``rewrite`` handle."""
        return [self.pattern]

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place wherever a pattern fits."""
        self._unique = graph.Namer(graph.all_names(model.graph))
        rules = [pattern.RewriteRule(p, self.rewrite, self.check, name=self.name) for p in self.patterns()]
        return pattern.RewriteRuleSet(rules).apply_to_model(model)

    def unique(self, name: str) -> str:
        """A name derived from the given one that nothing in the graph carries."""
        return self._unique(name)

    @staticmethod
    def node(value: ir.Value) -> ir.Node:
        """The matched node behind a named pattern output."""
        producer = value.producer()
        assert producer is not None
        return producer

    @staticmethod
    def build(op: Any, op_type: str, inputs: Sequence[ir.Value | None], like: ir.Value, **attributes: Any) -> ir.Value:
        """A node that takes the place, the names included, of the one that made ``like``."""
        producer = like.producer()
        value: ir.Value = op.op(op_type, *inputs, _outputs=[like.name],
                                _name=None if producer is None else producer.name, **attributes)
        return value

    def constant(self, near: ir.Value, name: str, array: Array) -> ir.Value:
        """A new initializer in the graph of ``near``, under a name that nothing else carries."""
        producer = near.producer()
        assert producer is not None
        assert isinstance(producer.graph, ir.Graph)
        return graph.initializer(producer.graph, self.unique(name), array)

    def target(self, near: ir.Value, name: str, sizes: Sequence[int]) -> ir.Value:
        """The canonical target of a Reshape to these sizes behind the batch, in the graph of ``near``."""
        return self.constant(near, f"{name}.shape", np.array([0, *sizes], dtype=np.int64))

    def changed(self, near: ir.Value, old: ir.Value, array: Array) -> ir.Value:
        """``old`` with other values: under its own name where nothing else reads it, else as a new initializer."""
        array = array.astype(np.float32)
        if graph.sole_consumer(old) is not None:
            graph.set_constant(old, array)
            return old
        return self.constant(near, graph.name_of(old), array)


def optional_bias(node: ir.Node) -> ir.Value | None:
    """Third input of a Conv or Gemm; an explicitly empty one counts as absent."""
    return node.inputs[2] if len(node.inputs) > 2 else None


def is_constant(*values: ir.Value | None) -> bool:
    """Whether all of them are initializers (and none a graph input, which a caller could override)."""
    return all(v is not None and graph.constant(v) is not None and not v.is_graph_input() for v in values)


def is_operator(node: ir.Node | None, *op_types: str) -> bool:
    """Whether this is a node of ONNX's own domain and of one of these types."""
    return node is not None and graph.is_default_domain(node.domain) and node.op_type in op_types


def gemm_form(node: ir.Node) -> tuple[float, float, int, int]:
    """alpha, beta, transA and transB of a Gemm."""
    return (graph.attribute(node, "alpha", 1.0), graph.attribute(node, "beta", 1.0),
            graph.attribute(node, "transA", 0), graph.attribute(node, "transB", 0))


def layer_in_front(node: ir.Node, value: ir.Value | None) -> ir.Node | None:
    """The Conv or canonical Gemm with constant weights that makes an input of ``node`` which nothing else reads."""
    if value is None or graph.sole_consumer(value) is not node:
        return None
    layer = value.producer()
    if layer is None or not is_operator(layer, "Conv", "Gemm") or not is_constant(layer.inputs[1]):
        return None
    bias = optional_bias(layer)
    if bias is not None and not is_constant(bias):
        return None
    if layer.op_type == "Gemm":
        outputs = graph.required_constant(layer.inputs[1]).shape[0]
        flat = bias is None or graph.required_constant(bias).shape == (outputs,)
        return layer if flat and gemm_form(layer) == CANONICAL_GEMM else None
    return layer
