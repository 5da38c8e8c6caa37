"""``Add(layer(x, w, b), c) -> layer(x, w, b + c)``."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import bias

from .graphs import applied, attributes, declined, lines, parse

CONV = ["y = Conv(x, w, w.bias)"]
CONV_BIAS = ["y = Conv(x, w, b)"]
GEMM = ["y = Gemm(x, w, w.bias)"]
GEMM_BIAS = ["y = Gemm(x, w, b)"]

FIRES = {
    "conv, (C, 1, 1)": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4,1,1] c> { a = Conv(x, w) y = Add(a, c) }", CONV),
    "conv, (1, C, 1, 1)": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[1,4,1,1] c> { a = Conv(x, w) y = Add(a, c) }", CONV),
    "conv, scalar": ("(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float c> { a = Conv(x, w) y = Add(a, c) }", CONV),
    "conv, (1,)": ("(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[1] c> { a = Conv(x, w) y = Add(a, c) }", CONV),
    "conv, (1, 1, 1, 1)": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[1,1,1,1] c> { a = Conv(x, w) y = Add(a, c) }", CONV),
    "conv, constant on the left": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4,1,1] c> { a = Conv(x, w) y = Add(c, a) }", CONV),
    "conv, bias there": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, float[4,1,1] c> { a = Conv(x, w, b) y = Add(a, c) }",
        CONV_BIAS),
    "conv, bias explicitly empty": (
        '(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4,1,1] c> { a = Conv(x, w, "") y = Add(a, c) }', CONV),
    "conv, one output channel": (
        "(float[2,3,5,5] x) => (y) <float[1,3,3,3] w, float[1,1,1] c> { a = Conv(x, w) y = Add(a, c) }", CONV),
    "conv in 1-d": (
        "(float[2,3,5] x) => (y) <float[4,3,3] w, float[4,1] c> { a = Conv(x, w) y = Add(a, c) }", CONV),
    "conv, depthwise": (
        "(float[2,4,5,5] x) => (y) <float[4,1,3,3] w, float[4,1,1] c> { a = Conv<group = 4>(x, w) y = Add(a, c) }",
        CONV),
    "gemm, (M,)": (
        "(float[2,5] x) => (y) <float[3,5] w, float[3] c> { a = Gemm<transB = 1>(x, w) y = Add(a, c) }", GEMM),
    "gemm, (1, M)": (
        "(float[2,5] x) => (y) <float[3,5] w, float[1,3] c> { a = Gemm<transB = 1>(x, w) y = Add(a, c) }", GEMM),
    "gemm, scalar": (
        "(float[2,5] x) => (y) <float[3,5] w, float c> "
        "{ a = Gemm<transB = 1>(x, w) y = Add(a, c) }", GEMM),
    "gemm, constant on the left": (
        "(float[2,5] x) => (y) <float[3,5] w, float[3] c> { a = Gemm<transB = 1>(x, w) y = Add(c, a) }", GEMM),
    "gemm, bias there": (
        "(float[2,5] x) => (y) <float[3,5] w, float[3] b, float[3] c> { a = Gemm<transB = 1>(x, w, b) y = Add(a, c) }",
        GEMM_BIAS),
    "weight equals the constant": (
        "(float[2,1,5,5] x) => (y) <float[1,1,1,1] w> { a = Conv(x, w) y = Add(a, w) }", CONV),
}

DECLINES = {
    "conv, (C,) lies along the width":
        "(float[2,3,4,4] x) => (y) <float[4,3,1,1] w, float[4] c> "
        "{ a = Conv(x, w) y = Add(a, c) }",
    "conv, (H, 1)": "(float[2,3,4,4] x) => (y) <float[4,3,1,1] w, float[4,1] c> { a = Conv(x, w) y = Add(a, c) }",
    "conv, a number a pixel":
        "(float[2,3,4,4] x) => (y) <float[4,3,1,1] w, float[4,4,4] c> "
        "{ a = Conv(x, w) y = Add(a, c) }",
    "conv, a number a sample":
        "(float[2,3,4,4] x) => (y) <float[4,3,1,1] w, float[2,1,1,1] c> "
        "{ a = Conv(x, w) y = Add(a, c) }",
    "conv, a number a sample, as many as channels":
        "(float[4,3,4,4] x) => (y) <float[4,3,1,1] w, float[4,1,1,1] c> { a = Conv(x, w) y = Add(a, c) }",
    "conv, a fifth axis of size 1":
        "(float[2,3,4,4] x) => (y) <float[4,3,1,1] w, float[1,1,1,1,1] c> { a = Conv(x, w) y = Add(a, c) }",
    "conv, one channel becomes many":
        "(float[2,3,4,4] x) => (y) <float[1,3,1,1] w, float[5,1,1] c> "
        "{ a = Conv(x, w) y = Add(a, c) }",
    "conv, a fifth axis":
        "(float[2,3,4,4] x) => (y) <float[4,3,1,1] w, float[1,1,4,1,1] c> "
        "{ a = Conv(x, w) y = Add(a, c) }",
    "gemm, a number a sample":
        "(float[2,5] x) => (y) <float[3,5] w, float[2,1] c> "
        "{ a = Gemm<transB = 1>(x, w) y = Add(a, c) }",
    "gemm, a number a sample, as many as outputs":
        "(float[3,5] x) => (y) <float[3,5] w, float[3,1] c> { a = Gemm<transB = 1>(x, w) y = Add(a, c) }",
    "gemm, a third axis":
        "(float[2,5] x) => (y) <float[3,5] w, float[1,1,3] c> "
        "{ a = Gemm<transB = 1>(x, w) y = Add(a, c) }",
    "gemm, weight not transposed": "(float[2,5] x) => (y) <float[5,5] w, float[5] c> { a = Gemm(x, w) y = Add(a, c) }",
    "gemm, scaled bias": "(float[2,5] x) => (y) <float[3,5] w, float[3] b, float[3] c> "
                         "{ a = Gemm<transB = 1, beta = 2.0>(x, w, b) y = Add(a, c) }",
    "gemm, scale of no bias": "(float[2,5] x) => (y) <float[3,5] w, float[3] c> "
                              "{ a = Gemm<transB = 1, beta = 2.0>(x, w) y = Add(a, c) }",
    "gemm, bias a sample": "(float[2,5] x) => (y) <float[3,5] w, float[2,3] b, float[3] c> "
                           "{ a = Gemm<transB = 1>(x, w, b) y = Add(a, c) }",
    "layer read by another node": "(float[2,3,4,4] x) => (y) <float[4,3,1,1] w, float[4,1,1] c> "
                                  "{ a = Conv(x, w) b = Add(a, c) y = Add(b, a) }",
    "layer added to itself": "(float[2,3,4,4] x) => (y) <float[4,3,1,1] w> { a = Conv(x, w) y = Add(a, a) }",
    "layer is an output":
        "(float[2,3,4,4] x) => (a, y) <float[4,3,1,1] w, float[4,1,1] c> "
        "{ a = Conv(x, w) y = Add(a, c) }",
    "two layers":
        "(float[2,3,4,4] x) => (y) <float[4,3,1,1] v, float[4,3,1,1] w> "
        "{ a = Conv(x, v) b = Conv(x, w) y = Add(a, b) }",
    "no layer": "(float[2,4,4,4] x) => (y) <float[4,1,1] c> { a = Relu(x) y = Add(a, c) }",
    "transposed convolution":
        "(float[2,3,4,4] x) => (y) <float[3,3,1,1] w, float[3,1,1] c> "
        "{ a = ConvTranspose(x, w) y = Add(a, c) }",
    "constant can be fed":
        "(float[2,3,4,4] x, float[3,1,1] c = {1,2,3}) => (y) <float[3,3,1,1] w> "
        "{ a = Conv(x, w) y = Add(a, c) }",
    "constant computed":
        "(float[2,3,4,4] x, float[3,1,1] v) => (y) <float[3,3,1,1] w> "
        "{ a = Conv(x, w) c = Relu(v) y = Add(a, c) }",
    "weight can be fed":
        "(float[2,1,4,4] x, float[1,1,1,1] w = {2}) => (y) <float[1] c> "
        "{ a = Conv(x, w) y = Add(a, c) }",
    "weight computed":
        "(float[2,3,4,4] x, float[3,3,1,1] v) => (y) <float[3,1,1] c> "
        "{ w = Relu(v) a = Conv(x, w) y = Add(a, c) }",
    "bias can be fed":
        "(float[2,1,4,4] x, float[1] b = {2}) => (y) <float[1,1,1,1] w, float c> "
        "{ a = Conv(x, w, b) y = Add(a, c) }",
    "bias computed":
        "(float[2,3,4,4] x, float[3] v) => (y) <float[3,3,1,1] w, float c> "
        "{ b = Relu(v) a = Conv(x, w, b) y = Add(a, c) }",
    "difference, not sum": "(float[2,3,4,4] x) => (y) <float[3,3,1,1] w, float c> { a = Conv(x, w) y = Sub(a, c) }",
    "layer of another domain":
        "(float[2,3,4,4] x) => (y) <float[3,3,1,1] w, float c> "
        "{ a = custom.Conv(x, w) y = Add(a, c) }",
    "sum of another domain":
        "(float[2,3,4,4] x) => (y) <float[3,3,1,1] w, float c> "
        "{ a = Conv(x, w) y = custom.Add(a, c) }",
}

SHARED = {
    "weight, no biases": (
        "(float[2,3,5,5] x) => (y) <float[3,3,1,1] w, float[3,1,1] c> { a = Conv(x, w) b = Add(a, c) y = Conv(b, w) }",
        ["b = Conv(x, w, w.bias)", "y = Conv(b, w)"], 1),
    "bias": (
        "(float[2,3,5,5] x) => (y) <float[3,3,1,1] w, float[3] b, float[3,1,1] c> "
        "{ a = Conv(x, w, b) d = Add(a, c) y = Conv(d, w, b) }",
        ["d = Conv(x, w, b_2)", "y = Conv(d, w, b)"], 1),
    "constant": (
        "(float[2,3,5,5] x) => (y) <float[3,3,1,1] w, float[3,1,1] c> "
        "{ a = Conv(x, w) b = Add(a, c) d = Conv(b, w) y = Add(d, c) }",
        ["b = Conv(x, w, w.bias)", "y = Conv(b, w, w.bias_2)"], 2),
    "the name of the new bias, by an initializer": (
        '(float[2,3,5,5] x) => (y) <float[3,3,1,1] w, float[3,1,1] "w.bias"> '
        '{ a = Conv(x, w) b = Add(a, "w.bias") y = Mul(b, "w.bias") }',
        ["b = Conv(x, w, w.bias_2)", "y = Mul(b, w.bias)"], 1),
    "the name of the new bias, by a tensor": (
        '(float[2,3,5,5] x) => (y, "w.bias") <float[3,3,1,1] w, float[3,1,1] c> '
        '{ a = Conv(x, w) y = Add(a, c) "w.bias" = Relu(y) }',
        ["y = Conv(x, w, w.bias_2)", "w.bias = Relu(y)"], 1),
    "the name of the new bias, by an inner tensor": (
        '(float[2,3,5,5] x) => (z) <float[3,3,1,1] w, float[3,1,1] c> '
        '{ a = Conv(x, w) y = Add(a, c) "w.bias" = Relu(y) z = Neg("w.bias") }',
        ["y = Conv(x, w, w.bias_2)", "w.bias = Relu(y)", "z = Neg(w.bias)"], 1),
    "a bias that is returned": (
        "(float[2,3,5,5] x) => (y, b) <float[3,3,1,1] w, float[3] b, float[3,1,1] c> "
        "{ a = Conv(x, w, b) y = Add(a, c) }",
        ["y = Conv(x, w, b_2)"], 1),
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    model = applied(bias.RULE, text, after)
    assert attributes(model, "y") == attributes(parse(text), "a")


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(bias.RULE, text)


@pytest.mark.parametrize(("text", "after", "count"), SHARED.values(), ids=SHARED)
def test_shared_constants_and_names(text: str, after: list[str], count: int) -> None:
    applied(bias.RULE, text, after, count)


def test_geometry_of_the_layer_stays() -> None:
    geometry = "dilations = [1,2], group = 3, kernel_shape = [3,2], pads = [1,0,2,1], strides = [2,1]"
    text = ("(float[2,3,5,6] x) => (y) <float[3,1,3,2] w, float[3,1,1] c> "
            f"{{ a = Conv<{geometry}>(x, w) y = Add(a, c) }}")
    model = applied(bias.RULE, text, CONV)
    assert attributes(model, "y") == {"dilations": [1, 2], "group": 3, "kernel_shape": [3, 2], "pads": [1, 0, 2, 1],
                                      "strides": [2, 1]}


def test_two_constants_one_after_the_other() -> None:
    text = ("(float[2,3,4,4] x) => (y) <float[4,3,1,1] w, float[4,1,1] c, float[4,1,1] d> "
            "{ a = Conv(x, w) b = Add(a, c) y = Add(b, d) }")
    model = applied(bias.RULE, text, CONV, count=2)
    assert lines(model) == CONV
