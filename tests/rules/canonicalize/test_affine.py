"""``layer(k * x + o) -> layer'(x)``."""

from __future__ import annotations

import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import affine

from .graphs import applied, declined

FIRES = {
    "factor": (
        "(float[2,3,5,5] x) => (y) <float[1,3,1,1] k, float[4,3,3,3] w> { a = Mul(x, k) y = Conv(a, w) }",
        ["y = Conv(x, w)"]),
    "offset": (
        "(float[2,3,5,5] x) => (y) <float[1,3,1,1] o, float[4,3,3,3] w, float[4] b> { a = Add(o, x) y = Conv(a, w, "
        "b) }",
        ["y = Conv(x, w, b)"]),
    "both": (
        "(float[2,3,5,5] x) => (y) <float[1,3,1,1] k, float[3,1,1] o, float[4,3,3,3] w> { a = Mul(x, k) c = Add(a, "
        "o) y = Conv(c, w) }",
        ["y = Conv(x, w, w.bias)"]),
    "offset, then factor, one number each": (
        "(float[2,3,5,5] x) => (y) <float k, float[1] o, float[4,3,3,3] w> { a = Add(x, o) c = Mul(k, a) y = "
        "Conv(c, w) }",
        ["y = Conv(x, w, w.bias)"]),
    "grouped": (
        "(float[2,4,5,5] x) => (y) <float[1,4,1,1] k, float[1,4,1,1] o, float[6,2,3,3] w> { a = Mul(x, k) c = "
        "Add(a, o) y = Conv<group = 2>(c, w) }",
        ["y = Conv(x, w, w.bias)"]),
    "depthwise": (
        "(float[2,3,5,5] x) => (y) <float[1,3,1,1] k, float[1,3,1,1] o, float[6,1,3,3] w, float[6] b> { a = Mul(x, "
        "k) c = Add(a, o) y = Conv<group = 3>(c, w, b) }",
        ["y = Conv(x, w, b)"]),
    "factor in front of a padded Conv": (
        "(float[2,3,5,5] x) => (y) <float[1,3,1,1] k, float[4,3,3,3] w> { a = Mul(x, k) y = Conv<pads = "
        "[1,1,1,1]>(a, w) }",
        ["y = Conv(x, w)"]),
    "gemm": (
        "(float[2,3] x) => (y) <float[3] k, float[3] o, float[4,3] w, float[4] b> { a = Mul(x, k) c = Add(a, o) y "
        "= Gemm<transB = 1>(c, w, b) }",
        ["y = Gemm(x, w, b)"]),
    "through Flatten: a number a channel is one a point": (
        "(float[2,3,2,2] x) => (y) <float[3,1,1] k, float[3,1,1] o, float[4,12] w> { a = Mul(x, k) c = Add(a, o) f "
        "= Flatten(c) y = Gemm<transB = 1>(f, w) }",
        ["f = Flatten(x)", "y = Gemm(f, w, w.bias)"]),
    "two layers, one weight": (
        "(float[2,3,5,5] x) => (y, z) <float[3,1,1] k, float[3,1,1] o, float[4,3,3,3] w> { a = Mul(x, k) c = "
        "Add(a, o) y = Conv(c, w) z = Conv(c, w) }",
        ["y = Conv(x, w_2, w_2.bias)", "z = Conv(x, w, w.bias)"]),
    "factor, weights shared with another layer": (
        "(float[2,3,5,5] x) => (y, z) <float[3,1,1] k, float[4,3,3,3] w, float[4] b> { a = Mul(x, k) y = Conv(a, "
        "w, b) z = Conv(x, w, b) }",
        ["y = Conv(x, w_2, b)", "z = Conv(x, w, b)"]),
    "offset, parameters shared with another layer": (
        "(float[2,3,5,5] x) => (y, z) <float[3,1,1] k, float[4,3,3,3] w, float[4] b> { a = Add(x, k) y = Conv(a, "
        "w, b) z = Conv(x, w, b) }",
        ["y = Conv(x, w_2, b_2)", "z = Conv(x, w, b)"]),
    "positive factor through Relu": (
        "(float[2,3,5,5] x) => (y) <float[3,1,1] var, float[4,3,3,3] w> { a = Mul(x, var) r = Relu(a) y = Conv(r, "
        "w) }",
        ["r = Relu(x)", "y = Conv(r, w)"]),
    "positive factor and offset through a padded MaxPool": (
        "(float[2,3,5,5] x) => (y) <float[3,1,1] var, float[3,1,1] o, float[4,3,2,2] w> { a = Mul(x, var) c = "
        "Add(a, o) r = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]>(c) y = Conv(r, w) }",
        ["r = MaxPool(x)", "y = Conv(r, w, w.bias)"]),
    "through GlobalAveragePool and Flatten": (
        "(float[2,3,5,5] x) => (y) <float[3,1,1] k, float[3,1,1] o, float[4,3] w> { a = Mul(x, k) c = Add(a, o) g "
        "= GlobalAveragePool(c) f = Flatten(g) y = Gemm<transB=1>(f, w) }",
        ["g = GlobalAveragePool(x)", "f = Flatten(g)", "y = Gemm(f, w, w.bias)"]),
    "factor through zeros": (
        "(float[2,3,5,5] x) => (y) <float[3,1,1] k, int64[8] p = {0,0,1,1,0,0,1,1}, float[4,3,3,3] w> { a = Mul(x, "
        "k) g = Pad(a, p) y = Conv(g, w) }",
        ["g = Pad(x, p)", "y = Conv(g, w)"]),
    "offset through reflection": (
        "(float[2,3,5,5] x) => (y) <float[3,1,1] o, int64[8] p = {0,0,1,1,0,0,1,1}, float[4,3,3,3] w> { a = Add(x, "
        'o) g = Pad<mode = "reflect">(a, p) y = Conv(g, w) }',
        ["g = Pad(x, p)", "y = Conv(g, w, w.bias)"]),
    "into branches": (
        "(float[2,3,5,5] x) => (y, z) <float[3,1,1] k, float[4,3,3,3] w, float[4,3] v> { a = Mul(x, k) y = Conv(a, "
        "w) g = GlobalAveragePool(a) f = Flatten(g) z = Gemm<transB = 1>(f, v) }",
        ["y = Conv(x, w)", "g = GlobalAveragePool(x)", "f = Flatten(g)", "z = Gemm(f, v)"]),
    "zero factor": (
        "(float[2,3,5,5] x) => (y) <float k = {0}, float[4,3,3,3] w> { a = Mul(x, k) y = Conv(a, w) }",
        ["y = Conv(x, w)"]),
    "1-d": (
        "(float[2,3,5] x) => (y) <float[3,1] k, float[3,1] o, float[4,3,3] w> { a = Mul(x, k) c = Add(a, o) y = "
        "Conv(c, w) }",
        ["y = Conv(x, w, w.bias)"]),
    "through a Reshape of the map": (
        "(float[2,3,5,5] x) => (y) <float[3,1,1] k, int64[3] s = {0,3,25}, float[4,3,3] w> { a = Mul(x, k) r = "
        "Reshape(a, s) y = Conv(r, w) }",
        ["r = Reshape(x, s)", "y = Conv(r, w)"]),
    "the rest of a chain that something else reads": (
        "(float[2,3,5,5] x) => (y, a) <float[3,1,1] k, float[3,1,1] o, float[4,3,3,3] w> { a = Mul(x, k) c = "
        "Add(a, o) y = Conv(c, w) }",
        ["a = Mul(x, k)", "y = Conv(a, w, w.bias)"]),
    "through Flatten of one channel": (
        "(float[2,1,1,4] x) => (y) <float k, float o, float[3,4] w> { a = Mul(x, k) c = Add(a, o) f = Flatten(c) y "
        "= Gemm<transB = 1>(f, w) }",
        ["f = Flatten(x)", "y = Gemm(f, w, w.bias)"]),
    "through Flatten of sequences of one": (
        "(float[2,3,1] x) => (y) <float[3,1] k, float[3,1] o, float[4,3] w> { a = Mul(x, k) c = Add(a, o) f = "
        "Flatten(c) y = Gemm<transB = 1>(f, w) }",
        ["f = Flatten(x)", "y = Gemm(f, w, w.bias)"]),
}

DECLINES = {
    "offset in front of a padded Conv":
        "(float[2,3,5,5] x) => (y) <float[1,3,1,1] o, float[4,3,3,3] w> { a = Add(x, o) y = Conv<pads = "
        "[1,1,1,1]>(a, w) }",
    "offset in front of SAME padding":
        "(float[2,3,5,5] x) => (y) <float[1,3,1,1] o, float[4,3,3,3] w> { a = Add(x, o) y = Conv<auto_pad = "
        '"SAME_UPPER">(a, w) }',
    "negative factor through Relu":
        "(float[2,3,5,5] x) => (y) <float k = {-1}, float[4,3,3,3] w> { a = Mul(x, k) r = Relu(a) y = Conv(r, w) }",
    "factor 0 through Relu":
        "(float[2,3,5,5] x) => (y) <float k = {0}, float[4,3,3,3] w> { a = Mul(x, k) r = Relu(a) y = Conv(r, w) }",
    "offset through Relu":
        "(float[2,3,5,5] x) => (y) <float k = {1}, float[4,3,3,3] w> { a = Add(x, k) r = Relu(a) y = Conv(r, w) }",
    "one negative channel through MaxPool":
        "(float[2,3,5,5] x) => (y) <float[3,1,1] k = {1,-1,1}, float[4,3,3,3] w> { a = Mul(x, k) r = "
        "MaxPool<kernel_shape = [2,2]>(a) y = Conv(r, w) }",
    "MaxPool with indices":
        "(float[2,3,5,5] x) => (y, i) <float k = {2}, float[4,3,3,3] w> { a = Mul(x, k) r, i = "
        "MaxPool<kernel_shape = [2,2]>(a) y = Conv(r, w) }",
    "graph output": "(float[2,3,5,5] x) => (y, a) <float k, float[4,3,3,3] w> { a = Mul(x, k) y = Conv(a, w) }",
    "output behind relu":
        "(float[2,3,5,5] x) => (y, r) <float k = {2}, float[4,3,3,3] w> { a = Mul(x, k) r = Relu(a) y = Conv(r, w) "
        "}",
    "other reader":
        "(float[2,3,5,5] x) => (y, z) <float k, float[4,3,3,3] w> { a = Mul(x, k) y = Conv(a, w) z = Sigmoid(a) }",
    "offset through zeros":
        "(float[2,3,5,5] x) => (y) <float[3,1,1] o, int64[8] p = {0,0,1,1,0,0,1,1}, float[4,3,3,3] w> { a = Add(x, "
        "o) g = Pad(a, p) y = Conv(g, w) }",
    "factor through ones":
        "(float[2,3,5,5] x) => (y) <float[3,1,1] o, float v = {1}, int64[8] p = {0,0,1,1,0,0,1,1}, float[4,3,3,3] "
        "w> { a = Mul(x, o) g = Pad(a, p, v) y = Conv(g, w) }",
    "channels padded":
        "(float[2,3,5,5] x) => (y) <float[3,1,1] o, int64[8] p = {0,1,0,0,0,0,0,0}, float[4,4,3,3] w> { a = Mul(x, "
        "o) g = Pad(a, p) y = Conv(g, w) }",
    "a number a place": "(float[2,3,5,5] x) => (y) <float[5] k, float[4,3,3,3] w> { a = Mul(x, k) y = Conv(a, w) }",
    "factors that make channels":
        "(float[2,1,5,5] x) => (y) <float[3,1,1] k, float[4,3,3,3] w> { a = Mul(x, k) y = Conv(a, w) }",
    "factors of more axes":
        "(float[3,5,5] x) => (y) <float[2,3,1,1] k, float[4,3,3,3] w> { a = Mul(x, k) y = Conv(a, w) }",
    "computed weight":
        "(float[2,3,5,5] x, float[4,3,3,3] v) => (y) <float k> { a = Mul(x, k) w = Relu(v) y = Conv(a, w) }",
    "a factor that can be fed":
        "(float[2,3,5,5] x, float k = {2}) => (y) <float[4,3,3,3] w> { a = Mul(x, k) y = Conv(a, w) }",
    "the weights themselves":
        "(float[4,3,3,3] x, float[2,3,5,5] z) => (y) <float k> { a = Mul(x, k) y = Conv(z, a) }",
    "gemm transB 0": "(float[2,3] x) => (y) <float[3] k, float[3,4] w> { a = Mul(x, k) y = Gemm(a, w) }",
    "not a number": "(float[2,3,5,5] x) => (y) <float k = {nan}, float[4,3,3,3] w> { a = Mul(x, k) y = Conv(a, w) }",
    "part of a table":
        "(float[2,3,5,5] x) => (y) <float k = {2}, float[4,3,3,3] w> { s = Sigmoid(x) a = Mul(s, k) y = Conv(a, w) "
        "}",
    "reshape mixes channels":
        "(float[2,4,2,2] x) => (y) <float[4,1,1] k, int64[4] s = {0,2,4,2}, float[4,2,1,1] w> { a = Mul(x, k) r = "
        "Reshape(a, s) y = Conv(r, w) }",
    "another domain": "(float[2,3,5,5] x) => (y) <float k, float[4,3,3,3] w> { a = custom.Mul(x, k) y = Conv(a, w) }",
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    applied(affine.RULE, text, after)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(affine.RULE, text)


def test_each_input_channel_has_its_own_factor_and_offset() -> None:
    text = ("(float[1,4,1,1] x) => (y) <float[1,4,1,1] k = {1,2,3,4}, float[1,4,1,1] o = {5,6,7,8}, "
            "float[2,2,1,1] w = {1,1,1,1}> { a = Mul(x, k) c = Add(a, o) y = Conv<group = 2>(c, w) }")
    model = applied(affine.RULE, text, ["y = Conv(x, w, w.bias)"])
    w, b = (graph.required_constant(model.graph.initializers[name]) for name in ("w", "w.bias"))
    assert w.reshape(-1).tolist() == [1.0, 2.0, 3.0, 4.0]
    assert b.tolist() == [11.0, 15.0]
