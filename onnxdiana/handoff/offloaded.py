"""A layer that the partitioner gives to an accelerator, with what the doubts about the silicon look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from onnxdiana.costs.work import Work
from onnxdiana.handoff import patterns
from onnxdiana.handoff.findings import Finding, Region
from onnxdiana.handoff.nodes import Graph, Node


@dataclass(frozen=True)
class Layer:
    """A region on an accelerator, with its graph."""

    graph: Graph
    region: Region
    work: Work

    @property
    def first(self) -> Node:
        """Conv, Gemm, MatMul or Add."""
        return self.graph.producers[self.region.nodes[0]]

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Its clip."""
        return patterns.clip(self.graph, self.graph.producers[self.region.name])

    @property
    def whole_map(self) -> bool:
        """Whether it is a mean over the whole map written as a convolution."""
        return self.work.depthwise and self.work.kernel == self.work.input_size

    def table(self, op_type: str) -> NDArray[Any] | None:
        """The constant of an analog layer's Mul or Add."""
        nodes = (self.graph.producers[name] for name in self.region.nodes)
        arrays = (self.graph.constants.get(name) for node in nodes if node.op_type == op_type for name in node.inputs)
        return next((array for array in arrays if array is not None and patterns.numeric(array)), None)

    def finding(self, code: str, found: str, needed: str, remedy: str) -> Finding:
        """One about its first node."""
        return Finding(code, self.first.where, found, needed, remedy)
