"""``GlobalMaxPool(x) -> MaxPool(x)`` with the map's size, and ``ReduceMax`` over the map."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import global_max_pool

from .graphs import applied, attributes, declined

FIRES = {
    "global": (
        "(float[2,3,5,7] x) => (y) { y = GlobalMaxPool(x) }",
        ["y = MaxPool(x)"]),
    "1-d": (
        "(float[2,3,5] x) => (y) { y = GlobalMaxPool(x) }",
        ["y = MaxPool(x)"]),
    "3-d": (
        "(float[2,3,2,3,2] x) => (y) { y = GlobalMaxPool(x) }",
        ["y = MaxPool(x)"]),
    "ReduceMax": (
        "(float[2,3,5,7] x) => (y) <int64[2] a = {-1,2}> { y = ReduceMax(x, a) }",
        ["y = MaxPool(x)"]),
    "ReduceMax, keepdims 0": (
        "(float[2,3,5,7] x) => (y) <int64[2] a = {2,3}> { y = ReduceMax<keepdims = 0>(x, a) }",
        ["y.pooled = MaxPool(x)", "y = Flatten(y.pooled)"]),
}

DECLINES = {
    "one axis": "(float[2,3,5,7] x) => (y) <int64[1] a = {2}> { y = ReduceMax(x, a) }",
    "channels": "(float[2,3,5,7] x) => (y) <int64[3] a = {1,2,3}> { y = ReduceMax(x, a) }",
    "all": "(float[2,3,5,7] x) => (y) { y = ReduceMax(x) }",
    "features": "(float[2,3] x) => (y) <int64[1] a = {1}> { y = ReduceMax(x, a) }",
    "four axes": "(float[2,3,1,1,1,2] x) => (y) { y = GlobalMaxPool(x) }",
    "unknown size": "(float[2,3,H,7] x) => (y) { y = GlobalMaxPool(x) }",
    "axes that can be fed": "(float[2,3,5,7] x, int64[2] a = {2,3}) => (y) { y = ReduceMax(x, a) }",
    "another domain": "(float[2,3,5,7] x) => (y) { y = custom.GlobalMaxPool(x) }",
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    applied(global_max_pool.RULE, text, after)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(global_max_pool.RULE, text)


def test_the_window_is_the_map() -> None:
    model = applied(global_max_pool.RULE, "(float[2,3,5,7] x) => (y) { y = GlobalMaxPool(x) }", ["y = MaxPool(x)"])
    assert attributes(model, "y") == {"kernel_shape": [5, 7], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1]}
