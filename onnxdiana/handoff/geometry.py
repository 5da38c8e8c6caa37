"""Shapes of a convolution that HTVM's partitioner takes (W2), and what to change about the others.

Source: HTVM 132018d, ``python/tvm/relay/op/contrib/soma_dory.py``: ``_check_conv2d``. It tests 'same' padding with
``and`` where ``or`` was meant: one axis is enough for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from onnxdiana.costs.work import Work
from onnxdiana.handoff import patterns
from onnxdiana.handoff.nodes import Graph, Node
from onnxdiana.handoff.patterns import Match

KERNELS = (1, 3, 5, 7)
"""In each direction."""
AUTO_PADS = ("SAME_UPPER", "SAME_LOWER")
"""Values of auto_pad that HTVM turns into a Pad of its own."""
_STRIDES = ((1, 1), (2, 2))
_ADC = (-32.0, 31.0)


@dataclass(frozen=True)
class Complaint:
    """A part of a finding."""

    found: str
    needed: str
    remedy: str


def same(work: Work) -> tuple[bool, bool]:
    """Whether height and width are padded so that stride 1 would keep them."""
    above, left, *_ = work.pads
    return 2 * above == work.kernel[0] - 1, 2 * left == work.kernel[1] - 1


def zero_taps(work: Work, dilations: tuple[int, ...] = (1, 1)) -> tuple[int, int] | None:
    """Smallest kernel with 'same' padding that is this convolution, its further taps zero; a square one stays square.

    None where no kernel that the core takes is large enough, or where 'same' padding gives another output size.
    """
    found = []
    for axis in (0, 1):
        span = (work.kernel[axis] - 1) * dilations[axis] + 1
        fitting = [k for k in KERNELS if 0 <= k // 2 - work.pads[axis] <= k - span]
        if not fitting or (work.input_size[axis] - 1) // work.strides[axis] + 1 != work.output_size[axis]:
            return None
        found.append(fitting[0])
    return (max(found), max(found)) if work.kernel[0] == work.kernel[1] else (found[0], found[1])


def complaints(graph: Graph, match: Match, work: Work) -> Iterator[Complaint]:
    """What is wrong with one that is a Conv."""
    inside = _with_pad(graph, match.first, work)
    yield from _window(inside, patterns.integers(match.first, "dilations", (1, 1)) or (1, 1))
    if work.strides not in _STRIDES:
        yield Complaint(f"strides {work.strides}", "strides (1, 1) or (2, 2)",
                        f"use strides {(min(max(work.strides), 2),) * 2}")
    groups = (1,) if match.kind == "analog conv" else (1, work.outputs)
    if work.groups not in groups:
        yield Complaint(f"{work.groups} groups", " or ".join(map(str, groups)),
                        "use one group" if match.kind == "analog conv" else
                        f"use one group, whose kernel has zeros outside the {work.groups} blocks, or one for each of "
                        f"the {work.outputs} outputs")
    padding = graph.producer(match.first)
    if padding is not None and padding.op_type == "Pad":
        yield Complaint(f"{padding.where} in front", "padding in the convolution's own pads",
                        "a Pad of other values than 0, or of other axes, has no form there" if inside is work else
                        f"give the convolution pads {inside.pads} and drop the Pad")
    if match.first.attributes.get("auto_pad", "NOTSET") in AUTO_PADS:
        yield Complaint(f"auto_pad {match.first.attributes['auto_pad']}, which becomes a Pad of its own",
                        "explicit pads", f"write pads {work.pads}")
    if match.kind == "analog conv":
        yield from _analog(graph, match)


def _window(work: Work, dilations: tuple[int, ...]) -> Iterator[Complaint]:
    """Kernel, dilation and padding."""
    nearest = [min(k | 1, KERNELS[-1]) for k in work.kernel]
    wanted = tuple((k - 1) // 2 for k in nearest) * 2
    pads = f"pad {wanted[0]} on every side" if len(set(wanted)) == 1 else f"use pads {wanted}"
    pads += f" instead of {work.pads}"
    larger = zero_taps(work, dilations)
    taps = f"--zero-taps always, which makes it {times(larger)} with pads {times(k // 2 for k in larger)}" if larger \
        else ""
    illegal = any(k not in KERNELS for k in work.kernel)
    if work.depthwise and work.kernel == work.input_size and not any(work.pads):
        pads = taps = "nothing: a mean over the whole map runs on the CPU in every form"
    elif taps:
        pads = taps if illegal or dilations != (1, 1) else f"{pads}, or {taps}"
    if illegal:
        yield Complaint(f"a {times(work.kernel)} kernel", "1, 3, 5 or 7 in each direction",
                        taps or f"use a {times(nearest)} kernel")
    if dilations != (1, 1):
        yield Complaint(f"dilations {dilations}", "dilations (1, 1)", taps or "train without dilation")
    if work.pads[:2] != work.pads[2:]:
        yield Complaint(f"pads {work.pads}", "as much below as above, and right as left", pads)
    elif not illegal and not any(same(work)):
        yield Complaint(f"pads {work.pads} with a {times(work.kernel)} kernel", f"'same' padding, pads {wanted}", pads)


def _analog(graph: Graph, match: Match) -> Iterator[Complaint]:
    array = graph.constants[match.first.inputs[1]]
    if array.min() < -1 or array.max() > 1:
        yield Complaint(f"weights in [{array.min():g}, {array.max():g}]", "[-1, 1]",
                        "make them ternary, or give the layer to the digital core")
    bounds = patterns.clip(graph, match.node("Min"))
    if bounds != _ADC:
        found = "bounds that are no scalars" if bounds is None else f"[{bounds[0]:g}, {bounds[1]:g}]"
        yield Complaint(f"an ADC clip of {found}", "[-32, 31]", "clip the converter's codes to its 6 bits")


def _with_pad(graph: Graph, conv: Node, work: Work) -> Work:
    """The convolution with the zeros of a Pad in front as pads of its own; unchanged where there are none."""
    pad = graph.producer(conv)
    if pad is None or pad.op_type != "Pad" or pad.attributes.get("mode", "constant") != "constant":
        return work
    sizes, value = graph.constant(pad, 1), graph.constant(pad, 2)
    if sizes is None:  # opset 10
        listed, zero = patterns.integers(pad, "pads", (0,) * 8), pad.attributes.get("value", 0.0) == 0
    else:
        listed = tuple(int(size) for size in sizes.reshape(-1)) if sizes.dtype.kind == "i" else None
        zero = (value is None and len(pad.inputs) < 3) or (value is not None and not value.any())
    if not zero or listed is None or len(listed) != 8 or min(listed) < 0 or any(listed[i] for i in (0, 1, 4, 5)):
        return work
    (above, left, below, right), (height, width) = work.pads, work.input_size
    more = (listed[2], listed[3], listed[6], listed[7])
    return replace(work, pads=(above + more[0], left + more[1], below + more[2], right + more[3]),
                   input_size=(height - more[0] - more[2], width - more[1] - more[3]))


def times(sizes: Iterable[int]) -> str:
    """As 3x5."""
    return "x".join(map(str, sizes))
