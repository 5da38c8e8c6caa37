"""Questions about an onnx_ir graph, and the few edits that every stage shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

BATCH = "batch"
"""Name of the symbolic first axis where the original model gives none."""


def is_default_domain(domain: str) -> bool:
    """Whether a node's domain is ONNX's own."""
    return domain in ("", "ai.onnx")


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The array behind an initializer, or None for a missing or computed value."""
    if value is None or value.const_value is None or value.producer() is not None:
        return None
    return value.const_value.numpy()


def required_constant(value: ir.Value | None) -> NDArray[Any]:
    """The array behind an initializer that a contract promises."""
    array = constant(value)
    assert array is not None, f"{value} is not an initializer"
    return array


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """A plain Python value of an attribute (int, float, str, list), or the default where it is absent."""
    attr = node.attributes.get(name)
    if attr is None or attr.value is None:
        return default
    value = attr.value
    return list(value) if isinstance(value, tuple | list) else value


def attributes(node: ir.Node) -> dict[str, Any]:
    """All attributes of a node as plain Python values."""
    return {name: attribute(node, name) for name in node.attributes}


def dims(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """The shape of a value with None for symbolic axes, or None where even the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def sample_shape(value: ir.Value) -> tuple[int, ...]:
    """The static shape of one sample: every axis but the first."""
    shape = dims(value)
    assert shape is not None, f"{value.name} has no shape"
    assert None not in shape[1:], f"{value.name} has no static sample shape"
    return tuple(d for d in shape[1:] if d is not None)


def name_of(value: ir.Value) -> str:
    """The name of a value in a graph that names everything."""
    assert value.name is not None
    return value.name


def where(node: ir.Node) -> str:
    """How an error message points at a node: operator type and output tensor."""
    output = node.outputs[0].name if node.outputs else node.name
    domain = "" if is_default_domain(node.domain) else f"{node.domain}::"
    return f"{domain}{node.op_type} -> '{output}'"


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value, or None where several do or the graph returns it."""
    if value.is_graph_output():
        return None
    uses = value.uses()
    return next(iter(uses)).node if len(uses) == 1 else None


def readers(node: ir.Node) -> set[ir.Node]:
    """The nodes that read any output of a node."""
    return {use.node for value in node.outputs for use in value.uses()}


def all_names(graph: ir.Graph) -> set[str]:
    """Every value name in a graph."""
    names = {v.name for v in graph.inputs} | set(graph.initializers)
    names.update(v.name for node in graph for v in node.outputs)
    return {n for n in names if n}


class Namer:
    """Hands out names that are not taken: ``<tensor>.<role>``, then ``<tensor>.<role>_2`` and so on."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def __call__(self, name: str) -> str:
        """A name derived from the given one that nothing else carries, now taken."""
        candidate, number = name, 1
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate


def initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Register a new initializer under a name derived from the wanted one that nothing else carries."""
    taken = graph.initializers
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    array = np.asarray(array, order="C")
    value = ir.Value(
        name=candidate,
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        shape=ir.Shape(array.shape),
        const_value=ir.Tensor(array, name=candidate),
    )
    graph.register_initializer(value)
    return value


def set_constant(value: ir.Value, array: NDArray[Any]) -> None:
    """Give an initializer another array of the same type, under the same name."""
    value.const_value = ir.Tensor(np.asarray(array, order="C"), name=value.name)
    value.shape = ir.Shape(array.shape)


def replace_graph_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Return another value where the graph returned this one."""
    for index, value in enumerate(graph.outputs):
        if value is old:
            graph.outputs[index] = new


def remove_unused(graph: ir.Graph) -> None:
    """Drop nodes and initializers that nothing reads."""
    for node in reversed(list(graph)):
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            graph.remove(node, safe=True)
    for name in [n for n, v in graph.initializers.items() if not v.uses() and not v.is_graph_output()]:
        del graph.initializers[name]


def order_initializers(graph: ir.Graph) -> None:
    """Initializers in the order in which nodes read them, so that they do not tell how a graph came about."""
    used = dict.fromkeys(v for node in graph for v in node.inputs if v is not None and v.name in graph.initializers)
    ordered = [*used, *(v for v in graph.initializers.values() if v not in used)]
    graph.initializers.clear()
    for value in ordered:
        graph.register_initializer(value)


def activations(node: ir.Node) -> Iterator[ir.Value]:
    """The inputs of a node that are computed from the graph's inputs."""
    for value in node.inputs:
        if value is not None and constant(value) is None:
            yield value


T = TypeVar("T")


class Emitter(Protocol[T]):
    """What an operator writes its lowered form to; each spelling of the integer model has one."""

    def begin(self, output: str) -> None:
        """The next nodes are those of the tensor called ``output``; no other tensor's name is theirs to take."""

    def constant(self, name: str, array: NDArray[Any]) -> T:
        """Add an initializer; the name is made unique."""

    def add(self, op_type: str, inputs: Sequence[T], output: str, **attrs: Any) -> T:
        """Add a node of ONNX's own domain and return its only output; the name is made unique."""


class EmitterNames:
    """How emitters name things: tensors that must keep their names get them, everything else gets a free one."""

    def __init__(self, taken: Iterable[str], reserved: Iterable[str]) -> None:
        """Args: taken: names in use; reserved: names that are given once, to nodes, as they are."""
        self._reserved = set(reserved)
        self._unique = Namer({*taken, *self._reserved})
        self._current: str | None = None

    def begin(self, output: str) -> None:
        """The next nodes are those of the tensor called ``output``; no other tensor's name is theirs to take."""
        self._current = output

    def _name(self, name: str) -> str:
        if name in self._reserved and self._current in (None, name):
            self._reserved.discard(name)
            return name
        return self._unique(name)


class IrEmitter(EmitterNames):
    """An :class:`Emitter` that appends to an onnx_ir graph."""

    def __init__(self, graph: ir.Graph, reserved: Iterable[str] = (), domain: str = "") -> None:
        """Args: graph: to append to; reserved: names to be given as they are; domain: of the nodes."""
        super().__init__(all_names(graph), reserved)
        self.graph = graph
        self.domain = domain

    def constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        """Add an initializer; the name is made unique."""
        return initializer(self.graph, self._unique(name), array)

    def add(self, op_type: str, inputs: Sequence[ir.Value | None], output: str, **attrs: Any) -> ir.Value:
        """Add a node and return its only output; a reserved name is given once as it is, others are made unique."""
        name = self._name(output)
        value = ir.Value(name=name)
        node = ir.node(
            op_type, inputs, {k: v for k, v in attrs.items() if v is not None},
            domain=self.domain, outputs=[value], name=name,
        )
        self.graph.append(node)
        return value


def new_model(inputs: Sequence[ir.Value], opsets: dict[str, int], name: str, ir_version: int) -> ir.Model:
    """An empty model of ours."""
    graph = ir.Graph(inputs, [], nodes=[], opset_imports=opsets, name=name)
    return ir.Model(graph, ir_version=ir_version, producer_name="onnxdiana")


def typed_input(name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    """A graph input."""
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def input_like(value: ir.Value) -> ir.Value:
    """A float graph input with the name and shape of another graph's."""
    return ir.Value(name=value.name, type=ir.TensorType(ir.DataType.FLOAT), shape=value.shape)
