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
    "a fill of many": (
        "(float[2,2000] x) => (y) <int64[1] n = {2000}> { c = ConstantOfShape(n) y = Add(x, c) }",
        ["y = Add(x, c)"], 1),
    "Expand": ("(float[2,3] x) => (y) <float[1] a, int64[2] s = {2,3}> { b = Expand(a, s) y = Add(x, b) }",
               ["y = Add(x, b)"], 1),
    "Tile": ("(float[2,3] x) => (y) <float[1] a, int64[1] n = {3}> { b = Tile(a, n) y = Add(x, b) }",
             ["y = Add(x, b)"], 1),
    "Range": ("(float[2,3] x) => (y) <float a = {0}, float b = {3}, float d = {1}> "
              "{ r = Range(a, b, d) y = Add(x, r) }",
              ["y = Add(x, r)"], 1),
    "codes of int8": ("(float[2,3] x) => (y) <int8[3] q = {1,-128,127}, float s = {0.5}, int8 z = {-3}> "
                      "{ w = DequantizeLinear(q, s, z) y = Add(x, w) }", ["y = Add(x, w)"], 1),
    "codes of uint8": ("(float[2,3] x) => (y) <uint8[3] q = {1,255,3}, float s = {0.5}, uint8 z = {128}> "
                       "{ w = DequantizeLinear(q, s, z) y = Add(x, w) }", ["y = Add(x, w)"], 1),
    "codes without a zero point": ("(float[2,3] x) => (y) <uint8[3] q = {1,255,3}, float s = {0.5}> "
                                   "{ w = DequantizeLinear(q, s) y = Add(x, w) }", ["y = Add(x, w)"], 1),
    "codes of int32": ("(float[2,3] x) => (y) <int32[3] q = {1,-2000,3}, float s = {0.5}> "
                       "{ w = DequantizeLinear(q, s) y = Add(x, w) }", ["y = Add(x, w)"], 1),
    "codes with a scale a row": (
        "(float[2,2] x) => (y) <int8[3,2] q = {1,-2,3,4,-5,6}, float[3] s = {0.5,0.25,2}, int8[3] z = {1,0,-1}> "
        "{ w = DequantizeLinear<axis = 0>(q, s, z) y = Gemm<transB = 1>(x, w) }", ["y = Gemm(x, w)"], 1),
    "codes with a scale a column": (
        "(float[2,3] x) => (y) <uint8[3,2] q = {1,2,3,4,5,255}, float[2] s = {0.5,0.25}, uint8[2] z = {128,0}> "
        "{ w = DequantizeLinear<axis = -1>(q, s, z) y = Gemm(x, w) }", ["y = Gemm(x, w)"], 1),
    "weights quantized and back": (
        "(float[2,3] x) => (y) <float[3] w, float s = {0.05}, int8 z = {0}> "
        "{ q = QuantizeLinear(w, s, z) d = DequantizeLinear(q, s, z) y = Add(x, d) }", ["y = Add(x, d)"], 2),
}

IFS = {
    "then": ("(float[2,3] x) => (y) <bool c = {1}, float[3] w, float[3] v> { t = If(c) <then_branch = a () => (p) "
             "{ p = Add(x, w) }, else_branch = b () => (q) { q = Sub(x, v) }> y = Relu(t) }",
             ["t = Add(x, w)", "y = Relu(t)"], 1),
    "else": ("(float[2,3] x) => (y) <bool c = {0}, float[3] w, float[3] v> { t = If(c) <then_branch = a () => (p) "
             "{ p = Add(x, w) }, else_branch = b () => (q) { q = Sub(x, v) }> y = Relu(t) }",
             ["t = Sub(x, v)", "y = Relu(t)"], 1),
    "an output": ("(float[2,3] x) => (t) <bool c = {0}> { t = If(c) <then_branch = a () => (p) { p = Neg(x) }, "
                  "else_branch = b () => (q) { r = Relu(x) q = Neg(r) }> }", ["r = Relu(x)", "t = Neg(r)"], 1),
    "two outputs": ("(float[2,3] x) => (y, u) <bool c = {1}> { y, u = If(c) <then_branch = a () => (p, r) "
                    "{ p = Neg(x) r = Relu(p) }, else_branch = b () => (q, s) { q = Relu(x) s = Neg(q) }> }",
                    ["y = Neg(x)", "u = Relu(y)"], 1),
    "a tensor from outside": (
        "(float[2,3] x) => (y) <bool c = {1}> { r = Relu(x) t = If(c) <then_branch = a () => (p) { p = Identity(r) }, "
        "else_branch = b () => (q) { q = Neg(x) }> y = Add(t, r) }", ["r = Relu(x)", "y = Add(r, r)"], 1),
    "one in another": (
        "(float[2,3] x) => (y) <bool c = {1}> { t = If(c) <then_branch = a () => (p) { "
        "p = If(c) <then_branch = d () => (e) { e = Neg(x) }, else_branch = f () => (h) { h = Relu(x) }> "
        "}, else_branch = b () => (q) { q = Relu(x) }> y = Relu(t) }", ["t = Neg(x)", "y = Relu(t)"], 1),
    "names in two branches": (
        "(float[2,3] x) => (y) <bool c = {1}> { t = If(c) <then_branch = a () => (p) { s = Relu(x) p = Neg(s) }, "
        "else_branch = b () => (q) { q = Neg(x) }> u = If(c) <then_branch = a () => (p) { s = Exp(t) p = Neg(s) }, "
        "else_branch = b () => (q) { q = Neg(x) }> y = Relu(u) }",
        ["s = Relu(x)", "t = Neg(s)", "s_1 = Exp(t)", "u = Neg(s_1)", "y = Relu(u)"], 1),
    "a condition on a shape": (
        "(float[2,3] x) => (y) <int64 i = {1}, int64 n = {3}> { s = Shape(x) d = Gather(s, i) c = Equal(d, n) "
        "t = If(c) <then_branch = a () => (p) { p = Neg(x) }, else_branch = b () => (q) { q = Relu(x) }> y = Relu(t) }",
        ["t = Neg(x)", "y = Relu(t)"], 3),
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
    "a Range of no step": "(float[2,3] x) => (y) <float a = {0}, float b = {3}, float d = {0}> "
                          "{ r = Range(a, b, d) c = ReduceMean<keepdims = 0>(r) y = Add(x, c) }",
    "a condition that is computed":
        "(float[2,3] x, float[1] g) => (y) { c = Cast<to = 9>(g) t = If(c) <then_branch = a () => (p) "
        "{ p = Relu(x) }, else_branch = b () => (q) { q = Neg(x) }> y = Relu(t) }",
    "a condition of no element": "(float[2,3] x) => (y) <bool[0] c = {}> { t = If(c) <then_branch = a () => (p) "
                                 "{ p = Relu(x) }, else_branch = b () => (q) { q = Neg(x) }> y = Relu(t) }",
    "codes that are computed": "(float[2,3] x) => (y) <float s = {0.05}, int8 z = {0}> "
                               "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }",
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


def test_one_hot_of_constants() -> None:
    """Its shape follows from a value, which shape inference does not look at."""
    model = parse("(float[2,3] x) => (y) <int64 i = {1}, int64 d = {3}, float[2] v = {0,1}> "
                  "{ h = OneHot(i, d, v) y = Add(x, h) }")
    assert constants.RULE.apply(model) == 1
    assert graph.required_constant(model.graph[0].inputs[1]).tolist() == [0.0, 1.0, 0.0]


HUGE = {
    "Expand": "<float[1] a = {1}, int64[1] n = {67108865}> { b = Expand(a, n)",
    "Tile": "<float[1] a = {1}, int64[1] n = {400000000000}> { b = Tile(a, n)",
    "Range": "<float a = {0}, float n = {1e12}, float d = {1}> { b = Range(a, n, d)",
    "ConstantOfShape": "<int64[2] n = {4000000, 4000000}> { b = ConstantOfShape(n)",
    "OneHot": "<int64 a = {1}, int64 n = {400000000000}, float[2] v = {0, 1}> { b = OneHot(a, n, v)",
    "Pad": "<float[1] a = {1}, int64[2] n = {400000000000, 0}> { b = Pad(a, n)",
    "Resize": '<float[1] a = {1}, float[1] n = {4e11}> { b = Resize(a, "", n)',
    "a sum of a row and a column":
        "<int64[2] n = {1, 10000}, int64[2] m = {10000, 1}> "
        "{ r = ConstantOfShape(n) c = ConstantOfShape(m) b = Add(r, c)",
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
def test_a_result_that_is_too_large_is_not_even_tried(text: str) -> None:
    model = parse(f"(float[2,3] x) => (y) {text} e = ReduceMean<keepdims = 0>(b) y = Add(x, e) }}")
    tracemalloc.start()
    try:
        constants.RULE.apply(model)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert [node.outputs[0].name for node in model.graph] == ["b", "e", "y"]


@pytest.mark.parametrize(("text", "after", "count"), IFS.values(), ids=IFS)
def test_the_branch_that_a_stored_condition_takes(text: str, after: list[str], count: int) -> None:
    applied(constants.RULE, text, after, count)


def test_a_returned_value_that_is_constant_keeps_its_name() -> None:
    applied(constants.RULE, "(float[2,3] x) => (y, c) <float[3] a, float[3] b> { y = Relu(x) c = Add(a, b) }",
            ["y = Relu(x)"])
