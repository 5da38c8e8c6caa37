"""``MatMul(x, w) -> Gemm(x, w.T)``."""

from __future__ import annotations

import numpy as np
import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import matmul

from .graphs import applied, attributes, declined, parse

FIRES = {
    "constant weight": ("(float[2,5] x) => (y) <float[5,3] w> { y = MatMul(x, w) }", ["y = Gemm(x, w)"]),
    "square weight": ("(float[2,5] x) => (y) <float[5,5] w> { y = MatMul(x, w) }", ["y = Gemm(x, w)"]),
    "behind a layer, the Add stays": (
        "(float[2,5] x) => (y) <float[5,3] w, float[3] b> { a = Relu(x) m = MatMul(a, w) y = Add(m, b) }",
        ["a = Relu(x)", "m = Gemm(a, w)", "y = Add(m, b)"],
    ),
    "output of the graph, read again": (
        "(float[2,5] x) => (m, y) <float[5,3] w> { m = MatMul(x, w) y = Relu(m) }", ["m = Gemm(x, w)", "y = Relu(m)"],
    ),
}

DECLINES = {
    "input of three axes": "(float[2,4,5] x) => (y) <float[5,3] w> { y = MatMul(x, w) }",
    "weight of three axes": "(float[2,5] x) => (y) <float[2,5,3] w> { y = MatMul(x, w) }",
    "weight of one axis": "(float[2,5] x) => (y) <float[5] w> { y = MatMul(x, w) }",
    "weight on the left": "(float[5,2] x) => (y) <float[3,5] w> { y = MatMul(w, x) }",
    "weight can be fed": "(float[2,2] x, float[2,2] w = {1,2,3,4}) => (y) { y = MatMul(x, w) }",
    "weight computed": "(float[2,5] x, float[5,3] v) => (y) { w = Relu(v) y = MatMul(x, w) }",
    "unknown rank of the input": "(x) => (y) <float[5,3] w> { y = MatMul(x, w) }",
    "another domain": "(float[2,5] x) => (y) <float[5,3] w> { y = custom.MatMul(x, w) }",
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    model = applied(matmul.RULE, text, after)
    output = next(line.split(" = ")[0] for line in after if "Gemm" in line)
    assert attributes(model, output) == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    original = graph.required_constant(parse(text).graph.initializers["w"])
    np.testing.assert_array_equal(graph.required_constant(model.graph.initializers["w"]), original.T)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(matmul.RULE, text)


SHARED = {
    "by two products": (
        "(float[2,5] x) => (y) <float[5,5] w> { a = MatMul(x, w) y = MatMul(a, w) }",
        ["a = Gemm(x, w_2)", "y = Gemm(a, w)"],
    ),
    "by an addition": (
        "(float[5,5] x) => (y) <float[5,5] w> { a = MatMul(x, w) y = Add(a, w) }",
        ["a = Gemm(x, w_2)", "y = Add(a, w)"],
    ),
    "by the outputs": ("(float[2,5] x) => (y, w) <float[5,5] w> { y = MatMul(x, w) }", ["y = Gemm(x, w_2)"]),
}


@pytest.mark.parametrize(("text", "after"), SHARED.values(), ids=SHARED)
def test_shared_weights_stay_as_they_are_for_others(text: str, after: list[str]) -> None:
    applied(matmul.RULE, text, after, count=sum("Gemm" in line for line in after))
