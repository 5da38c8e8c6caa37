"""What HTVM accepts and DORY or the chip may compute differently: findings H1 to H13, for layers on an accelerator.

Right on x86 says nothing about these. Sources: HTVM 132018d, DORY 8a0fe7b (``Diana_TVM``), and the history of both;
those on the kernels' registers follow from reading, no silicon was at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from onnxdiana.costs import memory
from onnxdiana.handoff.analog import analog
from onnxdiana.handoff.budget import budget
from onnxdiana.handoff.findings import Finding, Region
from onnxdiana.handoff.geometry import same, times
from onnxdiana.handoff.nodes import Graph
from onnxdiana.handoff.offloaded import Layer

_CLIPS = ((0.0, 127.0), (-128.0, 127.0))
_MEAN = "write the mean over the row as GlobalAveragePool, which runs on the CPU"
_COMPARE = "compare its codes on the chip with the vectors (`onnxdiana compare`)"


def silicon(graph: Graph, regions: Sequence[Region]) -> Iterator[Finding]:
    """At most one finding for each layer and code, layers in order; H12 and H10 once a file.

    Args:
        graph: the file's.
        regions: those of ``partition`` on the same graph.
    """
    layers = [Layer(graph, region, region.work) for region in regions if region.core != "cpu" and region.work]
    for layer in layers:
        for check in _CHECKS:
            yield from check(layer)
    yield from _mixed(layers)
    yield from budget(graph, regions)


def _width(layer: Layer) -> Iterator[Finding]:
    """H1: DORY assumes rows padded to 16 in L2 for the digital core, TVM allocates dense ones."""
    if layer.region.core != "digital" or len(layer.graph.shapes[layer.region.name]) != 4:
        return
    widths = (layer.work.input_size[1], layer.work.output_size[1])
    if any(width % memory.LANES for width in widths):
        better = " and ".join(str(memory.padded(width)) for width in dict.fromkeys(widths))
        pointwise = layer.work.kind == "conv" and layer.work.input_size == layer.work.kernel == (1, 1)
        yield layer.finding(
            "H1", f"widths {widths[0]} in and {widths[1]} out", f"multiples of {memory.LANES}",
            "write it as a Gemm, whose rows are not padded" if pointwise else
            f"choose an image size that makes them {better}, or {_COMPARE}")


def _channels(layer: Layer) -> Iterator[Finding]:
    """H2: channel counts are rounded up to 16 in transfers, weights are not padded alike."""
    work, lanes = layer.work, memory.LANES
    if work.kind == "add":
        return
    counts = {"input": work.inputs} if layer.region.kind != "depthwise" else {"depthwise": work.outputs}
    if work.kind == "dense":
        counts["output"] = work.outputs
    bad = {name: count for name, count in counts.items() if count % lanes}
    if not bad:
        return
    unit = "features" if work.kind == "dense" else "channels"
    fatal = layer.region.kind == "depthwise" and work.outputs % 4
    yield layer.finding("H2", ", ".join(f"{count} {name} {unit}" for name, count in bad.items()),
                        f"multiples of {lanes}" + (": DORY ends with a ValueError without one of 4" if fatal else ""),
                        "; ".join(f"use {memory.padded(count)} {name} {unit} instead of {count}"
                                  for name, count in bad.items()) + ", the further ones of zero weight")


def _clip(layer: Layer) -> Iterator[Finding]:
    """H3: of a clip only ``lo == 0`` reaches the chip."""
    if layer.bounds is not None and layer.bounds not in _CLIPS:
        lo, hi = layer.bounds
        wanted = "[0, 127]" if lo == 0 else "[-128, 127]"
        yield layer.finding("H3", f"a clip to [{lo:g}, {hi:g}]", "[0, 127] or [-128, 127]",
                            f"train with ReLU instead of a bounded activation, so that the clip is {wanted}")


def _sum_relu(layer: Layer) -> Iterator[Finding]:
    """H4: the sum's kernel has its activation fixed to none."""
    if layer.work.kind == "add" and layer.bounds is not None and layer.bounds[0] == 0:
        yield layer.finding("H4", "a sum clipped at 0", "[-128, 127]: the chip's sum has no ReLU",
                            "--silicon safe: requantize to [-128, 127] and a Relu of its own behind it")


def _sum(layer: Layer) -> Iterator[Finding]:
    """H5: the sum's input DMA has strides of the other layout, and its shift is doubtful."""
    if layer.work.kind != "add":
        return
    shape, channels, height = layer.graph.shapes[layer.region.name], layer.work.inputs, layer.work.input_size[0]
    found, needed = f"a sum with {channels} channels and a height of {height}", "a sum that was seen right on the chip"
    if len(shape) != 4:
        found = f"a sum of shape {shape}"
        needed = f"four axes, of which HTVM reads the third-last, as many channels as rows, and {needed}"
    elif channels != height:
        needed = f"as many channels as rows, and {needed}"
    yield layer.finding("H5", found, needed, _COMPARE)


def _one_axis(layer: Layer) -> Iterator[Finding]:
    """H6: HTVM tests 'same' padding with ``and`` where it means ``or``."""
    work = layer.work
    if work.kind == "conv" and not all(same(work)):
        axis = "width" if same(work)[0] else "height"
        wanted = tuple((k - 1) // 2 for k in work.kernel) * 2
        found = f"pads {work.pads} with a {times(work.kernel)} kernel: not 'same' in {axis}"
        yield layer.finding("H6", found, f"pads {wanted}", _MEAN if layer.whole_map else f"use pads {wanted}")


def _depthwise(layer: Layer) -> Iterator[Finding]:
    """H7: HTVM takes as many groups as outputs for depthwise."""
    work = layer.work
    if layer.region.kind == "depthwise" and work.inputs != work.outputs:
        yield layer.finding("H7", f"{work.groups} groups of {work.inputs // work.groups} input channels",
                            "one input channel in each group", f"use one group, with zeros in the weights outside the "
                            f"{work.groups} blocks, or {work.inputs} outputs")


def _tiles(layer: Layer) -> Iterator[Finding]:
    """H8: DORY finds no tiles, and ends the compiler with exit status 0."""
    work, core = layer.work, layer.region.core
    sizes = memory.footprint(work, core)
    if sizes.feasible:
        return
    tried = range(2, 65) if work.groups == 1 and work.kind != "add" else ()
    parts = next((n for n in tried if memory.footprint(replace(work, inputs=-(-work.inputs // n)), core).feasible),
                 None)
    if parts is not None:
        remedy = f"split its {work.inputs:,} inputs over {parts} layers and add their codes"
    elif work.kind == "add":
        remedy = "add fewer channels, or a map of smaller width"
    else:
        remedy = f"use a kernel no larger than the map of {times(work.input_size)}"
    yield layer.finding("H8", "; ".join(sizes.because), "a layer that DORY can cut into tiles",
                        f"{remedy}: HTVM ends silently here, with exit status 0 and files missing")


def _square(layer: Layer) -> Iterator[Finding]:
    """H11: DORY hands the kernel's height to the register of its width."""
    height, width = layer.work.kernel
    if height != width:
        size = max(height, width)
        embedded = f"write it as {size}x{size} with pads {size // 2}, its further taps zero"
        yield layer.finding("H11", f"a {times(layer.work.kernel)} kernel", "a square kernel",
                            embedded if all(same(layer.work)) else _MEAN if layer.whole_map else
                            f"use a {size}x{size} kernel with pads {size // 2}")


def _bias(layer: Layer) -> Iterator[Finding]:
    """H13: no public DORY packs every bias right; those that fit HTVM's calls pack 16 channels at a time."""
    outputs, lanes = layer.work.outputs, memory.LANES
    if layer.region.kind in ("conv", "depthwise", "dense") and outputs % lanes:
        yield layer.finding("H13", f"{outputs} biases", f"a multiple of {lanes} with the DORY that HTVM pins (8a0fe7b)",
                            f"use {memory.padded(outputs)} outputs, the further ones of zero weight, or repair the "
                            "bias packing in DORY's C_Parser.py: from 9e2dbba on it is right for up to 16, and no "
                            "longer fits HTVM")


def _mixed(layers: Sequence[Layer]) -> Iterator[Finding]:
    """H12: no conversion between the layouts of the two cores is inserted."""
    cores = [layer.region.core for layer in layers]
    if len(set(cores)) > 1:
        other = next(layer for layer in layers if layer.region.core != cores[0])
        yield other.finding("H12", f"{cores.count('analog')} layers on the analog core, {cores.count('digital')} on "
                            "the digital one", "one core for the whole network: HTVM does not convert between their "
                            "layouts", "quantize it for the digital core alone")


_CHECKS: tuple[Callable[[Layer], Iterator[Finding]], ...] = (
    _width, _channels, _clip, _sum_relu, _sum, _one_axis, _depthwise, _tiles, analog, _square, _bias)
