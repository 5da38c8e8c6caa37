"""Whether a network fits L2, which nothing in HTVM or DORY checks: finding H10."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from onnx import TensorProto

from onnxdiana.costs import memory
from onnxdiana.handoff.findings import Finding, Region
from onnxdiana.handoff.nodes import Graph


def budget(graph: Graph, regions: Sequence[Region]) -> Iterator[Finding]:
    """H10: weights, the largest sum of live activations and the code share L2; nothing checks it."""
    floats = {value.name for value in graph.inputs if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    floats |= set(graph.outputs)
    steps, weights = [], 0
    for region in regions:
        inside = set(region.nodes)
        nodes = [graph.producers[name] for name in region.nodes if name in graph.producers]
        inputs = dict.fromkeys(name for node in nodes for name in node.inputs if name)
        weights += _weight_bytes(graph, region, inputs)
        steps.append(([name for name in inputs if name not in inside and name not in graph.constants], region.name))
    sizes = {}
    for name in dict.fromkeys(name for reads, output in steps for name in (*reads, output)):
        if name not in graph.shapes:
            return
        sizes[name] = math.prod(graph.shapes[name]) * (4 if name in floats else 1)
    live = memory.live_bytes(steps, sizes)
    if not live or all(region.core == "cpu" for region in regions):
        return
    peak = max(range(len(live)), key=live.__getitem__)
    if weights + live[peak] >= memory.L2:
        first = graph.producers[regions[peak].nodes[0]]
        yield Finding("H10", first.where, f"{weights:,} bytes of weights and {live[peak]:,} of activations",
                      f"less than {memory.L2:,} bytes of L2, the code included",
                      f"save {weights + live[peak] - memory.L2 + 1:,} bytes and what the code takes: fewer channels, "
                      "or a smaller image")


def _weight_bytes(graph: Graph, region: Region, inputs: Mapping[str, None]) -> int:
    """Of an accelerator as DORY lays them out, of the CPU one for each weight and four for each bias."""
    if region.work is None or region.work.kind == "add":
        return 0
    if region.core != "cpu":
        return memory.footprint(region.work, region.core).weights
    arrays = [graph.constants[name] for name in inputs if name in graph.constants]
    return sum(array.size * (1 if array.ndim > 1 else 4) for array in arrays if array.size > 1)
