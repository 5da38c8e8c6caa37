"""``f(constants) -> constant``: Constant nodes become initializers, what depends on nothing else is computed."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import constants

from .graphs import applied, declined, parse

LIFTED = {
    "tensor": ("value = float[3] {1,2,3}", [1.0, 2.0, 3.0], np.float32),
    "scalar tensor": ("value = float {1.5}", 1.5, np.float32),
    "integers": ("value_ints = [4,5]", [4, 5], np.int64),
    "integer": ("value_int = 4", 4, np.int64),
    "numbers": ("value_floats = [4.5,5.5]", [4.5, 5.5], np.float32),
    "number": ("value_float = 4.5", 4.5, np.float32),
}

FIRES = {
    "sum": ("(float[2,3] x) => (y) <float[3] a, float[3] b> { c = Add(a, b) y = Add(x, c) }", ["y = Add(x, c)"], 1),
    "chain from a Constant": (
        "(float[2,3] x) => (y) { a = Constant<value = float[3] {1,-2,3}>() b = Relu(a) c = Neg(b) y = Add(x, c) }",
        ["y = Add(x, c)"], 3),
    "constant read twice": (
        "(float[2,3] x) => (y) { a = Constant<value = float[3] {1,2,3}>() b = Add(x, a) y = Add(b, a) }",
        ["b = Add(x, a)", "y = Add(b, a)"], 1),
    "unused constant": ("(float[2,3] x) => (y) { a = Constant<value_ints = [1]>() y = Relu(x) }", ["y = Relu(x)"], 1),
    "transposed weight": (
        "(float[2,5] x) => (y) <float[3,5] v> { w = Transpose<perm = [1,0]>(v) y = MatMul(x, w) }",
        ["y = MatMul(x, w)"], 1),
    "cast weight": (
        "(float[2,3] x) => (y) <int8[3] v = {1,-2,3}> { w = Cast<to = 1>(v) y = Add(x, w) }", ["y = Add(x, w)"], 1),
    "shape": (
        "(float[2,3,4] x) => (y) <int64[1] i = {0}, int64[1] r = {-1}> "
        "{ s = Shape(x) n = Gather<axis = 0>(s, i) t = Concat<axis = 0>(n, r) y = Reshape(x, t) }",
        ["y = Reshape(x, t)"], 3),
    "slice of a shape, as opset 15 writes it": (
        "(float[2,3,4] x) => (y) <int64[1] r = {-1}> "
        "{ n = Shape<start = 0, end = 1>(x) t = Concat<axis = 0>(n, r) y = Reshape(x, t) }", ["y = Reshape(x, t)"], 2),
    "size": ("(float[2,3] x) => (y) <int64[1] one = {1}> { n = Size(x) m = Reshape(n, one) y = Reshape(x, m) }",
             ["y = Reshape(x, m)"], 2),
    "shape of an inner tensor": (
        "(float[2,3,4] x) => (y) { a = Relu(x) s = Shape(a) y = Reshape(a, s) }", ["y = Relu(x)"], 2),
    "a node that becomes another one": (
        "(float[2,3] x) => (y, z) "
        "{ r = RandomNormal<mean = 1.0, scale = 1e-12, shape = [3]>() z = Add(x, r) y = Dropout(x) }",
        ["r = RandomNormal()", "z = Add(x, r)", "y = Identity(x)"], 1),
    "computed pads": (
        "(float[2,3,4,4] x) => (y) <int64[1] n = {4}, int64[4] p = {0,0,1,1}> "
        "{ z = ConstantOfShape<value = int64[1] {0}>(n) q = Concat<axis = 0>(z, p) y = Pad(x, q) }",
        ["y = Pad(x, q)"], 2),
}

DECLINES = {
    "nothing constant": "(float[2,3] x) => (y) { a = Relu(x) y = Add(a, x) }",
    "initializers where they belong": "(float[2,3] x) => (y) <float[3] a> { y = Add(x, a) }",
    "an open size": "(float[2,H] x) => (y) { a = Relu(x) s = Shape(a) f = Cast<to = 1>(s) y = Mul(f, f) }",
    "a value that can be fed":
        "(float[2,3] x, float[3] a = {1,2,3}) => (y) <float[3] b> "
        "{ c = Add(a, b) y = Add(x, c) }",
    "an initializer that can be fed, alone": "(float[2,3] x, float[3] a = {1,2,3}) => (y) { c = Neg(a) y = Add(x, c) }",
    "random numbers": "(float[2,3] x) => (y) { r = RandomNormal<shape = [3]>() y = Add(x, r) }",
    "a result that fits no memory": "(float[2,3] x) => (y) <float[1] a = {1}, int64[1] s = {400000000000}> "
                                    "{ b = Expand(a, s) c = ReduceMean<keepdims = 0>(b) y = Add(x, c) }",
    "a count that fits no memory":
        "(float[2,3] x) => (y) <int64 a = {0}, int64 s = {400000000000}, int64 d = {1}> "
        "{ b = Range(a, s, d) c = Cast<to = 1>(b) e = ReduceMean<keepdims = 0>(c) y = Add(x, e) }",
    "another domain": "(float[2,3] x) => (y) <float[3] a> { c = custom.F(a) y = Add(x, c) }",
    "a constant that is returned": "(float[2,3] x) => (y, c) { y = Relu(x) c = Constant<value_ints = [1,2]>() }",
}


@pytest.mark.parametrize(("attribute", "value", "dtype"), LIFTED.values(), ids=LIFTED)
def test_lifts_constants_of_every_kind(attribute: str, value: Any, dtype: type) -> None:
    model = parse(f"(float[2,3] x) => (y) {{ a = Constant<{attribute}>() y = custom.F(x, a) }}")
    assert constants.RULE.apply(model) == 1
    assert [node.op_type for node in model.graph] == ["F"]
    found = graph.required_constant(model.graph.initializers["a"])
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize(("text", "after", "count"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], count: int) -> None:
    applied(constants.RULE, text, after, count)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(constants.RULE, text)


def test_a_result_that_is_too_large_is_not_even_tried() -> None:
    model = parse("(float[2,3] x) => (y) <float[1] a = {1}, int64[1] s = {67108865}> "
                  "{ b = Expand(a, s) c = ReduceMean<keepdims = 0>(b) y = Add(x, c) }")
    tracemalloc.start()
    try:
        assert constants.RULE.apply(model) == 0
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_returned_value_that_is_constant_keeps_its_name() -> None:
    applied(constants.RULE, "(float[2,3] x) => (y, c) <float[3] a, float[3] b> { y = Relu(x) c = Add(a, b) }",
            ["y = Relu(x)"])
