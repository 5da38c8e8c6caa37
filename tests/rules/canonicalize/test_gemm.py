"""``alpha * x @ op(w) + beta * c -> x @ w'.T + b``."""

from __future__ import annotations

import numpy as np
import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import gemm

from .graphs import applied, attributes, declined

FIRES = {
    "weight as it is multiplied": "(float[2,5] x) => (y) <float[5,3] w, float[3] b> { y = Gemm(x, w, b) }",
    "transB written as 0": "(float[2,5] x) => (y) <float[5,3] w, float[3] b> { y = Gemm<transB = 0>(x, w, b) }",
    "square weight": "(float[2,5] x) => (y) <float[5,5] w, float[5] b> { y = Gemm(x, w, b) }",
    "alpha": "(float[2,5] x) => (y) <float[3,5] w, float[3] b> { y = Gemm<transB = 1, alpha = 0.3>(x, w, b) }",
    "beta": "(float[2,5] x) => (y) <float[3,5] w, float[3] b> { y = Gemm<transB = 1, beta = -0.7>(x, w, b) }",
    "everything": "(float[2,5] x) => (y) <float[5,3] w, float[3] b> { y = Gemm<alpha = 0.3, beta = 2.5>(x, w, b) }",
    "beta is 0": "(float[2,5] x) => (y) <float[5,3] w, float[3] b> { y = Gemm<beta = 0.0>(x, w, b) }",
    "bias (1, M)": "(float[2,5] x) => (y) <float[3,5] w, float[1,3] b> { y = Gemm<transB = 1>(x, w, b) }",
    "bias (1,)": "(float[2,5] x) => (y) <float[3,5] w, float[1] b> { y = Gemm<transB = 1>(x, w, b) }",
    "bias (1, 1)": "(float[2,5] x) => (y) <float[3,5] w, float[1,1] b> { y = Gemm<transB = 1>(x, w, b) }",
    "scalar bias": "(float[2,5] x) => (y) <float[3,5] w, float b> { y = Gemm<transB = 1>(x, w, b) }",
    "scalar bias, transposed and scaled":
        "(float[2,5] x) => (y) <float[5,3] w, float b> "
        "{ y = Gemm<beta = 3.0>(x, w, b) }",
    "one output": "(float[2,5] x) => (y) <float[5,1] w, float[1,1] b> { y = Gemm(x, w, b) }",
    "no bias": "(float[2,5] x) => (y) <float[5,3] w> { y = Gemm(x, w) }",
    "no bias, beta": "(float[2,5] x) => (y) <float[3,5] w> { y = Gemm<transB = 1, beta = 0.5>(x, w) }",
    "bias explicitly empty": '(float[2,5] x) => (y) <float[5,3] w> { y = Gemm<alpha = 2.0>(x, w, "") }',
}

DECLINES = {
    "canonical": "(float[2,5] x) => (y) <float[3,5] w, float[3] b> { y = Gemm<transB = 1>(x, w, b) }",
    "canonical, all attributes": "(float[2,5] x) => (y) <float[3,5] w, float[3] b> "
                                 "{ y = Gemm<alpha = 1.0, beta = 1.0, transA = 0, transB = 1>(x, w, b) }",
    "canonical, no bias": "(float[2,5] x) => (y) <float[3,5] w> { y = Gemm<transB = 1>(x, w) }",
    "canonical, bias explicitly empty": '(float[2,5] x) => (y) <float[3,5] w> { y = Gemm<transB = 1>(x, w, "") }',
    "transA": "(float[5,2] x) => (y) <float[5,3] w, float[3] b> { y = Gemm<transA = 1>(x, w, b) }",
    "bias a sample": "(float[2,5] x) => (y) <float[5,3] w, float[2,1] b> { y = Gemm(x, w, b) }",
    "bias a sample and output": "(float[2,5] x) => (y) <float[5,3] w, float[2,3] b> { y = Gemm(x, w, b) }",
    "bias of a wrong length": "(float[2,5] x) => (y) <float[5,3] w, float[2] b> { y = Gemm(x, w, b) }",
    "weight can be fed": "(float[2,2] x, float[2,2] w = {1,2,3,4}) => (y) { y = Gemm(x, w) }",
    "bias can be fed": "(float[2,5] x, float[3] b = {1,2,3}) => (y) <float[5,3] w> { y = Gemm(x, w, b) }",
    "weight computed": "(float[2,5] x, float[5,3] v) => (y) { w = Relu(v) y = Gemm(x, w) }",
    "bias computed": "(float[2,5] x, float[3] v) => (y) <float[5,3] w> { b = Relu(v) y = Gemm(x, w, b) }",
    "weight on the left": "(float[5,2] x) => (y) <float[3,5] w> { y = Gemm(w, x) }",
    "another domain": "(float[2,5] x) => (y) <float[5,3] w> { y = custom.Gemm(x, w) }",
}

SHARED = {
    "weight": (
        "(float[2,5] x) => (y) <float[5,5] w> { a = Gemm(x, w) y = Gemm(a, w) }",
        ["a = Gemm(x, w_2)", "y = Gemm(a, w)"], 2,
    ),
    "weight, the other layer canonical": (
        "(float[2,5] x) => (y) <float[5,5] w> { a = Gemm(x, w) y = Gemm<transB = 1>(a, w) }",
        ["a = Gemm(x, w_2)", "y = Gemm(a, w)"], 1,
    ),
    "bias": (
        "(float[2,5] x) => (y) <float[5,5] v, float[5,5] w, float[5] b> "
        "{ a = Gemm<beta = 2.0>(x, v, b) y = Gemm<beta = 3.0>(a, w, b) }",
        ["a = Gemm(x, v, b_2)", "y = Gemm(a, w, b)"], 2,
    ),
    "weight and the names that a copy would take": (
        "(float[2,5] x) => (y, w_3) <float[5,5] w, float[5,5] w_2> "
        "{ w_3 = MatMul(x, w_2) a = Gemm(x, w) y = Gemm(a, w) }",
        ["w_3 = MatMul(x, w_2)", "a = Gemm(x, w_4)", "y = Gemm(a, w)"], 2,
    ),
    "weight and bias are one tensor": (
        "(float[2,1] x) => (y) <float[1,1] w> { y = Gemm<alpha = 2.0, beta = 3.0>(x, w, w) }",
        ["y = Gemm(x, w_2, w_3)"], 1,
    ),
    "weight that is returned": (
        "(float[2,5] x) => (y, w) <float[5,5] w> { y = Gemm(x, w) }", ["y = Gemm(x, w_2)"], 1,
    ),
}


@pytest.mark.parametrize("text", FIRES.values(), ids=FIRES)
def test_fires(text: str) -> None:
    with_bias = "(x, w, b)" in text
    model = applied(gemm.RULE, text, ["y = Gemm(x, w, b)" if with_bias else "y = Gemm(x, w)"])
    assert attributes(model, "y") == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    weight = graph.required_constant(model.graph.initializers["w"])
    assert weight.dtype == np.float32
    if with_bias:
        assert graph.required_constant(model.graph.initializers["b"]).shape == weight.shape[:1]


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(gemm.RULE, text)


@pytest.mark.parametrize(("text", "after", "count"), SHARED.values(), ids=SHARED)
def test_shared_constants_stay_as_they_are_for_others(text: str, after: list[str], count: int) -> None:
    applied(gemm.RULE, text, after, count)
