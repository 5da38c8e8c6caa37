"""``Mul(layer(x, w, b), k) -> layer(x, w * k, b * k)``."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import factor

from .graphs import applied, declined

FIRES = {
    "Conv, one a channel": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float[4,1,1] k> { a = Conv(x, w, b) y = Mul(a, "
        "k) }",
        ["y = Conv(x, w, b)"]),
    "scalar left, no bias": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float k> { a = Conv(x, w) y = Mul(k, a) }",
        ["y = Conv(x, w)"]),
    "Gemm": (
        "(float[2,3] x) => (y) <float[4,3] w, float[4] b, float[4] k> { a = Gemm<transB = 1>(x, w, b) y = Mul(a, "
        "k) }",
        ["y = Gemm(x, w, b)"]),
    "depthwise": (
        "(float[2,3,5,5] x) => (y) <float[6,1,3,3] w, float[6] b, float[6,1,1] k> { a = Conv<group = 3>(x, w, b) y "
        "= Mul(a, k) }",
        ["y = Conv(x, w, b)"]),
    "through relu": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float[4,1,1] var> { a = Conv(x, w, b) r = "
        "Relu(a) y = Mul(r, var) }",
        ["a = Conv(x, w, b)", "y = Relu(a)"]),
    "through maxpool": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float[4,1,1] var> { a = Conv(x, w, b) r = "
        "MaxPool<kernel_shape = [2,2], pads = [1,1,0,0]>(a) y = Mul(r, var) }",
        ["a = Conv(x, w, b)", "y = MaxPool(a)"]),
    "negative through GlobalAveragePool": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float k = {-2}> { a = Conv(x, w, b) r = "
        "GlobalAveragePool(a) y = Mul(r, k) }",
        ["a = Conv(x, w, b)", "y = GlobalAveragePool(a)"]),
    "zero": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float k = {0}> { a = Conv(x, w, b) y = Mul(a, k) "
        "}",
        ["y = Conv(x, w, b)"]),
    "shared weights": (
        "(float[2,3,5,5] x) => (y, z) <float[4,3,3,3] w, float[4] b, float k> { a = Conv(x, w, b) y = Mul(a, k) z "
        "= Conv(x, w, b) }",
        ["y = Conv(x, w_2, b_2)", "z = Conv(x, w, b)"]),
    "map as sequence": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float[4,1] k, int64[3] s = {0,4,9}> { a = "
        "Conv(x, w, b) r = Reshape(a, s) y = Mul(r, k) }",
        ["a = Conv(x, w, b)", "y = Reshape(a, s)"]),
    "in front of an operator": (
        "(float[2,3,5,5] x) => (z) <float[4,3,3,3] w, float[4] b, float k> { a = Conv(x, w, b) y = Mul(a, k) z = "
        "Relu(y) }",
        ["y = Conv(x, w, b)", "z = Relu(y)"]),
}

DECLINES = {
    "negative through Relu":
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float k = {-1}> { a = Conv(x, w, b) r = Relu(a) "
        "y = Mul(r, k) }",
    "zero through Relu":
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float k = {0}> { a = Conv(x, w, b) r = Relu(a) y "
        "= Mul(r, k) }",
    "one negative channel through MaxPool":
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float[4,1,1] k = {1,2,-3,1}> { a = Conv(x, w, b) "
        "r = MaxPool<kernel_shape = [2,2]>(a) y = Mul(r, k) }",
    "layer returned":
        "(float[2,3,5,5] x) => (y, a) <float[4,3,3,3] w, float[4] b, float k> { a = Conv(x, w, b) y = Mul(a, k) }",
    "read twice":
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float k> { a = Conv(x, w, b) m = Mul(a, k) y = "
        "Add(m, a) }",
    "what lies between is returned":
        "(float[2,3,5,5] x) => (y, r) <float[4,3,3,3] w, float[4] b, float k = {2}> { a = Conv(x, w, b) r = "
        "Relu(a) y = Mul(r, k) }",
    "no layer": "(float[2,3,5,5] x) => (y) <float k> { a = Relu(x) y = Mul(a, k) }",
    "of the input": "(float[2,3,5,5] x) => (y) <float k> { y = Mul(x, k) }",
    "a number a place":
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float[3] k> { a = Conv(x, w, b) y = Mul(a, k) }",
    "flatten":
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float k> { a = Conv(x, w, b) f = Flatten(a) y = "
        "Mul(f, k) }",
    "weights that can be fed":
        "(float[2,3] x, float[1,3] w = {1,2,3}) => (y) <float k> { a = Gemm<transB = 1>(x, w) y = Mul(a, k) }",
    "another domain":
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float k> { a = Conv(x, w, b) y = custom.Mul(a, "
        "k) }",
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    applied(factor.RULE, text, after)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(factor.RULE, text)
