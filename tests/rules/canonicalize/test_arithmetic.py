"""``x - c -> x + (-c)``, ``x / c -> x * (1 / c)``, ``-x``, ``a - b``, sums and normalizations as Mul and Add."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import arithmetic

from .graphs import applied, declined

FIRES = {
    "x - c": (
        "(float[2,3,5,5] x) => (y) <float[3,1,1] c> { y = Sub(x, c) }",
        ["y = Add(x, c_2)"]),
    "c - x": (
        "(float[2,3,5,5] x) => (y) <float[3,1,1] c> { y = Sub(c, x) }",
        ["y.negative = Mul(x, y.factor)", "y = Add(y.negative, c)"]),
    "x / c": (
        "(float[2,3,5,5] x) => (y) <float[3,1,1] var> { y = Div(x, var) }",
        ["y = Mul(x, var_2)"]),
    "-x": (
        "(float[2,3,5,5] x) => (y) { y = Neg(x) }",
        ["y = Mul(x, y.factor)"]),
    "a - b": (
        "(float[2,3] a, float[2,3] b) => (y) { y = Sub(a, b) }",
        ["y.negative = Mul(b, y.factor)", "y = Add(a, y.negative)"]),
    "sum": (
        "(float[2,3] a, float[2,3] b, float[2,3] c) => (y) { y = Sum(a, b, c) }",
        ["y.sum = Add(a, b)", "y = Add(y.sum, c)"]),
    "sum of one": (
        "(float[2,3] a) => (y) { y = Sum(a) }",
        ["y = Identity(a)"]),
    "mean of one": (
        "(float[2,3] a) => (y) { y = Mean(a) }",
        ["y = Identity(a)"]),
    "sum with a constant": (
        "(float[2,3] a, float[2,3] b) => (y) <float[3] c> { y = Sum(c, a, b) }",
        ["y.sum = Add(a, b)", "y = Add(y.sum, c)"]),
    "sum broadcast": (
        "(float[2,3,1] a, float[2,1,4] b, float[2,3,4] c) => (y) { y = Sum(a, b, c) }",
        ["y.sum = Add(a, b)", "y = Add(y.sum, c)"]),
    "mean": (
        "(float[2,3] a, float[2,3] b, float[2,3] c) => (y) { y = Mean(a, b, c) }",
        ["y.sum = Add(a, b)", "y.sum_2 = Add(y.sum, c)", "y = Mul(y.sum_2, y.factor)"]),
    "BatchNormalization": (
        "(float[2,3,5,5] x) => (y) <float[3] g, float[3] o, float[3] m, float[3] var> { y = BatchNormalization(x, "
        "g, o, m, var) }",
        ["y.scaled = Mul(x, y.factor)", "y = Add(y.scaled, y.offset)"]),
    "BatchNormalization of features": (
        "(float[2,3] x) => (y) <float[3] g, float[3] o, float[3] m, float[3] var> { y = BatchNormalization<epsilon "
        "= 0.5>(x, g, o, m, var) }",
        ["y.scaled = Mul(x, y.factor)", "y = Add(y.scaled, y.offset)"]),
    "BatchNormalization of sequences": (
        "(float[2,3,5] x) => (y) <float[3] g, float[3] o, float[3] m, float[3] var> { y = BatchNormalization(x, g, "
        "o, m, var) }",
        ["y.scaled = Mul(x, y.factor)", "y = Add(y.scaled, y.offset)"]),
    "BatchNormalization behind Concat": (
        "(float[2,1,5,5] x, float[2,2,5,5] z) => (y) <float[3] g, float[3] o, float[3] m, float[3] var> { c = "
        "Concat<axis = 1>(x, z) y = BatchNormalization(c, g, o, m, var) }",
        ["c = Concat(x, z)", "y.scaled = Mul(c, y.factor)", "y = Add(y.scaled, y.offset)"]),
    "a constant that others read": (
        "(float[2,3,5,5] x) => (y, z) <float[3,1,1] c> { y = Sub(x, c) z = Mul(x, c) }",
        ["y = Add(x, c_2)", "z = Mul(x, c)"]),
}

DECLINES = {
    "c / x": "(float[2,3,5,5] x) => (y) <float[3,1,1] c> { y = Div(c, x) }",
    "a / b": "(float[2,3] a, float[2,3] b) => (y) { y = Div(a, b) }",
    "by zero": "(float[2,3,5,5] x) => (y) <float c = {0}> { y = Div(x, c) }",
    "by what has no reciprocal in float32": "(float[2,3,5,5] x) => (y) <float c = {3e38}> { y = Div(x, c) }",
    "integers": "(float[2,3] x) => (y) <int64 c = {2}> { s = Shape(x) t = Sub(s, c) y = Reshape(x, t) }",
    "difference in a table": "(float[2,3,5,5] x) => (y) { s = Sigmoid(x) y = Sub(x, s) }",
    "training mode":
        "(float[2,3,5,5] x) => (y) <float[3] g, float[3] o, float[3] m, float[3] var> { y, a, c = "
        "BatchNormalization<training_mode = 1>(x, g, o, m, var) }",
    "unknown rank":
        "(x) => (y) <float[3] g, float[3] o, float[3] m, float[3] var> { a = custom.F(x) y = BatchNormalization(a, "
        "g, o, m, var) }",
    "a scale that can be fed":
        "(float[2,3,5,7] x, float[3] g = {1,2,3}) => (y) <float[3] var> { y = BatchNormalization(x, g, var, var, "
        "var) }",
    "a computed mean":
        "(float[2,3,5,7] x, float[3] v) => (y) <float[3] var> { m = Relu(v) y = BatchNormalization(x, var, var, m, "
        "var) }",
    "another domain": "(float[2,3,5,5] x) => (y) <float[3,1,1] c> { y = custom.Sub(x, c) }",
    "statistics read":
        "(float[2,3,5,7] x) => (y, s) <float[3] g, float[3] o, float[3] m, float[3] var> { y, s, t = "
        "BatchNormalization(x, g, o, m, var) }",
    "variance below zero":
        "(float[2,1,5,7] x) => (y) <float[1] g, float[1] v = {-1}> { y = BatchNormalization(x, g, g, g, v) }",
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    applied(arithmetic.RULE, text, after)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(arithmetic.RULE, text)
