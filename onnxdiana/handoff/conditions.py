"""Why HTVM's partitioner leaves a layer to the RISC-V core: conditions W1 to W5, with the numbers that would do.

Source: HTVM 132018d, ``python/tvm/relay/op/contrib/soma_dory.py``: ``_check_requant`` and those that call it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnxdiana.costs.work import Work
from onnxdiana.handoff import geometry, patterns
from onnxdiana.handoff.findings import Finding
from onnxdiana.handoff.geometry import Complaint
from onnxdiana.handoff.nodes import Graph
from onnxdiana.handoff.operators import MOVES
from onnxdiana.handoff.patterns import Match

_WORD = 4  # bytes; HTVM reverses them in every word, and so wants whole ones
_TAIL = ("Div", "Mul", "Softmax", "LogSoftmax", "Sigmoid", "ArgMax", *MOVES)


def conditions(graph: Graph, match: Match, work: Work) -> Iterator[Finding]:
    """At most one finding of each code, in the order of the codes.

    Args:
        graph: the file's.
        match: a layer: its kind is one of ``patterns.LAYERS``.
        work: its shapes.
    """
    head = _is_head(graph, match, work)
    checks = {
        "W1": _sizes(graph, match, head),
        "W2": _shapes(graph, match, work),
        "W3": _bias(match, work),
        "W4": _between(match),
        "W5": _outputs(graph, match, work) if head else iter(()),
    }
    for code, complaints in checks.items():
        listed = list(complaints)
        if listed:
            yield Finding(code, match.first.where, *("; ".join(dict.fromkeys(texts)) for texts in zip(
                *((c.found, c.needed, c.remedy) for c in listed), strict=True)))


def _sizes(graph: Graph, match: Match, head: bool) -> Iterator[Complaint]:
    names = {"input": match.first.inputs[0]} | ({} if head else {"output": match.last.output})
    if match.kind == "add":
        del names["input"]
    for side, name in names.items():
        shape = graph.shapes[name]
        if math.prod(shape) % _WORD:
            yield Complaint(f"{math.prod(shape):,} elements in the {side} {shape}", f"a multiple of {_WORD}",
                            _multiple(side, shape))


def _multiple(side: str, shape: tuple[int, ...]) -> str:
    """What sizes would do, channels first, then the width."""
    channels = shape[min(1, len(shape) - 1)]
    step = _WORD // math.gcd(math.prod(shape) // channels, _WORD)
    remedy = f"give the {side} {_up(channels, step)} channels instead of {channels}" if len(shape) == 4 \
        else f"give it {_up(channels, step)} {side}s instead of {channels}"
    if len(shape) == 4:
        width = _up(shape[3], _WORD // math.gcd(math.prod(shape[:3]), _WORD))
        remedy += f", or a width of {width} instead of {shape[3]}"
    return remedy


def _outputs(graph: Graph, match: Match, work: Work) -> Iterator[Complaint]:
    shape = graph.shapes[match.last.output]
    if math.prod(shape) % _WORD:
        better = _up(work.outputs, _WORD // math.gcd(math.prod(shape) // work.outputs, _WORD))
        yield Complaint(f"{work.outputs} outputs", f"a multiple of {_WORD}",
                        f"give the head {better} outputs instead of {work.outputs} (--pad-outputs)")


def _is_head(graph: Graph, match: Match, work: Work) -> bool:
    """Whether a linear layer's vector of outputs is, but for a tail without weights, what the network computes."""
    if match.kind == "add" or work.output_size != (1, 1):
        return False
    tail = patterns.moved(graph, match.last.output, _TAIL)
    return (tail[-1] if tail else match.last).output in graph.outputs


def _shapes(graph: Graph, match: Match, work: Work) -> Iterator[Complaint]:
    if match.first.op_type == "Conv":
        yield from geometry.complaints(graph, match, work)
    elif match.kind == "add":
        one, other = (graph.shapes[name] for name in match.first.inputs)
        if one != other:
            yield Complaint(f"operands of shapes {one} and {other}", "equal shapes",
                            f"make both {graph.shapes[match.first.output]} in the layers that they come from")


def _bias(match: Match, work: Work) -> Iterator[Complaint]:
    has = len(match.first.inputs) > 2 and bool(match.first.inputs[2])
    has = has or (match.kind == "dense" and match.nodes[1].op_type == "Add")
    if match.kind == "analog conv" and has:
        yield Complaint("a bias", "none: the analog pattern has no place for it",
                        "add it to the constant of the Add behind the converter")
    if match.kind in ("conv", "dense") and not has:
        yield Complaint("no bias", f"a constant bias of shape ({work.outputs},)",
                        f"add a bias of {work.outputs} zeros")


def _between(match: Match) -> Iterator[Complaint]:
    for node in match.between:
        yield Complaint(f"{node.where} in front of the requantizer", "Div, Floor, Max, Min directly behind it",
                        "drop it, and let the requantizer's Max carry the 0" if node.op_type == "Relu" else
                        f"move the {node.op_type} behind the requantizer's Min")


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
