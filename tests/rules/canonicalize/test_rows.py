"""``Reshape(f(Reshape(x, (rows, K)))) -> Reshape(f(x))``: dense layers on sequences as TensorFlow writes them."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import rows

from .graphs import applied, declined

X = "(float[2,5,6] x) => (y)"
ROWS, BACK = "int64[2] r = {-1,6}", "int64[3] s = {2,5,4}"

FIRES = {
    "MatMul": (
        f"{X} <{ROWS}, {BACK}, float[6,4] w> {{ a = Reshape(x, r) b = MatMul(a, w) y = Reshape(b, s) }}",
        ["b = MatMul(x, w)", "y = Reshape(b, y.shape)"]),
    "bias and Relu among the rows": (
        f"{X} <{ROWS}, {BACK}, float[6,4] w, float[4] c> "
        "{ a = Reshape(x, r) b = MatMul(a, w) d = Add(c, b) e = Relu(d) y = Reshape(e, s) }",
        ["b = MatMul(x, w)", "d = Add(c, b)", "e = Relu(d)", "y = Reshape(e, y.shape)"]),
    "Gemm": (
        f"{X} <{ROWS}, {BACK}, float[4,6] w, float[4] c> "
        "{ a = Reshape(x, r) b = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(a, w, c) y = Reshape(b, s) }",
        ["b = MatMul(x, w)", "b.biased = Add(b, c_2)", "y = Reshape(b.biased, y.shape)"]),
    "Gemm without bias": (
        f"{X} <{ROWS}, {BACK}, float[6,4] w> {{ a = Reshape(x, r) b = Gemm(a, w) y = Reshape(b, s) }}",
        ["b = MatMul(x, w)", "y = Reshape(b, y.shape)"]),
    "Flatten of four axes, and to features": (
        "(float[2,3,5,6] x) => (y) <int64[2] s = {2,-1}, float[6,4] w> "
        "{ a = Flatten<axis = 3>(x) b = MatMul(a, w) y = Reshape(b, s) }",
        ["b = MatMul(x, w)", "y = Flatten(b)"]),
}

DECLINES = {
    "the batch alone": (
        "(float[2,1,6] x) => (y) <int64[2] r = {-1,6}, int64[3] s = {2,1,4}, float[6,4] w> "
        "{ a = Reshape(x, r) b = MatMul(a, w) y = Reshape(b, s) }"),
    "other rows": (
        "(float[2,5,6] x) => (y) <int64[2] r = {-1,3}, int64[3] s = {2,10,4}, float[3,4] w> "
        "{ a = Reshape(x, r) b = MatMul(a, w) y = Reshape(b, s) }"),
    "another batch": (
        f"{X} <{ROWS}, int64[3] s = {{5,2,4}}, float[6,4] w> "
        "{ a = Reshape(x, r) b = MatMul(a, w) y = Reshape(b, s) }"),
    "no layer": f"{X} <{ROWS}, int64[3] s = {{2,5,6}}> {{ a = Reshape(x, r) y = Reshape(a, s) }}",
    "another reader": (
        f"(float[2,5,6] x) => (y, z) <{ROWS}, {BACK}, float[6,4] w> "
        "{ a = Reshape(x, r) b = MatMul(a, w) y = Reshape(b, s) z = Relu(b) }"),
    "rows stay rows": f"{X} <{ROWS}, float[6,4] w> {{ a = Reshape(x, r) y = MatMul(a, w) }}",
    "a constant a row": (
        f"{X} <{ROWS}, {BACK}, float[6,4] w, float[10,1] c> "
        "{ a = Reshape(x, r) b = MatMul(a, w) d = Add(b, c) y = Reshape(d, s) }"),
    "rows meet": (
        f"{X} <{ROWS}, {BACK}, float[6,4] w> "
        "{ a = Reshape(x, r) b = MatMul(a, w) d = Softmax<axis = 0>(b) y = Reshape(d, s) }"),
    "weights on the left": (
        f"{X} <{ROWS}, int64[3] s = {{2,5,6}}, float[10,10] w> "
        "{ a = Reshape(x, r) b = MatMul(w, a) y = Reshape(b, s) }"),
    "weights can be fed": (
        "(float[2,5,2] x, float[2,1] w = {1,2}) => (y) <int64[2] r = {-1,2}, int64[3] s = {2,5,1}> "
        "{ a = Reshape(x, r) b = MatMul(a, w) y = Reshape(b, s) }"),
    "target computed": (
        f"(float[2,5,6] x, int64[3] q) => (y) <{ROWS}, float[6,4] w> "
        "{ a = Reshape(x, r) b = MatMul(a, w) s = Abs(q) y = Reshape(b, s) }"),
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    applied(rows.RULE, text, after)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(rows.RULE, text)
