"""Edits of a graph by the rules that are plain loops: a node becomes another one, or gets new ones in front of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import Array


class Edits:
    """The edits, and the names that are taken."""

    def __init__(self, model_graph: ir.Graph) -> None:
        self.graph = model_graph
        self._unique: graph.Namer | None = None

    def unique(self, name: str) -> str:
        """A name derived from the given one that nothing in the graph carries."""
        if self._unique is None:  # most rules find nothing to do in most graphs
            self._unique = graph.Namer(graph.all_names(self.graph))
        return self._unique(name)

    def constant(self, name: str, array: Array) -> ir.Value:
        """A new initializer."""
        return graph.initializer(self.graph, self.unique(name), array)

    def set_constant(self, node: ir.Node, place: int, name: str, array: Array) -> None:
        """Other values for a constant operand, under its old name where nothing else reads that.

        Args:
            name: of the operand, where there is none yet.
        """
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if place >= len(node.inputs):
            node.resize_inputs(place + 1)
        old = node.inputs[place]
        if old is not None and graph.sole_consumer(old) is node:
            graph.set_constant(old, array)
            return
        node.replace_input_with(place, self.constant(name if old is None else graph.name_of(old), array))

    @staticmethod
    def become(node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> None:
        """The same outputs, computed otherwise."""
        node.op_type, node.domain, node.overload = op_type, "", ""
        node.attributes.clear()
        for name, value in attributes.items():
            node.attributes[name] = ir.convenience.convert_attribute(name, value)
        node.resize_inputs(len(inputs))
        for place, value in enumerate(inputs):
            node.replace_input_with(place, value)

    def target(self, name: str, after: Sequence[int]) -> ir.Value:
        """The canonical target of a Reshape that is called so, to a shape with the batch in front."""
        return self.constant(f"{name}.shape", np.array([0, *after[1:]], np.int64))

    def become_reshape(self, node: ir.Node, source: ir.Value | None, after: Sequence[int]) -> None:
        """A Flatten or Reshape of ``source`` to this shape, the batch included, whatever the node was."""
        node.outputs[0].shape = ir.Shape(after)
        if len(after) == 2:
            self.become(node, "Flatten", [source], axis=1)
        else:
            self.become(node, "Reshape", [source, self.target(graph.name_of(node.outputs[0]), after)])

    def bypass(self, node: ir.Node, source: ir.Value) -> bool:
        """Readers of a node that changes nothing read its source; whether an interface's name allows it."""
        result = node.outputs[0]
        if result.is_graph_output():
            if source.is_graph_input() or source.is_graph_output() or graph.constant(source) is not None:
                return False  # the name of an interface cannot be given away
            name, result.name = result.name, None
            source.name = name
        result.replace_all_uses_with(source, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)
        return True

    def in_front(self, node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], role: str,
                 shape: Sequence[int | None] | None, **attributes: Any) -> ir.Value:
        """A new node in front of another one, called ``<its output>.<role>``; its output, of the same type."""
        result = node.outputs[0]
        name = self.unique(f"{result.name}.{role}")
        value = ir.Value(name=name, type=result.type, shape=None if shape is None else ir.Shape(shape))
        self.graph.insert_before(node, ir.node(op_type, inputs, attributes, outputs=[value], name=name))
        return value

    def pad(self, node: ir.Node, pads: Sequence[int], shape: Sequence[int]) -> ir.Value:
        """Zeros around a node's first input: begins, then ends, of all axes; the padded tensor, of this shape."""
        given = self.constant(f"{node.outputs[0].name}.pads", np.array(pads, np.int64))
        return self.in_front(node, "Pad", [node.inputs[0], given], "padded", shape)

    def cut(self, name: str, columns: Sequence[tuple[int, int, int, int]]) -> list[ir.Value]:
        """The constants of a Slice, for (axis, start, end, step) of some axes; steps where one is not 1."""
        axes, starts, ends, steps = (np.array(column, np.int64) for column in zip(*columns, strict=True))
        given = {"starts": starts, "ends": ends, "axes": axes}
        if (steps != 1).any():
            given["steps"] = steps
        return [self.constant(f"{name}.{role}", column) for role, column in given.items()]

    def give_way(self, node: ir.Node, source: ir.Value) -> None:
        """Whatever reads the node reads ``source``, made for it alone, which takes over its name."""
        result, producer = node.outputs[0], source.producer()
        assert producer is not None
        name = result.name
        result.replace_all_uses_with(source, replace_graph_outputs=True)
        producer.name = node.name
        self.graph.remove(node, safe=True)
        result.name, source.name = None, name
