"""Errors of what makes accumulators: Conv, Gemm, MatMul, Add, the analog core's Mul and Add (E4, E5, E8, E11, E12)."""

from __future__ import annotations

from onnxdiana.handoff import constants
from onnxdiana.handoff.nodes import Node
from onnxdiana.handoff.walk import CODES, UNKNOWN, Array, Place, Value, Walk


def conv(walk: Walk, node: Node) -> Value:
    """Over height and width, with a constant weight and bias."""
    weight = walk.needed_constant(node, 1, "E8", "weight")
    if weight is not None and weight.ndim != 4:
        walk.say("E4", node, f"a weight of shape {weight.shape}", "four axes: a convolution over height and width",
                 "write it as a 2-D convolution with a height of 1: HTVM makes no integers of any other")
    if weight is not None:
        _parameter(walk, node, weight, "weight", weight.ndim)
    _bias(walk, node, None if weight is None or not weight.ndim else weight.shape[0])
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        walk.beyond[node.where] = "auto_pad"
    return _accumulated(walk, node)


def gemm(walk: Walk, node: Node) -> Value:
    """With a constant weight and bias; beta is folded into the bias."""
    alpha, beta, a, b = (node.attributes.get(name, default) for name, default in (
        ("alpha", 1.0), ("beta", 1.0), ("transA", 0), ("transB", 0)))
    if alpha != 1 or a != 0 or b not in (0, 1):
        walk.say("E4", node, f"alpha {alpha}, transA {a}, transB {b}", "alpha 1, transA 0, transB 0 or 1",
                 "fold alpha into the scales, and transpose operands before they are written")
    weight = walk.needed_constant(node, 1, "E8", "weight")
    if weight is not None:
        _parameter(walk, node, weight, "weight", 2)
    factor = beta if isinstance(beta, float) else 1.0  # E13 tells of any other
    _bias(walk, node, weight.shape[0 if b else 1] if weight is not None and weight.ndim == 2 else None, factor)
    if beta != 1 and len(node.inputs) > 2:
        walk.beyond[node.where] = f"beta {beta}"
    return _accumulated(walk, node)


def matmul(walk: Walk, node: Node) -> Value:
    """With a constant weight; the bias is an Add behind it."""
    if not walk.is_constant(node, 0):
        weight = walk.needed_constant(node, 1, "E8", "weight")
        if weight is not None:
            _parameter(walk, node, weight, "weight", 2)
    walk.beyond[node.where] = "MatMul"
    return _accumulated(walk, node)


def add(walk: Walk, node: Node) -> Value:
    """Of two tensors with codes."""
    fixed = [i for i in (0, 1) if walk.is_constant(node, i)]
    if fixed:
        return _add_constant(walk, node, fixed)
    bad = [i for i in (0, 1) if walk.values[node.inputs[i]].place not in CODES]
    if bad:
        walk.unfit(node, walk.values[node.inputs[bad[0]]], bad[0])
        if any(walk.values[node.inputs[i]].place is Place.REAL for i in bad):
            return UNKNOWN
    shapes = [walk.graph.shapes.get(name) for name in node.inputs]
    if shapes[0] != shapes[1]:
        walk.beyond[node.where] = "operands of unequal shapes"
    least = [walk.values[name].lo for name in node.inputs]
    positive = all(lo is not None and lo >= 0 for lo in least)
    return Value(Place.ACCUMULATOR, 0.0 if positive else None, "Add")


def mul(walk: Walk, node: Node) -> Value:
    """The analog core's multiplier is the only one."""
    fixed = [i for i in (0, 1) if walk.is_constant(node, i)]
    name = node.inputs[0 if fixed == [1] else 1]
    value = walk.values.get(name, UNKNOWN)
    summand = walk.graph.sole_reader(node.output)
    if len(fixed) != 1 or (value.place is not Place.UNKNOWN and not _behind_converter(walk, name, node)) \
            or summand is None or summand.op_type != "Add":
        walk.say("E4", node, "a Mul", "only Conv, Div, Floor, Max, Min, Mul, Add of the analog core",
                 "fold the factor into weights and scales")
        return UNKNOWN
    _analog(walk, node, fixed[0], "multiplier", name)
    walk.beyond[node.where] = "the analog core"
    return Value(Place.ACCUMULATOR, source="Mul")


def _accumulated(walk: Walk, node: Node) -> Value:
    """What an operator on the codes of its first input makes."""
    walk.codes(node)
    lost = not walk.is_constant(node, 0) and walk.values[node.inputs[0]].place is Place.REAL
    return UNKNOWN if lost else Value(Place.ACCUMULATOR, source=node.op_type)


def _bias(walk: Walk, node: Node, channels: int | None, factor: float = 1.0) -> None:
    bias = walk.needed_constant(node, 2, "E8", "bias") if len(node.inputs) > 2 and node.inputs[2] else None
    if bias is not None:
        _parameter(walk, node, bias * factor, "bias", 1 if channels is None else [(channels,)])


def _parameter(walk: Walk, node: Node, array: Array, what: str, shapes: list[tuple[int, ...]] | int) -> None:
    walk.findings += constants.parameter(node.where, array, what, shapes)


def _add_constant(walk: Walk, node: Node, fixed: list[int]) -> Value:
    """A bias behind a MatMul, or the summand of the analog core."""
    other = 1 - fixed[0]
    value = walk.values.get(node.inputs[other], UNKNOWN)
    made = Place.ACCUMULATOR if value.place is not Place.UNKNOWN or len(fixed) == 2 else Place.UNKNOWN
    name = node.inputs[other]
    if len(fixed) == 1 and value.place is Place.ACCUMULATOR and value.source in ("MatMul", "Mul"):
        walk.take(node, name)
        if value.source == "Mul":
            _analog(walk, node, fixed[0], "summand", name)
        else:
            if fixed[0] == 0:
                walk.say("E5", node, f"the bias '{node.inputs[0]}' as first operand", "the bias second",
                         "exchange the operands, or use Gemm: HTVM takes the first one for the linear operator")
            weight = _weight_of(walk, name)
            bias = walk.constant(node, fixed[0])
            if bias is not None:
                _parameter(walk, node, bias, "bias", 1 if weight is None else [(weight.shape[-1],)])
    elif value.place is not Place.UNKNOWN or len(fixed) == 2:
        walk.say("E12", node, f"the constant operand '{node.inputs[fixed[-1]]}'",
                 "two computed operands of int8 codes", "fold the constant into the bias of the layer in front")
        if value.place is Place.INPUT:
            return UNKNOWN
    return Value(made, source="Add")


def _weight_of(walk: Walk, name: str) -> Array | None:
    producer = walk.graph.producers.get(name)
    weight = None if producer is None else walk.graph.constant(producer, 1)
    return weight if weight is not None and weight.ndim == 2 else None


def _behind_converter(walk: Walk, name: str, node: Node) -> bool:
    value = walk.values.get(name, UNKNOWN)
    return value.place is Place.CODES and value.source == "Conv" and walk.graph.sole_reader(name) is node


def _analog(walk: Walk, node: Node, index: int, what: str, name: str) -> None:
    array, shape = walk.constant(node, index), walk.graph.shapes.get(name)
    if array is not None:
        anyhow = array.size == 1 or shape is None or len(shape) != 4  # a scalar compiles, wrong on silicon: H9
        _parameter(walk, node, array, what, array.ndim if anyhow or shape is None else [(1, shape[1], 1, 1)])
