"""Errors of what hands values on as they are, or reorders, pads and picks them (E1, E4, E11, E15)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxdiana.handoff.nodes import Node
from onnxdiana.handoff.walk import UNKNOWN, Place, Value, Walk


def move(walk: Walk, node: Node) -> Value:
    """Operators that hand values on."""
    for index in range(1, len(node.inputs)):
        _index(walk, node, index)
    _form(walk, node)
    if walk.is_constant(node, 0):
        walk.say("E4", node, f"the constant '{node.inputs[0]}' as input", "int8 codes", "fold the constant")
        return UNKNOWN
    value = walk.values[node.inputs[0]]
    if value.place in (Place.INPUT, Place.INSIDE):
        walk.unfit(node, value)
        return UNKNOWN
    if value.place is Place.ACCUMULATOR:
        walk.take(node, node.inputs[0])
        walk.beyond[node.where] = "an accumulator that is moved"
        return replace(value, lo=0.0) if node.op_type == "Relu" else value
    if value.place not in (Place.CODES, Place.MOVED):
        return value
    lo = value.lo
    if lo is not None:
        lo = max(lo, 0.0) if node.op_type == "Relu" else min(lo, 0.0) if node.op_type == "Pad" else lo
    return Value(Place.MOVED, lo, value.source)


def _form(walk: Walk, node: Node) -> None:
    """Attributes of operators that hand values on."""
    get = node.attributes.get
    if node.op_type == "Flatten" and get("axis", 1) != 1:
        walk.say("E4", node, f"axis {get('axis')}", "axis 1", "flatten from axis 1 on")
    if node.op_type == "MaxPool" and get("auto_pad", "NOTSET") != "NOTSET":
        walk.beyond[node.where] = "auto_pad"
    if node.op_type != "Resize":
        return
    if get("mode", "nearest") != "nearest":
        walk.say("E4", node, f"mode {get('mode')}", "nearest", "train with the nearest neighbour")
    sizes = [walk.graph.shapes.get(name, ()) for name in (node.inputs[0], node.output)]
    whole = len(sizes[0]) == len(sizes[1]) and all(
        old > 0 and new % old == 0 for old, new in zip(*sizes, strict=True))
    floor = get("coordinate_transformation_mode") == "asymmetric" and get("nearest_mode") == "floor"
    if not whole or (walk.opset != 10 and not floor):
        walk.beyond[node.where] = "the rounding of its coordinates"


def _index(walk: Walk, node: Node, index: int) -> None:
    if not node.inputs[index]:
        return
    if not walk.is_constant(node, index):
        walk.say("E4", node, f"the computed input '{node.inputs[index]}'", "a constant",
                 "write it as an initializer")
        return
    floats = (node.op_type == "Pad" and index == 2) or (node.op_type == "Resize" and index in (1, 2))
    walk.constant(node, index, np.float32 if floats else np.int64)
