"""``BatchNormalization(layer(x, w, b)) -> layer(x, w * k, (b - mean) * k + beta)``."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import batch_norm

from .graphs import applied, attributes, declined, parse

NORM = "y = BatchNormalization(a, g, o, m, var)"
CONV = ["y = Conv(x, w, w.bias)"]
CONV_BIAS = ["y = Conv(x, w, b)"]
GEMM = ["y = Gemm(x, w, w.bias)"]
GEMM_BIAS = ["y = Gemm(x, w, b)"]
N3 = "float[3] g, float[3] o, float[3] m, float[3] var"
N4 = "float[4] g, float[4] o, float[4] m, float[4] var"

FIRES = {
    "conv": (f"(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, {N4}> {{ a = Conv(x, w) {NORM} }}", CONV),
    "conv, bias": (
        f"(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, {N4}> "
        f"{{ a = Conv(x, w, b) {NORM} }}", CONV_BIAS),
    "conv, bias explicitly empty": (
        f'(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, {N4}> {{ a = Conv(x, w, "") {NORM} }}', CONV),
    "conv, weight as high as wide as deep": (
        f"(float[2,3,5,5] x) => (y) <float[3,3,3,3] w, {N3}> {{ a = Conv(x, w) {NORM} }}", CONV),
    "conv, groups": (
        f"(float[2,6,5,5] x) => (y) <float[4,3,3,3] w, {N4}> {{ a = Conv<group = 2>(x, w) {NORM} }}", CONV),
    "conv, depthwise": (
        f"(float[2,4,5,5] x) => (y) <float[4,1,3,3] w, {N4}> {{ a = Conv<group = 4>(x, w) {NORM} }}", CONV),
    "conv, pads": (
        f"(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] b, {N4}> "
        f"{{ a = Conv<pads = [1,1,1,1]>(x, w, b) {NORM} }}",
        CONV_BIAS),
    "conv in 1-d": (f"(float[2,3,5] x) => (y) <float[4,3,3] w, {N4}> {{ a = Conv(x, w) {NORM} }}", CONV),
    "conv in 3-d": (f"(float[2,3,4,4,4] x) => (y) <float[4,3,2,2,2] w, {N4}> {{ a = Conv(x, w) {NORM} }}", CONV),
    "gemm": (f"(float[2,5] x) => (y) <float[3,5] w, {N3}> {{ a = Gemm<transB = 1>(x, w) {NORM} }}", GEMM),
    "gemm, bias": (
        f"(float[2,5] x) => (y) <float[3,5] w, float[3] b, {N3}> {{ a = Gemm<transB = 1>(x, w, b) {NORM} }}",
        GEMM_BIAS),
    "gemm, square weight": (
        f"(float[2,3] x) => (y) <float[3,3] w, float[3] b, {N3}> {{ a = Gemm<transB = 1>(x, w, b) {NORM} }}",
        GEMM_BIAS),
    "epsilon": (
        f"(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, {N4}> "
        "{ a = Conv(x, w) y = BatchNormalization<epsilon = 0.5>(a, g, o, m, var) }", CONV),
    "zero variance": (
        "(float[2,3,5,5] x) => (y) <float[2,3,1,1] w, float[2] g, float[2] v = {1,0}> "
        "{ a = Conv(x, w) y = BatchNormalization(a, g, g, g, v) }", CONV),
    "momentum and training_mode 0": (
        f"(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, {N4}> "
        "{ a = Conv(x, w) y = BatchNormalization<momentum = 0.5, training_mode = 0>(a, g, o, m, var) }", CONV),
    "one of the parameters twice": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] var> "
        "{ a = Conv(x, w) y = BatchNormalization(a, var, var, var, var) }", CONV),
    "the bias is a parameter": (
        "(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, float[4] var> "
        "{ a = Conv(x, w, var) y = BatchNormalization(a, var, var, var, var) }", ["y = Conv(x, w, var_2)"]),
}

DECLINES = {
    "training mode": f"(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, {N4}> "
                     "{ a = Conv(x, w) y = BatchNormalization<training_mode = 1>(a, g, o, m, var) }",
    "training mode, statistics read":
        f"(float[2,3,5,5] x) => (y, s, t) <float[4,3,3,3] w, {N4}> "
        "{ a = Conv(x, w) y, s, t = BatchNormalization<training_mode = 1>(a, g, o, m, var) }",
    "negative variance": "(float[2,3,5,5] x) => (y) <float[2,3,1,1] w, float[2] g, float[2] v = {1,-0.5}> "
                         "{ a = Conv(x, w) y = BatchNormalization(a, g, g, g, v) }",
    "conv read by another node":
        f"(float[2,3,5,5] x) => (y, z) <float[4,3,3,3] w, {N4}> "
        f"{{ a = Conv(x, w) {NORM} z = Relu(a) }}",
    "conv is an output": f"(float[2,3,5,5] x) => (a, y) <float[4,3,3,3] w, {N4}> {{ a = Conv(x, w) {NORM} }}",
    "no layer": f"(float[2,3,5,5] x) => (y) <{N3}> {{ a = Relu(x) {NORM} }}",
    "on the input": f"(float[2,3,5,5] a) => (y) <{N3}> {{ {NORM} }}",
    "transposed convolution":
        f"(float[2,4,5,5] x) => (y) <float[4,3,2,2] w, {N3}> "
        f"{{ a = ConvTranspose(x, w) {NORM} }}",
    "transposed convolution, square weight":
        f"(float[2,3,5,5] x) => (y) <float[3,3,2,2] w, {N3}> "
        f"{{ a = ConvTranspose(x, w) {NORM} }}",
    "matmul": f"(float[2,5] x) => (y) <float[5,3] w, {N3}> {{ a = MatMul(x, w) {NORM} }}",
    "gemm, weight not transposed": f"(float[2,3] x) => (y) <float[3,3] w, {N3}> {{ a = Gemm(x, w) {NORM} }}",
    "gemm, alpha": f"(float[2,5] x) => (y) <float[3,5] w, {N3}> {{ a = Gemm<transB = 1, alpha = 2.0>(x, w) {NORM} }}",
    "gemm, beta":
        f"(float[2,5] x) => (y) <float[3,5] w, float[3] b, {N3}> "
        f"{{ a = Gemm<transB = 1, beta = 2.0>(x, w, b) {NORM} }}",
    "gemm, beta of no bias":
        f"(float[2,5] x) => (y) <float[3,5] w, {N3}> "
        f"{{ a = Gemm<transB = 1, beta = 2.0>(x, w) {NORM} }}",
    "gemm, transA": f"(float[5,2] x) => (y) <float[3,5] w, {N3}> {{ a = Gemm<transA = 1, transB = 1>(x, w) {NORM} }}",
    "gemm, scalar bias":
        f"(float[2,5] x) => (y) <float[3,5] w, float b, {N3}> "
        f"{{ a = Gemm<transB = 1>(x, w, b) {NORM} }}",
    "gemm, bias a sample":
        f"(float[2,5] x) => (y) <float[3,5] w, float[2,3] b, {N3}> "
        f"{{ a = Gemm<transB = 1>(x, w, b) {NORM} }}",
    "weight can be fed": f"(float[2,1,5,5] x, float[3,1,1,1] w = {{1,2,3}}) => (y) <{N3}> {{ a = Conv(x, w) {NORM} }}",
    "bias can be fed":
        f"(float[2,1,5,5] x, float[3] b = {{1,2,3}}) => (y) <float[3,1,1,1] w, {N3}> "
        f"{{ a = Conv(x, w, b) {NORM} }}",
    "weight computed": f"(float[2,3,5,5] x, float[4,3,1,1] v) => (y) <{N4}> {{ w = Relu(v) a = Conv(x, w) {NORM} }}",
    "bias computed":
        f"(float[2,3,5,5] x, float[4] v) => (y) <float[4,3,1,1] w, {N4}> "
        f"{{ b = Relu(v) a = Conv(x, w, b) {NORM} }}",
    "conv of another domain": f"(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, {N4}> {{ a = custom.Conv(x, w) {NORM} }}",
    "normalization of another domain": f"(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, {N4}> "
                                       "{ a = Conv(x, w) y = custom.BatchNormalization(a, g, o, m, var) }",
    **{f"{role} can be fed": f"(float[2,3,5,5] x, float[3] {name} = {{1,2,3}}) => (y) <float[3,3,3,3] w, "
                             + ", ".join(f"float[3] {other}" for other in ("g", "o", "m", "var") if other != name)
                             + f"> {{ a = Conv(x, w) {NORM} }}"
       for role, name in {"scale": "g", "offset": "o", "mean": "m", "variance": "var"}.items()},
}

SHARED = {
    "weight, by two normalized layers": (
        f"(float[2,3,5,5] x) => (z) <float[3,3,1,1] w, {N3}> "
        f"{{ a = Conv(x, w) {NORM} c = Conv(y, w) z = BatchNormalization(c, o, g, m, var) }}",
        ["y = Conv(x, w_2, w.bias)", "z = Conv(y, w_3, w.bias_2)"], 2),
    "weight, by a layer that is not normalized": (
        f"(float[2,3,5,5] x) => (z) <float[3,3,1,1] w, {N3}> {{ a = Conv(x, w) {NORM} z = Conv(y, w) }}",
        ["y = Conv(x, w_2, w.bias)", "z = Conv(y, w)"], 1),
    "bias": (
        f"(float[2,3,5,5] x) => (z) <float[3,3,1,1] v, float[3,3,1,1] w, float[3] b, {N3}> "
        f"{{ a = Conv(x, v, b) {NORM} z = Conv(y, w, b) }}",
        ["y = Conv(x, v, b_2)", "z = Conv(y, w, b)"], 1),
    "weight that is returned": (
        f"(float[2,3,5,5] x) => (y, w) <float[3,3,1,1] w, {N3}> {{ a = Conv(x, w) {NORM} }}",
        ["y = Conv(x, w_2, w.bias)"], 1),
    "bias that is returned": (
        f"(float[2,3,5,5] x) => (y, b) <float[3,3,1,1] w, float[3] b, {N3}> {{ a = Conv(x, w, b) {NORM} }}",
        ["y = Conv(x, w, b_2)"], 1),
    "the new bias's name, by an initializer in use": (
        f'(float[2,3,5,5] x) => (z) <float[3,3,1,1] w, float[1,3,1,1] "w.bias", {N3}> '
        f'{{ a = Conv(x, w) {NORM} z = Mul(y, "w.bias") }}',
        ["y = Conv(x, w, w.bias_2)", "z = Mul(y, w.bias)"], 1),
    "the name that onnxscript's own rule gives": (
        f"(float[2,3,5,5] x) => (z) <float[3,3,1,1] w, float[1,3,1,1] w_bias, {N3}> "
        f"{{ a = Conv(x, w) {NORM} z = Mul(y, w_bias) }}",
        ["y = Conv(x, w, w.bias)", "z = Mul(y, w_bias)"], 1),
    "the new bias's name, by an input": (
        f'(float[2,3,5,5] x, float[1,3,1,1] "w.bias") => (z) <float[3,3,1,1] w, {N3}> '
        f'{{ a = Conv(x, w) {NORM} z = Mul(y, "w.bias") }}',
        ["y = Conv(x, w, w.bias_2)", "z = Mul(y, w.bias)"], 1),
    "the new bias's name, by a tensor": (
        f'(float[2,3,5,5] x) => (z) <float[3,3,1,1] w, {N3}> '
        f'{{ "w.bias" = Relu(x) a = Conv("w.bias", w) {NORM} z = Relu(y) }}',
        ["w.bias = Relu(x)", "y = Conv(w.bias, w, w.bias_2)", "z = Relu(y)"], 1),
    "normalized tensor, by two readers and as output": (
        f"(float[2,3,5,5] x) => (y, z) <float[3,3,1,1] w, {N3}> {{ a = Conv(x, w) {NORM} b = Relu(y) z = Add(b, y) }}",
        ["y = Conv(x, w, w.bias)", "b = Relu(y)", "z = Add(b, y)"], 1),
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    model = applied(batch_norm.RULE, text, after)
    assert attributes(model, "y") == attributes(parse(text), "a")
    assert len(model.graph.initializers) == 2


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(batch_norm.RULE, text)


@pytest.mark.parametrize(("text", "after", "count"), SHARED.values(), ids=SHARED)
def test_shared_constants_and_names(text: str, after: list[str], count: int) -> None:
    applied(batch_norm.RULE, text, after, count)


def test_statistics_that_nothing_reads_are_no_training() -> None:
    # not legal at this opset (onnxruntime refuses it), but what a raised opset 9 model looks like
    model = parse(f"(float[2,3,5,5] x) => (y) <float[4,3,3,3] w, {N4}> "
                  "{ a = Conv(x, w) y, s, t = BatchNormalization(a, g, o, m, var) }")
    assert batch_norm.RULE.apply(model) == 1
    read = parse(f"(float[2,3,5,5] x) => (y, s) <float[4,3,3,3] w, {N4}> "
                 "{ a = Conv(x, w) y, s, t = BatchNormalization(a, g, o, m, var) }")
    assert batch_norm.RULE.apply(read) == 0


def test_geometry_of_the_layer_stays() -> None:
    geometry = "dilations = [1,2], group = 3, kernel_shape = [3,2], pads = [1,0,2,1], strides = [2,1]"
    model = applied(batch_norm.RULE, f"(float[2,3,5,6] x) => (y) <float[3,1,3,2] w, {N3}> "
                                     f"{{ a = Conv<{geometry}>(x, w) {NORM} }}", CONV)
    assert attributes(model, "y") == {"dilations": [1, 2], "group": 3, "kernel_shape": [3, 2], "pads": [1, 0, 2, 1],
                                      "strides": [2, 1]}
