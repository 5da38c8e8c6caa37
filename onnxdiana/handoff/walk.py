"""What a walk over a hand-over graph knows: the place of every tensor in a pattern, and what is wrong so far.

Behind a fault a tensor gets the place that it would have had, or none where that cannot be told, so that one fault is
one finding.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxdiana.handoff.findings import Finding
from onnxdiana.handoff.interface import opset
from onnxdiana.handoff.nodes import Graph, Node
from onnxdiana.handoff.operators import ARITY, ARITY_10, DOMAINS, FOREIGN, OPSETS

Array = NDArray[Any]


class Place(Enum):
    """What a float-typed tensor holds."""

    INPUT = "the float graph input"
    ACCUMULATOR = "an int32 accumulator"
    INSIDE = "a value inside a pattern"
    CODES = "int8 codes behind a Min"
    MOVED = "int8 codes that another operator moved"
    REAL = "dequantized floats"
    UNKNOWN = "something behind another fault"


@dataclass(frozen=True)
class Value:
    """A tensor that no constant is."""

    place: Place
    lo: float | None = None
    """Lower bound, where it is known."""
    source: str = ""
    """Operator type that made an accumulator, also of the codes that a requantizer makes of it."""


UNKNOWN = Value(Place.UNKNOWN)
CODES = (Place.CODES, Place.MOVED, Place.UNKNOWN)
"""Places that an operator on codes takes without a finding."""
_OLDER = ("Pad", "Slice", "Resize")
"""Operators that had fewer inputs at some opset."""


class Walk:
    """State of one walk; operators are judged by functions that take it."""

    def __init__(self, graph: Graph) -> None:
        """Args: graph: to be walked over in execution order."""
        self.graph = graph
        self.findings: list[Finding] = []
        self.requantized: list[str] = []
        """Outputs of the Mins that make codes."""
        self.scale: Array | None = None
        """Divisor of the output's dequantizer."""
        self.beyond: dict[str, str] = {}
        """Legal nodes that the interpreter does not compute, with the reason."""
        self.values = {value.name: Value(Place.INPUT) if _is_float(value) else UNKNOWN for value in graph.inputs}
        self.written = {tensor.name for tensor in graph.model.graph.initializer}
        """Names of constants, those that cannot be read among them."""
        self.opset = opset(graph.model)
        self.done: set[int] = set()
        """Indices of nodes that were judged with one in front of them."""
        self.told: set[str] = set()
        """Constants that E1 names."""
        self._taken: set[str] = set()
        self._other_inputs = {value.name for value in graph.inputs if not _is_float(value)}

    def say(self, code: str, node: Node, found: str, needed: str, remedy: str) -> None:
        """A finding about a node."""
        self.findings.append(Finding(code, node.where, found, needed, remedy))

    def tell_clip(self, node: Node) -> None:
        """E9."""
        bounds = [name for name in node.inputs[1:] if name]
        bounds += [name for name in ("min", "max") if name in node.attributes]
        one = "a Clip with one bound, which HTVM drops unseen" if len(bounds) == 1 else "a Clip"
        self.say("E9", node, one, "Max(lo), then Min(hi)",
                 "write Max and Min with constants of rank 0: HTVM's patterns know no Clip")

    def legal(self, node: Node) -> bool:
        """Whether operator and operands are such that a handler can look at them."""
        if node.op_type == "Clip" and node.domain in DOMAINS:
            self.tell_clip(node)
            return False
        if node.op_type == "Cast" and node.inputs and node.inputs[0] in self._other_inputs:
            return False  # the input's type is the fault
        if node.domain not in DOMAINS or node.op_type not in ARITY:
            domain = f" of domain '{node.domain}'" if node.domain not in DOMAINS else ""
            self.say("E4", node, f"the operator {node.op_type}{domain}", "an operator of the dialect",
                     FOREIGN.get(node.op_type, "spell it with operators of the dialect, or end the model before it"))
            return False
        if len(node.outputs) != 1 or not node.output or node.output in self.values or node.output in self.written:
            self.say("E4", node, f"the outputs {list(node.outputs)}", "one, of a name that nothing else has",
                     "leave out optional outputs, and give every tensor a name of its own")
            return False
        least, most = self._arity(node)
        if not self.countable(node):
            self.say("E4", node, f"{len(node.inputs)} inputs", f"{least}" if least == most else f"{least} to {most}",
                     "write the operator with these inputs")
            return False
        missing = [name for i, name in enumerate(node.inputs)
                   if name not in self.values and name not in self.written and (name or i < least)]
        if missing:
            self.say("E4", node, f"the input '{missing[0]}', which nothing before it makes", "nodes in execution order",
                     "sort the nodes, and give every input")
            return False
        self.judge_attributes(node)
        return True

    def _arity(self, node: Node) -> tuple[int, int]:
        least, most = (ARITY | ARITY_10 if self.opset == 10 else ARITY)[node.op_type]
        older = self.opset not in OPSETS and node.op_type in _OLDER  # E3 says enough
        return 1 if older else least, most

    def countable(self, node: Node) -> bool:
        """Whether an operator of the dialect has as many inputs as it may."""
        least, most = self._arity(node)
        return least <= len(node.inputs) <= most

    def judge_attributes(self, node: Node) -> None:
        """E13."""
        known = _schema(node.op_type, self.opset)
        for given in self.graph.model.graph.node[node.index].attribute:
            if given.ref_attr_name or known.get(given.name) != given.type:
                found = "an attribute of a function" if given.ref_attr_name else \
                    "this attribute" if given.name not in known else f"type {given.type} of the attribute"
                self.say("E13", node, f"{found} '{given.name}'", f"ONNX's own: {', '.join(known) or 'none'}",
                         f"remove '{given.name}': HTVM hands attributes on to its operators, which do not know it")

    def foreign(self, node: Node) -> bool:
        """Whether a node gets a finding of its own, so that the chain in front of it needs none."""
        if node.op_type not in ARITY or node.domain not in DOMAINS:
            return True
        return not self.countable(node)

    def is_constant(self, node: Node, index: int) -> bool:
        """Whether an input is an initializer, be it one that cannot be read."""
        return index < len(node.inputs) and node.inputs[index] in self.written and node.inputs[index] not in self.values

    def constant(self, node: Node, index: int, dtype: type[np.generic] = np.float32) -> Array | None:
        """A constant operand, floats as float64; None where it is none or cannot be judged."""
        if not self.is_constant(node, index):
            return None
        name, array = node.inputs[index], self.graph.constants.get(node.inputs[index])
        if (array is None or array.dtype != dtype) and name not in self.told:
            self.told.add(name)
            found = "a constant that cannot be read" if array is None else f"type {array.dtype} of the constant"
            self.say("E1", node, f"{found} '{name}'", np.dtype(dtype).name,
                     f"write '{name}' as {np.dtype(dtype).name}: HTVM does not bring types together")
        if array is None or dtype is not np.float32 or array.dtype.kind not in ("f", "i", "u", "b", "V"):
            return array if array is not None and array.dtype == dtype else None
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError):
            return None

    def needed_constant(self, node: Node, index: int, code: str, what: str) -> Array | None:
        """A float32 operand that must be constant, as float64; None where it cannot be judged."""
        if index < len(node.inputs) and not self.is_constant(node, index):
            self.say(code, node, f"a computed {what} ('{node.inputs[index]}')", "a constant",
                     f"write the {what} as an initializer")
        return self.constant(node, index)

    def codes(self, node: Node, index: int = 0) -> Value:
        """An operand of int8 codes; a finding where it is something else."""
        if self.is_constant(node, index):
            self.say("E5", node, f"the constant '{node.inputs[index]}' as input {index}", "the constant second",
                     "exchange the operands, or fold the operator away")
            return UNKNOWN
        value = self.values[node.inputs[index]]
        if value.place not in CODES:
            self.unfit(node, value, index)
            return UNKNOWN
        return value

    def unfit(self, node: Node, value: Value, index: int = 0) -> None:
        """E15 or E11: an operand that holds no codes."""
        name = node.inputs[index]
        if value.place is Place.INPUT:
            self.say("E15", node, f"the float graph input '{name}'", "Div, Floor, Max, Min directly on the input",
                     "quantize the input first, and put this operator behind its Min")
        else:
            self.say("E11", node, f"{value.place.value} ('{name}')", "int8 codes behind a requantizer",
                     "put Div(2**k), Floor, Max, Min in front of it, and let nothing else read a pattern's inside")

    def take(self, node: Node, name: str) -> None:
        """An accumulator belongs to one reader; of several the second is told."""
        if name in self._taken:
            self.say("E5", node, f"'{name}', which another node reads too", "one reader of an accumulator",
                     "requantize it once, and read its codes in both places")
        self._taken.add(name)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)


def _schema(op_type: str, version: int) -> dict[str, int]:
    """Attribute types by name: those of the file's opset, and of the last legal one where it has none of these."""
    found: dict[str, int] = {}
    for number in (version,) if version in OPSETS else (version, OPSETS[-1]):
        with contextlib.suppress(onnx.defs.SchemaError, OverflowError, TypeError):
            schema: Any = onnx.defs.get_schema(op_type, number, "")
            found |= {name: int(attribute.type) for name, attribute in schema.attributes.items()}
    return found
