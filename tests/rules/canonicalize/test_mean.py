"""``ReduceMean(ReduceMean(x, a), b) -> ReduceMean(x, a + b)``."""

from __future__ import annotations

import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import mean

from .graphs import applied, attributes, declined

X = "(float[2,3,4,5] x) => (y)"
ONE, TWO = ["y = ReduceMean(x, y.axes)"], ["y.mean = ReduceMean(x, y.axes)", "y = Reshape(y.mean, y.shape)"]


def means(first: int, keeps: int, second: int, keeps_too: int) -> str:
    return (f"{X} <int64[1] h = {{{first}}}, int64[1] k = {{{second}}}> {{ a = ReduceMean<keepdims = {keeps}>(x, h)"
            f" y = ReduceMean<keepdims = {keeps_too}>(a, k) }}")


FIRES = {
    "axes kept": (means(2, 1, 3, 1), ONE, [2, 3], 1),
    "axes dropped": (means(2, 0, 2, 0), ONE, [2, 3], 0),
    "axes dropped, from the end": (means(-1, 0, -1, 0), ONE, [2, 3], 0),
    "the second in front": (means(2, 0, 1, 0), ONE, [1, 2], 0),
    "kept, then dropped": (means(2, 1, -1, 0), TWO, [2, 3], 1),
    "dropped, then kept": (means(2, 0, -1, 1), TWO, [2, 3], 1),
    "the same axis again": (means(2, 1, 2, 0), ONE, [2], 0),
    "three in a row": (
        f"{X} <int64[1] h = {{1}}> {{ a = ReduceMean<keepdims = 0>(x, h) b = ReduceMean<keepdims = 0>(a, h)"
        " y = ReduceMean<keepdims = 0>(b, h) }", ONE, [1, 2, 3], 0),
    "an axis of size 1 beside it": (
        "(float[2,3,1,5] x) => (y) <int64[1] h = {3}> { y = ReduceMean(x, h) }", ONE, [2, 3], 1),
    "an axis of size 1 beside it that stays": (
        "(float[2,3,1,5] x) => (y) <int64[1] h = {3}> { y = ReduceMean<keepdims = 0>(x, h) }", TWO, [2, 3], 1),
}

DECLINES = {
    "one": f"{X} <int64[1] h = {{3}}> {{ y = ReduceMean(x, h) }}",
    "channels": "(float[2,3,1,1] x) => (y) <int64[1] h = {1}> { y = ReduceMean(x, h) }",
    "the batch": f"{X} <int64[1] h = {{0}}, int64[1] k = {{1}}> {{ a = ReduceMean(x, h) y = ReduceMean(a, k) }}",
    "the batch, then": f"{X} <int64[1] h = {{1}}, int64[1] k = {{0}}> {{ a = ReduceMean(x, h) y = ReduceMean(a, k) }}",
    "another reader": (
        "(float[2,3,4,5] x) => (y, z) <int64[1] h = {3}, int64[1] k = {1}> "
        "{ a = ReduceMean(x, h) y = ReduceMean(a, k) z = Relu(a) }"),
    "over everything": f"{X} {{ y = ReduceMean(x) }}",
    "no axes at all": f"{X} <int64[0] h = {{}}> {{ a = ReduceMean(x, h) y = ReduceMean(a, h) }}",
    "axes can be fed": (
        "(float[2,3,4,5] x, int64[1] h = {3}) => (y) <int64[1] k = {1}> { a = ReduceMean(x, h) y = ReduceMean(a, k) }"),
}


@pytest.mark.parametrize(("text", "after", "axes", "keeps"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], axes: list[int], keeps: int) -> None:
    model = applied(mean.RULE, text, after, count=2 if "b = Reduce" in text else 1)
    name = after[0].split(" = ")[0]
    assert attributes(model, name) == {"keepdims": keeps}
    given = next(node for node in model.graph if node.outputs[0].name == name).inputs[1]
    assert graph.required_constant(given).tolist() == axes


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(mean.RULE, text)
