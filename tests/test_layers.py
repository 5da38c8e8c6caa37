"""The canonical graph as quantization sees it: layers, the bounds that requantizers take over, sources of codes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from onnxdiana.graph import name_of
from onnxdiana.layers import Network, network

HEADER = '<ir_version: 10, opset_import: ["" : 20]> g '
INF = math.inf


def view(text: str) -> Network:
    """Of ONNX text; ``w`` is a 1x1 Conv weight, ``g`` a Gemm weight, numbers as they are."""
    proto = parser.parse_model(HEADER + text)
    for name, shape in (("w", (4, 4, 1, 1)), ("g", (3, 4))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    return network(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))


def summary(found: Network) -> list[tuple[str, str, tuple[float, float]]]:
    """Name, output and bounds of each layer."""
    return [(layer.name, name_of(layer.output), layer.bounds) for layer in found.layers]


X = "(float[N,4,5,5] x) => (y)"
BOUNDS = "float lo = {-1}, float hi = {6}"


@pytest.mark.parametrize(("text", "layers"), [
    (f"{X} {{ y = Conv(x, w) }}", [("y", "y", (-INF, INF))]),
    (f"{X} {{ a = Conv(x, w) y = Relu(a) }}", [("a", "y", (0, INF))]),
    (f"{X} <{BOUNDS}> {{ a = Conv(x, w) y = Clip(a, lo, hi) }}", [("a", "y", (-1, 6))]),
    (f'{X} <{BOUNDS}> {{ a = Conv(x, w) y = Clip(a, "", hi) }}', [("a", "y", (-INF, 6))]),
    (f"{X} <{BOUNDS}> {{ a = Conv(x, w) y = Clip(a, lo) }}", [("a", "y", (-1, INF))]),
    (f"{X} {{ a = Conv(x, w) b = Relu(a) y = Relu(b) }}", [("a", "y", (0, INF))]),
    (f"{X} <{BOUNDS}> {{ a = Conv(x, w) b = Relu(a) y = Clip(b, lo, hi) }}", [("a", "y", (0, 6))]),
    (f"{X} <{BOUNDS}> {{ a = Conv(x, w) b = Clip(a, lo, hi) y = Relu(b) }}", [("a", "y", (0, 6))]),
    (f"{X} <{BOUNDS}, float m = {{2}}> {{ a = Conv(x, w) b = Clip(a, lo, m) y = Clip(b, m, hi) }}",
     [("a", "y", (2, 2))]),
    (f"{X} <{BOUNDS}> {{ a = Conv(x, w) b = Clip(a, hi) y = Clip(b, lo, lo) }}", [("a", "y", (-1, -1))]),
    (f"{X} <{BOUNDS}> {{ a = Conv(x, w) b = Relu(a) y = Clip(b, hi, lo) }}", [("a", "y", (-1, -1))]),
    (f"{X} <{BOUNDS}> {{ a = Conv(x, w) y = Clip(a, hi, lo) }}", [("a", "y", (-1, -1))]),
    (f"{X} {{ a = Conv(x, w) b = Conv(x, w) c = Add(a, b) y = Relu(c) }}",
     [("a", "a", (-INF, INF)), ("b", "b", (-INF, INF)), ("c", "y", (0, INF))]),
    (f"{X} {{ p = GlobalAveragePool(x) y = Relu(p) }}", [("p", "y", (0, INF))]),
    ("(float[N,4] x) => (y) { a = Gemm<transB = 1>(x, g) y = Relu(a) }", [("a", "y", (0, INF))]),
], ids=["none", "relu", "clip", "clip above", "clip below", "relu twice", "relu, clip", "clip, relu", "disjoint",
        "disjoint, below", "bounds exchanged behind", "bounds exchanged", "add", "mean", "gemm"])
def test_bounds(text: str, layers: list[tuple[str, str, tuple[float, float]]]) -> None:
    """Bounds one behind the other are one clip; where none is left between them, the last upper bound wins."""
    found = view(text)
    assert summary(found) == layers
    clips = {node for node in found.model.graph if node.op_type in ("Relu", "Clip")}
    assert found.fused == clips


@pytest.mark.parametrize("text", [
    f"{X} {{ a = Conv(x, w) r = Relu(a) y = Add(a, r) }}",
    "(float[N,4,5,5] x) => (y, a) { a = Conv(x, w) y = Relu(a) }",
    f"{X} {{ a = Conv(x, w) m = MaxPool<kernel_shape = [2,2]>(a) y = Relu(m) }}",
    f"{X} {{ r = Relu(x) y = Conv(r, w) }}",
], ids=["another reader", "an output", "behind a pool", "on the input"])
def test_bounds_that_stay(text: str) -> None:
    found = view(text)
    assert not found.fused
    assert all(layer.bounds == (-INF, INF) and layer.name == name_of(layer.output) for layer in found.layers)


def test_some_of_a_chain_fuse() -> None:
    """Up to the first tensor that has another reader."""
    found = view(f"{X} <{BOUNDS}> {{ a = Conv(x, w) b = Relu(a) c = Clip(b, lo, hi) y = Add(b, c) }}")
    assert summary(found)[0] == ("a", "b", (0, INF))
    assert [node.op_type for node in found.fused] == ["Relu"]


def test_quantized_tensors_in_order() -> None:
    found = view("(float[N,4,5,5] x, float[N,4,5,5] z) => (y) "
                 "{ a = Conv(x, w) b = Relu(a) m = MaxPool<kernel_shape = [1,1]>(z) s = Add(b, m) y = Flatten(s) }")
    assert [name_of(v) for v in found.quantized] == ["x", "z", "b", "s"]
    assert [[name_of(v) for v in layer.inputs] for layer in found.layers] == [["x"], ["b", "m"]]


def test_sources() -> None:
    """The requantized tensor whose exponent a tensor's codes have."""
    found = view(f"{X} {{ f = Transpose<perm = [0,1,3,2]>(x) a = Conv(f, w) r = Relu(a) "
                 "m = MaxPool<kernel_shape = [2,2]>(r) q = Relu(m) c = Concat<axis = 1>(q, m) "
                 "p = GlobalAveragePool(c) y = Flatten(p) }")
    values = {name_of(v): v for node in found.model.graph for v in node.outputs}
    sources = {name: name_of(found.source(value)) for name, value in values.items() if name != "a"}
    assert sources == {"f": "x", "r": "r", "m": "r", "q": "r", "c": "r", "p": "p", "y": "p"}
    assert found.source(found.model.graph.inputs[0]) is found.model.graph.inputs[0]
