"""Estimates of both public models of DIANA for four known networks beside published sums, and for the zoo's models.

The known networks are built here as ONNX graphs, and every convolution and linear layer of them is counted, whether
the chip takes it or not, as the published sums do. A sum may be 2 % from the published one.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxdiana import canonical, costs, inspect, loading
from onnxdiana.costs import match, odimo
from onnxdiana.costs.layers import work_of
from onnxdiana.costs.work import Work
from onnxdiana.layers import network
from onnxdiana.report.tables import grid, share

LIMIT = 0.02


class Graph:
    """Layers one behind the other, each with a ReLU unless it is the last."""

    def __init__(self, *shape: int) -> None:
        self._inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])]
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def add(self, op_type: str, *inputs: str, **attributes: object) -> str:
        """A node; the name of its output."""
        output = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def linear(self, op_type: str, x: str, *shape: int, **attributes: object) -> str:
        """A Conv or Gemm with a weight of this shape, and a bias."""
        names = [f"w{len(self._weights)}", f"b{len(self._weights)}"]
        for name, sizes in zip(names, (shape, shape[:1]), strict=True):
            self._weights.append(numpy_helper.from_array(self._random.normal(size=sizes).astype(np.float32), name))
        return self.add(op_type, x, *names, **attributes)

    def conv(self, x: str, inputs: int, outputs: int, kernel: tuple[int, int] = (3, 3), stride: int = 1,
             depthwise: bool = False, relu: bool = True) -> str:
        """A 'same'-padded convolution."""
        y = self.linear("Conv", x, outputs, 1 if depthwise else inputs, *kernel, strides=[stride] * 2,
                        pads=2 * [size // 2 for size in kernel], group=inputs if depthwise else 1)
        return self.add("Relu", y) if relu else y

    def head(self, x: str, features: int, classes: int) -> onnx.ModelProto:
        """Global mean and linear layer: the model."""
        flat = self.add("Flatten", self.add("GlobalAveragePool", x))
        return self.model(self.linear("Gemm", flat, classes, features, transB=1))

    def model(self, output: str) -> onnx.ModelProto:
        """The graph so far."""
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self._nodes, "g", self._inputs, outputs, self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def resnet8() -> onnx.ModelProto:
    """Three stages of 16, 32 and 64 channels on 32x32 images, 12 classes."""
    graph = Graph(3, 32, 32)
    x, inputs = graph.conv("x", 3, 16), 16
    for outputs in (16, 32, 64):
        stride = 1 if outputs == inputs else 2
        y = graph.conv(graph.conv(x, inputs, outputs, stride=stride), outputs, outputs, relu=False)
        shortcut = x if stride == 1 else graph.conv(x, inputs, outputs, (1, 1), stride, relu=False)
        x, inputs = graph.add("Relu", graph.add("Add", y, shortcut)), outputs
    return graph.head(x, inputs, 12)


def ds_cnn() -> onnx.ModelProto:
    """Keyword spotting on 49x10 features: a 7x5 convolution, four separable ones of 64 channels, 12 classes."""
    graph = Graph(1, 49, 10)
    x = graph.conv("x", 1, 64, (7, 5), 2)
    for _ in range(4):
        x = graph.conv(graph.conv(x, 64, 64, depthwise=True), 64, 64, (1, 1))
    return graph.head(x, 64, 12)


def mobilenet_v1() -> onnx.ModelProto:
    """Visual wake words: MobileNetV1 of width 0.25 on 96x96 images, 2 classes."""
    graph = Graph(3, 96, 96)
    x, inputs = graph.conv("x", 3, 8, stride=2), 8
    for outputs, stride in zip((16, 32, 32, 64, 64, *5 * (128,), 128, 256, 256),
                               (1, 2, 1, 2, 1, 2, *4 * (1,), 1, 2, 1), strict=True):
        x = graph.conv(graph.conv(x, inputs, inputs, stride=stride, depthwise=True), inputs, outputs, (1, 1))
        inputs = outputs
    return graph.head(x, inputs, 2)


def autoencoder() -> onnx.ModelProto:
    """Anomaly detection: 640 values through nine layers of 128 and 8 back to 640."""
    graph, x = Graph(640), "x"
    sizes = [640, *4 * (128,), 8, *4 * (128,), 640]
    for inputs, outputs in itertools.pairwise(sizes):
        y = graph.linear("Gemm", x, outputs, inputs, transB=1)
        x = y if outputs == 640 else graph.add("Relu", y)
    return graph.model(y)


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet8": resnet8, "ds_cnn": ds_cnn, "mobilenet_v1": mobilenet_v1, "autoencoder": autoencoder}
COLUMNS = ("ODiMO digital", "MATCH digital, computing", "ODiMO analog")
PUBLISHED = {
    "resnet8": (81.5, 87.1, 31.4), "ds_cnn": (103.8, 105.2, 71.9), "mobilenet_v1": (208.6, 295.0, 144.5),
    "autoencoder": (17.0, 6.1, 13.5)}
"""Thousands of cycles; analog: of the layers that the analog core has a form for, the others digital."""


def works(model: onnx.ModelProto) -> list[Work]:
    """Every convolution and linear layer of a model."""
    form, _ = canonical.rewritten(loading.load(model).model)
    found = [work_of(layer) for layer in network(form).layers]
    return [work for work in found if work is not None and work.kind != "add"]


def cycles(work: Work) -> tuple[float, ...]:
    """Of one layer, by :data:`COLUMNS`."""
    digital = odimo.digital(work)
    return digital, match.compute(work), digital if work.groups > 1 else odimo.analog(work)


def known() -> Iterator[tuple[str, float, tuple[float, ...]]]:
    """Name, multiply-accumulates and cycles by :data:`COLUMNS` of the known networks, both in thousands."""
    for name, build in NETWORKS.items():
        layers = works(build())
        sums = zip(*(cycles(work) for work in layers), strict=True)
        yield name, sum(work.macs for work in layers) / 1e3, tuple(sum(column) / 1e3 for column in sums)


def zoo(folder: Path) -> list[str]:
    """What ``inspect`` says of every model in a folder, in short."""
    rows = []
    for path in sorted(folder.glob("*.onnx")):
        found = inspect(path)
        sums = costs.totals(line.estimate for line in found.lines)
        row = [path.stem, share(found.macs_by_core["digital"], found.macs), f"{found.cpu_cycles:,}"]
        for model in ("ODiMO", "MATCH"):
            figures = sums.get(model, {"cycles": 0, "milliseconds": 0.0, "microjoule": 0.0})
            row += [f"{figures['cycles']:,}", f"{figures['milliseconds']:.3f}", f"{figures['microjoule']:.1f}"]
        rows.append([*row, f"{found.memory_bytes or 0:,}"])
    head = ["model", "digital", "cpu, at least", "ODiMO", "ms", "uJ", "MATCH, transfers included", "ms", "uJ", "bytes"]
    return grid(head, rows, set(range(1, len(head))))


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows, worst = [], 0.0
    for name, macs, sums in known():
        row = [name, f"{macs:,.0f}"]
        for ours, theirs in zip(sums, PUBLISHED[name], strict=True):
            worst = max(worst, abs(ours / theirs - 1))
            row += [f"{ours:,.1f}", f"{theirs:,.1f}"]
        rows.append(row)
    head = ["thousands", "MACs", *(title for column in COLUMNS for title in (column, "published"))]
    print(*grid(head, rows, set(range(1, len(head)))), sep="\n")
    print(f"furthest from the published sum: {worst:.1%} (limit {LIMIT:.0%}) {'ok' if worst <= LIMIT else 'MISSED'}")
    if (folder := os.environ.get("ONNXDIANA_ZOO")) is not None:
        print("", *zoo(Path(folder)), sep="\n")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
