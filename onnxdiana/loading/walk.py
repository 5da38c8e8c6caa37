"""Walks over a protobuf model, and how messages name what is found there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """The graphs that a control-flow node carries in its attributes."""
    return [graph for a in node.attribute for graph in ([a.g] if a.HasField("g") else []) + list(a.graphs)]


def bodies(proto: ModelProto) -> Iterator[GraphProto | FunctionProto]:
    """The graph, the functions, and every graph nested in their nodes."""
    stack: list[GraphProto | FunctionProto] = [*proto.functions, proto.graph]
    while stack:
        body = stack.pop()
        yield body
        stack.extend(graph for node in body.node for graph in subgraphs(node))


def where(node: NodeProto) -> str:
    """How a message points at a node: operator type and first output."""
    output = next((name for name in node.output if name), node.name)
    return f"{node.domain}::{node.op_type} -> '{output}'" if node.domain else f"{node.op_type} -> '{output}'"


def type_name(elem_type: int) -> str:
    """ONNX's name of an element type, in lower case."""
    return next((name.lower() for name, value in TensorProto.DataType.items() if value == elem_type),
                f"of the unknown type {elem_type}")


def gist(error: BaseException) -> str:
    """A library's message on one short line, without source positions; of a chain of errors the first one's."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).replace("==> Context:", "-").split())
    text = re.sub(r"^\S+:\d+: \S+: Assertion `.*?` failed: ", "", text)
    return text if len(text) <= 300 else f"{text[:297]}..."
