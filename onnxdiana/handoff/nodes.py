"""An ONNX graph as the checker reads it: nodes, constants, shapes, producers and readers; nothing is trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnxdiana.handoff.shapes import infer


@dataclass(frozen=True, eq=False)
class Node:
    """One node; compared by identity."""

    index: int
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    """Names; an absent optional input is the empty name."""
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def output(self) -> str:
        """The first one."""
        return self.outputs[0] if self.outputs else ""

    @property
    def where(self) -> str:
        """How a finding names it."""
        return f"{self.op_type} -> '{self.output}'"


class Graph:
    """Questions about one graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Args: model: as read from the file; not changed."""
        self.model = model
        self.nodes = tuple(
            Node(i, proto.op_type, proto.domain, tuple(proto.input), tuple(proto.output),
                 {a.name: _plain(helper.get_attribute_value(a)) for a in proto.attribute if not a.ref_attr_name})
            for i, proto in enumerate(model.graph.node))
        self.producers = {name: node for node in self.nodes for name in node.outputs}
        self.readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                self.readers.setdefault(name, []).append(node)
        self.outputs = tuple(value.name for value in model.graph.output)
        constants = {tensor.name for tensor in model.graph.initializer}
        self.inputs = tuple(value for value in model.graph.input if value.name not in constants)

    @cached_property
    def constants(self) -> dict[str, NDArray[Any]]:
        """Initializers and ``Constant`` nodes that can be read, by name."""
        found = {}
        tensors = [(tensor.name, tensor) for tensor in self.model.graph.initializer]
        tensors += [(node.output, node.attributes["value"]) for node in self.nodes
                    if node.op_type == "Constant" and isinstance(node.attributes.get("value"), onnx.TensorProto)]
        for name, tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL or min(tensor.dims, default=0) < 0:
                continue
            try:
                found[name] = numpy_helper.to_array(tensor)
            except (KeyError, TypeError, ValueError):
                continue  # a finding says so
        return found

    def constant(self, node: Node, index: int) -> NDArray[Any] | None:
        """A constant input, or None."""
        return self.constants.get(node.inputs[index]) if index < len(node.inputs) else None

    def producer(self, node: Node, index: int = 0) -> Node | None:
        """The node that makes an input, or None."""
        return self.producers.get(node.inputs[index]) if index < len(node.inputs) else None

    def sole_reader(self, name: str) -> Node | None:
        """The one node that reads a tensor, or None where several do, none does, or it is a graph output."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Static shapes of tensors, computed, and where that is impossible as the file says; others are left out."""
        return self._inferred[0]

    @property
    def unfit(self) -> tuple[Node, ...]:
        """Nodes whose inputs have shapes that do not fit the operator."""
        return self._inferred[1]

    @cached_property
    def _inferred(self) -> tuple[dict[str, tuple[int, ...]], tuple[Node, ...]]:
        declared = {}
        for value in (*self.model.graph.value_info, *self.model.graph.output, *self.inputs):
            dims = value.type.tensor_type.shape.dim
            if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
                declared[value.name] = tuple(dim.dim_value for dim in dims)
        return infer(self.nodes, self.constants, declared)


def _plain(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
