"""Shapes as onnx infers them, and what is left out where nothing can be inferred."""

from __future__ import annotations

import math

import onnx
import pytest
import test_errors
from hand_made import dscnn, mobilenet, resnet8
from onnx import parser

from onnxdiana.handoff.nodes import Graph

WINDOWS = """(float[1,4,9,7] x) => (float[1,4,1,1] y) <float[6,4,3,3] w, float[4,1,2,3] d> {
    a = Conv<pads=[1,0,2,1], strides=[2,1]>(x, w)
    b = Conv<auto_pad="SAME_UPPER", strides=[2,3]>(x, w)
    c = Conv<auto_pad="VALID">(x, w)
    e = Conv<group=4, dilations=[2,1]>(x, d)
    f = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)
    g = MaxPool<kernel_shape=[3,2], strides=[2,2], ceil_mode=1>(x)
    h = AveragePool<kernel_shape=[3,2], pads=[1,1,1,1]>(x)
    y = GlobalAveragePool(x)
}"""
MOVES = """(float[1,4,6,8] x) => (float[1,192] y)
    <int64[4] target = {0,-1,2,12}, int64[8] pads = {0,0,1,2,0,0,3,0}, int64[2] from = {1,-1}, int64[2] to = {100,0},
     int64[2] axes = {2,-1}, int64[2] steps = {2,-3}, int64[4] sizes = {1,4,12,24}, float[4] factors = {1,1,2,1.5},
     float[0] none, float[0] region, int64[1] first = {0}, float[8,3] w, float[5,8] v, float[3] b> {
    a = Reshape(x, target)
    c = Transpose<perm=[0,3,1,2]>(x)
    d = Transpose(x)
    e = Pad(x, pads)
    f = Slice(x, from, to, axes, steps)
    g = Resize<mode="nearest">(x, region, none, sizes)
    h = Resize<mode="nearest">(x, region, factors)
    i = Concat<axis=1>(x, x, x)
    j = Concat<axis=-1>(x, e, i)
    k = Unsqueeze(x, first)
    l = Squeeze(k, first)
    m = MatMul(x, w)
    n = Add(m, b)
    o = Relu(n)
    y = Flatten(x)
}"""
OLD = """(float[1,4,6,8] x) => (float[1,4,3,8] y) <float[4] factors = {1,1,2,1}> {
    a = Pad<pads=[0,0,1,1,0,0,1,1]>(x)
    b = Resize<mode="nearest">(x, factors)
    c = Squeeze<axes=[0]>(x)
    d = Squeeze(x)
    e = Unsqueeze<axes=[0,5]>(x)
    y = MaxPool<kernel_shape=[2,1], strides=[2,1]>(x)
}"""


def parsed(text: str, opset: int = 13) -> onnx.ModelProto:
    """The arrays without values become constants of zeros."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> main {text}')
    for value in list(model.graph.value_info):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        size = 4 * math.prod(dims)
        model.graph.initializer.add(name=value.name, data_type=1, dims=dims, raw_data=bytes(size))
    del model.graph.value_info[:]
    return model


MODELS = {
    "windows": lambda: parsed(WINDOWS), "moves": lambda: parsed(MOVES), "old": lambda: parsed(OLD, 10),
    "resnet8": resnet8, "mobilenet": mobilenet, "dscnn": dscnn,
    **{name: lambda text=text: test_errors.base(text) for name, text in test_errors.BASES.items()},
}


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_onnx_s(name):
    model = MODELS[name]()
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    expected = {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
                for value in (*inferred.value_info, *inferred.output)}
    graph = Graph(model)
    found = {name: graph.shapes[name] for node in graph.nodes for name in node.outputs}
    told = {name: shape for name, shape in expected.items() if name in found}
    assert len(told) > len(found) / 2
    assert {name: found[name] for name in told} == told
    assert graph.unfit == ()


BROKEN = {
    "Conv<group=2>(x, w)": "channels", "Conv<pads=[1]>(x, w)": "pads", "Conv<strides=[0,1]>(x, w)": "strides",
    "Conv<dilations=[9,9]>(x, w)": "window", "MaxPool<kernel_shape=[2]>(x)": "kernel", "MaxPool(x)": "no kernel",
    "Reshape(x, target)": "target", "Reshape(x)": "no target", "Reshape(x, x)": "computed target",
    "Transpose<perm=[0,1,2,9]>(x)": "perm", "Concat<axis=7>(x, x)": "axis", "MatMul(x, v)": "inner size",
    "Gemm(x, v)": "rank", "Add(x, v)": "no broadcast", "Slice(x, target, target)": "more starts than axes",
    "Pad<pads=[0,0,-9,0,0,0,0,0]>(x)": "nothing left", 'Relu<axis="x">(missing)': "unknown input",
}


@pytest.mark.parametrize("node", BROKEN, ids=BROKEN.values())
def test_what_cannot_be_inferred_is_left_out(node):
    """And what the file declares counts there."""
    text = f"""(float[1,4,9,7] x) => (float[1,4] y) <int64[5] target = {{0,0,5,0,0}}, float[6,4,3,3] w, float[3,5] v>
        {{ a = {node}  b = Relu(a)  y = Relu(b) }}"""
    graph = Graph(parsed(text))
    assert "a" not in graph.shapes
    assert "b" not in graph.shapes
    assert graph.shapes["y"] == (1, 4)
    assert [part.output for part in graph.unfit] == ([] if "missing" in node else ["a"])
