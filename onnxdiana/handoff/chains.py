"""Errors of what makes codes: Div, Floor, Max, Min, the mean, and the Div that dequantizes (E5 to E7, E9 to E11)."""

from __future__ import annotations

from onnxdiana.handoff import constants
from onnxdiana.handoff.nodes import Node
from onnxdiana.handoff.operators import DOMAINS, MOVES
from onnxdiana.handoff.walk import UNKNOWN, Place, Value, Walk

CLIP_RUN = ("Div", "Floor", "Max", "Min")
"""What makes int8 codes, in this order; Div may be absent."""
MEAN_RUN = ("Flatten", "Floor", "Max", "Min")
"""What stands behind a GlobalAveragePool."""


def clip_run(walk: Walk, first: Node) -> Value:
    """Div, Floor, Max, Min from the first of them on; or a Div alone, which dequantizes."""
    run = _collect(walk, first, CLIP_RUN)
    name = _operand(walk, first)
    value = walk.values.get(name, UNKNOWN)
    walk.done.update(node.index for node in run)
    if value.place is Place.ACCUMULATOR:
        walk.take(first, name)
    if value.place in (Place.CODES, Place.MOVED) and run[0].op_type == "Div" and len(run) == 1:
        return _dequantize(walk, first, value)
    if value.place in (Place.CODES, Place.MOVED, Place.REAL):
        walk.say("E5", first, f"{first.op_type} of {value.place.value} ('{name}')",
                 "a requantizer behind Conv, Gemm or Add alone",
                 "fold it into the requantizer in front, or behind the last Div leave it to the host")
        return _close(walk, run, UNKNOWN)
    if value.place is Place.INSIDE:
        walk.unfit(first, value, first.inputs.index(name))
        return _close(walk, run, UNKNOWN)
    if [node.op_type for node in run] == ["Div"] and value.place is Place.ACCUMULATOR \
            and _only_leaves(walk, first.output):
        walk.say("E11", first, f"{value.place.value} ('{name}')", "int8 codes behind a requantizer",
                 "put Div(2**k), Floor, Max, Min between the last layer and the output's Div")
        return Value(Place.REAL)
    role = "input" if value.place is Place.INPUT else "requantizer"
    last = run[-1]
    if role == "requantizer" and value.source == "Conv" and _converts(walk, last):
        role = "gain"
    before = len(walk.findings)
    whole = _ordered(walk, run, value.place is Place.UNKNOWN)
    lo = _judge_constants(walk, run, role if value.place is not Place.UNKNOWN else "", len(walk.findings) == before)
    if not whole:
        return _close(walk, run, UNKNOWN)
    walk.requantized.append(last.output)
    if lo is not None and value.lo is not None:
        lo = max(lo, value.lo)  # a shift keeps the sign of a sum
    return _close(walk, run, Value(Place.CODES, lo, value.source))


def pool(walk: Walk, node: Node) -> Value:
    """GlobalAveragePool, Flatten, Floor, Max, Min."""
    value = walk.codes(node)
    if value.lo is not None and value.lo < 0:
        walk.say("E10", node, f"codes from {value.lo:g} on", "codes that are not negative",
                 "put it behind a ReLU, or write the mean as a depthwise Conv over the whole map: HTVM's division "
                 "cuts, ONNX's Floor rounds down")
    shape = walk.graph.shapes.get(node.inputs[0])
    if shape is not None and len(shape) != 4:
        walk.say("E4", node, f"an input of shape {shape}", "four axes", "give it a map (1, C, H, W)")
    run = _collect(walk, node, ("Reshape", "Div", *MEAN_RUN))
    walk.done.update(part.index for part in run[1:])
    types = [part.op_type for part in run[1:]]
    result = Value(Place.CODES, 0.0, "GlobalAveragePool")
    for part in run:
        if part.op_type == "Clip":
            walk.tell_clip(part)
    before = len(walk.findings)
    if "Clip" not in types:
        result = result if _mean(walk, node, run[1:]) else UNKNOWN
    lo = _judge_constants(walk, [part for part in run[1:] if part.op_type in ("Max", "Min")], "",
                               len(walk.findings) == before)
    if result.place is Place.CODES:
        result = Value(Place.CODES, lo, "GlobalAveragePool")
        walk.requantized.append(run[-1].output)
    return _close(walk, run, result)


def _operand(walk: Walk, node: Node) -> str:
    """The operand that is no constant, the first where both are computed."""
    names = [name for i, name in enumerate(node.inputs) if not walk.is_constant(node, i)]
    return names[0] if names else node.inputs[0]


def _collect(walk: Walk, first: Node, types: tuple[str, ...]) -> list[Node]:
    """The chain of these operators, each once, that ends with a Max and a Min in either order, or a Clip."""
    run, seen = [first], {first.op_type}
    while True:
        nexts = [node for node in walk.graph.readers.get(run[-1].output, ())
                 if node.op_type in (*types, "Clip") and node.domain in DOMAINS and node.index > run[-1].index
                 and len(node.outputs) == 1 and _operand(walk, node) == run[-1].output]
        follower = next(iter(nexts), None)
        if follower is None or follower.op_type in seen or {"Max", "Min"} <= seen:
            return run
        bounds = ("Max", "Min") if "Clip" in seen else ("Max", "Min", "Clip", "Floor")
        if seen & {"Max", "Min", "Clip"} and follower.op_type not in bounds:  # a Div there dequantizes
            return run
        if follower.op_type != "Clip":
            if walk.foreign(follower):
                return run
            walk.judge_attributes(follower)
        run.append(follower)
        seen.add(follower.op_type)


def _ordered(walk: Walk, run: list[Node], anywhere: bool) -> bool:
    """Whether a chain gives codes; one finding where it is out of order or incomplete.

    Args:
        run: the chain.
        anywhere: it may be a part of one, behind another fault.
    """
    for node in run:
        if node.op_type == "Clip":
            walk.tell_clip(node)
            return True
    given, order = [node.op_type for node in run], ", ".join(CLIP_RUN)
    wanted = [name for name in CLIP_RUN if name != "Div" or "Div" in given]
    if anywhere:
        wanted = wanted[wanted.index(given[0]):]
    for node, name in zip(run, wanted, strict=False):
        if node.op_type != name:
            walk.say("E5", node, f"{node.op_type} here", name, f"write the chain as {order}")
            return bool({"Max", "Min"} & set(given))
    if len(run) < len(wanted):
        if not anywhere and not any(map(walk.foreign, walk.graph.readers.get(run[-1].output, ()))):
            walk.say("E5", run[-1], f"no {wanted[len(run)]} behind it", f"the chain {order}",
                     f"write the chain as {order}")
        return False
    return True


def _judge_constants(walk: Walk, run: list[Node], role: str, ordered: bool) -> float | None:
    """Divisor (where its role is known) and bounds, against each other in a chain that is in order.

    Returns:
        The lower bound, where it is usable.
    """
    bounds: dict[str, float] = {}
    for node in run:
        if node.op_type not in ("Div", "Max", "Min"):
            continue
        if walk.is_constant(node, 0):
            walk.say("E5", node, f"the constant '{node.inputs[0]}' as first operand", "the constant second",
                     "exchange the operands: HTVM matches them in this order alone")
            continue
        if node.op_type == "Div":
            array = walk.needed_constant(node, 1, "E6", "divisor")
            if array is not None and role:
                walk.findings += constants.divisor(node.where, array, role)
            if role == "gain" or (role == "input" and array is not None and array.size != 1):
                walk.beyond[node.where] = "a divisor of another form"
            continue
        array = walk.needed_constant(node, 1, "E7", "bound")
        if array is None:
            continue
        complaints = list(constants.bound(node.where, array))
        walk.findings += complaints
        if not complaints:
            bounds[node.op_type] = float(array.reshape(-1)[0])
            if ordered and len(bounds) == 2 and bounds["Max"] >= bounds["Min"]:
                walk.say("E7", node, f"the bounds {bounds['Max']:g} and {bounds['Min']:g}",
                         "a lower bound below the upper one", "give Max the smaller one and Min the larger one")
                return None
    return bounds.get("Max")


def _close(walk: Walk, run: list[Node], result: Value) -> Value:
    """Everything inside a chain gets its place, the last node the result; returns the first one's."""
    walk.values.update((node.output, Value(Place.INSIDE)) for node in run[:-1])
    walk.values[run[-1].output] = result
    return result if len(run) == 1 else walk.values[run[0].output]


def _only_leaves(walk: Walk, name: str) -> bool:
    """Whether all that reads a tensor moves it on to an output."""
    names, index = [name], -1
    while names:
        name = names.pop()
        readers = walk.graph.readers.get(name, []) if name not in walk.graph.outputs else []
        if any(node.op_type not in MOVES or node.index <= index for node in readers):  # later, or it is a circle
            return False
        index = max((node.index for node in readers), default=index)
        names += [node.output for node in readers]
    return True


def _converts(walk: Walk, last: Node) -> bool:
    """Whether codes are an analog converter's: a Mul by a constant follows."""
    reader = walk.graph.sole_reader(last.output)
    return reader is not None and reader.op_type == "Mul" and any(walk.is_constant(reader, i) for i in (0, 1))


def _dequantize(walk: Walk, node: Node, value: Value) -> Value:
    if walk.is_constant(node, 0):
        walk.say("E5", node, f"the constant '{node.inputs[0]}' as first operand", "the constant second",
                 "multiply and divide in the other order: HTVM divides codes by a constant alone")
        return Value(Place.REAL)
    scale = walk.needed_constant(node, 1, "E6", "divisor")
    if scale is not None:
        walk.findings += constants.divisor(node.where, scale, "output")
        walk.scale = scale
        if scale.shape not in ((), (1,)) or constants.exponent(float(scale.reshape(-1)[0])) is None:
            walk.beyond[node.where] = "a scale that is no single power of two"
    if value.place is Place.MOVED:
        walk.say("E11", node, f"{value.place.value} ('{node.inputs[0]}')", "int8 codes directly behind a Min",
                 "put the output's Div directly behind the last requantizer, and what moves codes behind that Div")
        return UNKNOWN
    return Value(Place.REAL)


def _mean(walk: Walk, node: Node, run: list[Node]) -> bool:
    """Whether the chain behind a mean is complete enough to give codes."""
    flatten = next((part for part in run if part.op_type == "Flatten"), None)
    for part, name in zip(run, MEAN_RUN, strict=False):
        if part.op_type != name:
            walk.say("E10", part, f"{part.op_type} here", f"{name}, in the order {', '.join(MEAN_RUN)}",
                     "write GlobalAveragePool, Flatten(axis=1), Floor, Max, Min, without a Div")
            return run[-1].op_type in ("Max", "Min")
    if flatten is not None and flatten.attributes.get("axis", 1) != 1:
        walk.say("E10", flatten, f"axis {flatten.attributes['axis']}", "axis 1", "flatten from axis 1 on")
    if len(run) < len(MEAN_RUN):
        tail = (run or [node])[-1].output
        if not any(map(walk.foreign, walk.graph.readers.get(tail, ()))):
            walk.say("E10", node, f"no {MEAN_RUN[len(run)]} behind it", f"{', '.join(MEAN_RUN)} behind it",
                     "write GlobalAveragePool, Flatten(axis=1), Floor, Max, Min: without them HTVM sums in int8, "
                     "which wraps")
        return False
    return True
