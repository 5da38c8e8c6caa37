"""The operators that the interpreter computes, and the form that a node must have for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import AttributeProto, helper

from onnxdiana.handoff import interpreter_layers as layers
from onnxdiana.handoff import interpreter_moves as moves
from onnxdiana.handoff.interpreter_values import Node, Value
from onnxdiana.handoff.operators import DOMAINS

_TYPES = {int: AttributeProto.INT, float: AttributeProto.FLOAT, str: AttributeProto.STRING, list: AttributeProto.INTS}


@dataclass(frozen=True)
class Operator:
    """One of the dialect, at one opset."""

    compute: Callable[[Node], Value]
    least: int
    most: int
    attributes: Mapping[str, Any]
    """Every attribute that HTVM's importer takes, with the default, whose type is the attribute's."""


_GEOMETRY = {"auto_pad": "NOTSET", "kernel_shape": [], "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1]}
_OPERATORS = {
    "Conv": Operator(layers.conv, 2, 3, {**_GEOMETRY, "group": 1}),
    "Gemm": Operator(layers.gemm, 2, 3, {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}),
    "MatMul": Operator(layers.mat_mul, 2, 2, {}),
    "Add": Operator(layers.add, 2, 2, {}),
    "Mul": Operator(layers.mul, 2, 2, {}),
    "Div": Operator(layers.div, 2, 2, {}),
    "Floor": Operator(layers.floor, 1, 1, {}),
    "Max": Operator(layers.maximum, 2, 2, {}),
    "Min": Operator(layers.minimum, 2, 2, {}),
    "GlobalAveragePool": Operator(layers.global_average_pool, 1, 1, {}),
    "Flatten": Operator(moves.flatten, 1, 1, {"axis": 1}),
    "MaxPool": Operator(moves.max_pool, 1, 1, {**_GEOMETRY, "ceil_mode": 0, "storage_order": 0}),
    "Relu": Operator(moves.relu, 1, 1, {}),
    "Reshape": Operator(moves.reshape, 2, 2, {}),
    "Transpose": Operator(moves.transpose, 1, 1, {"perm": []}),
    "Pad": Operator(moves.pad, 2, 3, {"mode": "constant"}),
    "Slice": Operator(moves.slice_, 3, 5, {}),
    "Resize": Operator(moves.resize, 4, 4, {"mode": "nearest", "coordinate_transformation_mode": "half_pixel",
                                       "nearest_mode": "round_prefer_floor"}),
    "Concat": Operator(moves.concat, 1, sys.maxsize, {"axis": 0}),
    "Identity": Operator(moves.identity, 1, 1, {}),
}
_OPERATORS_10 = _OPERATORS | {
    "Pad": Operator(moves.pad_10, 1, 1, {"mode": "constant", "pads": [], "value": 0.0}),
    "Resize": Operator(moves.resize_10, 2, 2, {"mode": "nearest"}),
}
"""At opset 10, where two of them had other forms."""


def bind(proto: onnx.NodeProto, values: Mapping[str, Value], opset: int) -> tuple[Node, Operator]:
    """A node whose operator, inputs, output and attributes have the dialect's form."""
    names, output = tuple(proto.input), ", ".join(proto.output)
    node = Node(proto.op_type, output, names, tuple(values.get(name) if name else None for name in names), {})
    operator = (_OPERATORS_10 if opset == 10 else _OPERATORS).get(proto.op_type)
    if operator is None or proto.domain not in DOMAINS:
        raise node.error(f"this operator (domain '{proto.domain}', opset {opset})", f"one of {', '.join(_OPERATORS)}")
    if len(proto.output) != 1 or not output or output in values:
        raise node.error(f"the outputs {list(proto.output)}", "one, of a name that nothing else has")
    if not operator.least <= len(names) <= operator.most:
        raise node.error(f"{len(names)} inputs", f"{operator.least} to {operator.most}")
    for name in names:
        if name and name not in values:
            raise node.error(f"the input '{name}', which nothing before it defines", "nodes in order of execution")
    attributes = dict(operator.attributes)
    for given in proto.attribute:
        default = operator.attributes.get(given.name)
        if default is None or given.type != _TYPES[type(default)] or given.ref_attr_name:
            raise node.error(f"attribute '{given.name}' of type {given.type}",
                             f"none but {list(operator.attributes)}, of their types in ONNX")
        value = helper.get_attribute_value(given)
        attributes[given.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return Node(node.op_type, output, names, node.inputs, attributes), operator
