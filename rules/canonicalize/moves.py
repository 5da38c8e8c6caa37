"""Edits of a graph that put a node in front of a move, or a move behind a tensor; names and outputs stay right."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import Array
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.layout import Move, Passed, Permutation


class Editor(Edits):
    """The edits of rules that move axes."""

    def insert(self, source: ir.Value, move: Move, name: str = "") -> ir.Node:
        """A move directly behind the tensor that it reads, called ``<source>.<role>`` where no name is given."""
        name = name or self.unique(f"{source.name}.{role(move)}")
        result = ir.Value(name=name, shape=ir.Shape(move.after), type=source.type)
        if isinstance(move, Permutation):
            node = ir.node("Transpose", [source], {"perm": list(move.perm)}, outputs=[result], name=name)
        elif len(move.after) == 2:
            node = ir.node("Flatten", [source], {"axis": 1}, outputs=[result], name=name)
        else:
            node = ir.node("Reshape", [source, self.target(name, move.after)], outputs=[result], name=name)
        producer = source.producer()
        if producer is not None:
            self.graph.insert_after(producer, node)
        else:
            self.graph.insert_before(next(iter(self.graph)), node)
        return node

    def reform(self, node: ir.Node, form: Passed) -> None:
        """Give a node that reads the sources already its new constants and attributes."""
        for place, array in form.inputs.items():
            self.set_input(node, place, None if array is None else np.asarray(array))
        for name, value in form.attributes.items():
            node.attributes[name] = (ir.AttrInt64s(name, value) if isinstance(value, list)
                                     else ir.AttrInt64(name, value))

    def set_input(self, node: ir.Node, place: int, array: Array | None) -> None:
        """Another constant for an operand, under its old name where nothing else reads that."""
        if place >= len(node.inputs):
            if array is None:
                return
            node.resize_inputs(place + 1)
        old = node.inputs[place]
        if array is not None and old is not None and graph.sole_consumer(old) is node:
            graph.set_constant(old, array)
            return
        name = f"{node.outputs[0].name}.axes" if old is None else graph.name_of(old)
        node.replace_input_with(place, None if array is None else self.constant(name, array))

    def move_behind(self, value: ir.Value, move: Move) -> ir.Node:
        """All readers of a tensor, the graph too, get a move of it; its own shape is the move's source from now on."""
        name, producer = graph.name_of(value), value.producer()
        assert producer is not None
        moved = ""
        if value.is_graph_output():
            value.name, moved = self.unique(f"{name}.{producer.op_type.lower()}"), name
            if producer.name == name:
                producer.name = value.name
        value.shape = ir.Shape(move.before)
        later = ir.Value(name=None)
        value.replace_all_uses_with(later, replace_graph_outputs=True)
        node = self.insert(value, move, moved)
        later.replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)
        return node


def role(move: Move) -> str:
    """What a tensor that a move makes is called."""
    return "transposed" if isinstance(move, Permutation) else "reshaped"
