"""What HTVM's partitioner gives to which core, layer by layer, and why the rest stays on the RISC-V (W1 to W5)."""

from __future__ import annotations

from dataclasses import replace

from onnxdiana.costs.work import Work
from onnxdiana.handoff import patterns
from onnxdiana.handoff.conditions import conditions
from onnxdiana.handoff.findings import Finding, Region
from onnxdiana.handoff.geometry import AUTO_PADS
from onnxdiana.handoff.nodes import Graph, Node
from onnxdiana.handoff.patterns import Match


def partition(graph: Graph) -> tuple[tuple[Region, ...], tuple[Finding, ...]]:
    """Regions in execution order, and findings W1 to W5.

    A graph with errors is partitioned as if HTVM came that far: Concat and Dropout, for example, end it with an
    exception.
    """
    regions, findings = [], []
    for match in patterns.matches(graph):
        region, remarks = _region(graph, match)
        regions.append(region)
        findings += remarks
    return tuple(regions), tuple(findings)


def _region(graph: Graph, match: Match) -> tuple[Region, list[Finding]]:
    nodes = tuple(node.output for node in match.nodes)
    if match.kind not in patterns.LAYERS:
        return Region(match.last.output, match.kind, "cpu", nodes), []
    work = _work(graph, match)
    if work is None:  # sizes unknown or impossible
        return Region(match.last.output, match.kind, "cpu", nodes, None, ("E2",)), []
    findings = list(conditions(graph, match, work))
    codes = [finding.code for finding in findings]
    floor = match.nodes[-3]
    if patterns.shift(graph, floor) is None:
        codes.append("E6")
    # HTVM takes a convolution with as many groups as outputs for depthwise, whatever its inputs (H7)
    kind = "depthwise" if match.kind == "conv" and work.groups == work.outputs > 1 else match.kind
    core = "cpu" if codes else "analog" if kind == "analog conv" else "digital"
    return Region(match.last.output, kind, core, nodes, work, tuple(codes)), findings


def _work(graph: Graph, match: Match) -> Work | None:
    """Shapes of a layer, or None where the file does not say them or they make no sense."""
    first, shapes = match.first, graph.shapes
    names = [*first.inputs[:1 if match.kind != "add" else 2], first.output, match.last.output]
    if any(min(shapes.get(name, (0,)), default=0) < 1 for name in names):
        return None
    given, out = shapes[first.inputs[0]], shapes[first.output]
    if len(out) < 2:
        return None
    if match.kind in ("add", "dense"):
        size = (1, 1) if len(out) == 2 else (out[-2], out[-1]) if len(out) == 4 else (1, out[-1])
        return Work(match.kind, given[1] if len(given) > 1 else given[0], out[1], size, size)
    weight = patterns.weights(graph, first, 4)
    strides, groups = patterns.integers(first, "strides", (1, 1)), first.attributes.get("group", 1)
    pads = patterns.integers(first, "pads", (0, 0, 0, 0))
    if len(given) != 4 or len(out) != 4 or weight is None or strides is None or pads is None \
            or not isinstance(groups, int) or groups < 1 or min(strides) < 1:
        return None
    work = Work("conv", given[1], out[1], (given[2], given[3]), (out[2], out[3]), weight.shape[2:],
                (strides[0], strides[1]), (pads[0], pads[1], pads[2], pads[3]), groups)
    return replace(work, pads=_automatic(work, first)) if first.attributes.get("auto_pad") in AUTO_PADS else work


def _automatic(work: Work, conv: Node) -> tuple[int, int, int, int]:
    """The pads that auto_pad stands for."""
    dilations = patterns.integers(conv, "dilations", (1, 1)) or (1, 1)
    totals = [max((out - 1) * stride + (k - 1) * dilation + 1 - given, 0) for given, out, k, stride, dilation in zip(
        work.input_size, work.output_size, work.kernel, work.strides, dilations, strict=True)]
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    before, after = (less, more) if conv.attributes["auto_pad"] == "SAME_UPPER" else (more, less)
    return before[0], before[1], after[0], after[1]
