"""``ReduceMean(x, axes = all spatial) -> GlobalAveragePool(x)``, a Flatten where keepdims = 0; ReduceSum as a mean."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import reduce_mean

from .graphs import applied, assert_equal, attributes, declined, lines, parse, proto

POOL = ["y = GlobalAveragePool(x)"]
POOL_FLATTEN = ["y.pooled = GlobalAveragePool(x)", "y = Flatten(y.pooled)"]

FIRES = {
    "keepdims is 1 where absent": (
        "(float[2,3,5,7] x) => (y) <int64[2] axes = {2,3}> "
        "{ y = ReduceMean(x, axes) }", POOL),
    "keepdims 1":
        ("(float[2,3,5,7] x) => (y) <int64[2] axes = {2,3}> { y = ReduceMean<keepdims = 1>(x, axes) }", POOL),
    "keepdims 0":
        ("(float[2,3,5,7] x) => (y) <int64[2] axes = {2,3}> { y = ReduceMean<keepdims = 0>(x, axes) }", POOL_FLATTEN),
    "axes from the end": ("(float[2,3,5,7] x) => (y) <int64[2] axes = {-2,-1}> { y = ReduceMean(x, axes) }", POOL),
    "axes in any order": ("(float[2,3,5,7] x) => (y) <int64[2] axes = {3,-2}> { y = ReduceMean(x, axes) }", POOL),
    "noop_with_empty_axes says nothing about given axes":
        ("(float[2,3,5,7] x) => (y) <int64[2] axes = {2,3}> { y = ReduceMean<noop_with_empty_axes = 1>(x, axes) }",
         POOL),
    "one spatial axis":
        ("(float[2,3,5] x) => (y) <int64[1] axes = {2}> { y = ReduceMean<keepdims = 0>(x, axes) }", POOL_FLATTEN),
    "three spatial axes": ("(float[2,3,5,2,4] x) => (y) <int64[3] axes = {2,3,4}> { y = ReduceMean(x, axes) }", POOL),
}

DECLINES = {
    "largest, not mean": "(float[2,3,5,7] x) => (y) <int64[2] axes = {2,3}> { y = ReduceMax(x, axes) }",
    "sum of the batch too": "(float[2,3,5,7] x) => (y) <int64[2] axes = {0,2}> { y = ReduceSum(x, axes) }",
    "sum of all": "(float[2,3,5,7] x) => (y) { y = ReduceSum(x) }",
    "sum of integers":
        "(float[2,3] x) => (y) <int64[1] axes = {0}> { s = Shape(x) n = ReduceSum(s, axes) y = Reshape(x, n) }",
    "one of two axes": "(float[2,3,5,7] x) => (y) <int64[1] axes = {3}> { y = ReduceMean(x, axes) }",
    "channels too": "(float[2,3,5,7] x) => (y) <int64[3] axes = {1,2,3}> { y = ReduceMean(x, axes) }",
    "batch too": "(float[2,3,5,7] x) => (y) <int64[3] axes = {0,2,3}> { y = ReduceMean(x, axes) }",
    "all axes, none named": "(float[2,3,5,7] x) => (y) { y = ReduceMean(x) }",
    "all axes, an empty list": "(float[2,3,5,7] x) => (y) <int64[0] axes = {}> { y = ReduceMean(x, axes) }",
    "no axes": "(float[2,3,5,7] x) => (y) <int64[0] axes = {}> { y = ReduceMean<noop_with_empty_axes = 1>(x, axes) }",
    "no axes, features only":
        "(float[2,3] x) => (y) <int64[0] axes = {}> { y = ReduceMean<noop_with_empty_axes = 1>(x, axes) }",
    "features only": "(float[2,3] x) => (y) <int64[1] axes = {1}> { y = ReduceMean(x, axes) }",
    "axes can be fed": "(float[2,3,5,7] x, int64[2] axes = {2,3}) => (y) { y = ReduceMean(x, axes) }",
    "axes computed":
        "(float[2,3,5,7] x, float[2] a) => (y) { axes = Cast<to = 7>(a) y = ReduceMean(x, axes) }",
    "another domain": "(float[2,3,5,7] x) => (y) <int64[2] axes = {2,3}> { y = custom.ReduceMean(x, axes) }",
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    model = applied(reduce_mean.RULE, text, after)
    assert attributes(model, "y") == ({"axis": 1} if after is POOL_FLATTEN else {})
    assert not model.graph.initializers


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(reduce_mean.RULE, text)


def test_the_pooled_tensor_takes_no_name_that_exists() -> None:
    applied(reduce_mean.RULE, '(float[2,3,5,7] x) => (y, "y.pooled") <int64[2] axes = {2,3}> '
                              '{ "y.pooled" = Relu(x) y = ReduceMean<keepdims = 0>(x, axes) }',
            ["y.pooled = Relu(x)", "y.pooled_2 = GlobalAveragePool(x)", "y = Flatten(y.pooled_2)"])


SUMS = {
    "of the map, which is a mean in the next round": (
        "(float[2,3,5,7] x) => (y) <int64[2] axes = {2,3}> { y = ReduceSum(x, axes) }", 35.0),
    "of rows": ("(float[2,3,5,7] x) => (y) <int64[1] axes = {-1}> { y = ReduceSum<keepdims = 0>(x, axes) }", 7.0),
}


@pytest.mark.parametrize(("text", "size"), SUMS.values(), ids=SUMS)
def test_a_sum_is_a_mean_times_its_size(text: str, size: float) -> None:
    model = parse(text)
    assert reduce_mean.RULE.apply(model) == 1
    assert lines(model) == ["y.mean = ReduceMean(x, axes)", "y = Mul(y.mean, y.size)"]
    assert graph.required_constant(model.graph.initializers["y.size"]).item() == size
    assert_equal(proto(text), ir.to_proto(model))
