"""``ReduceMean(x, axes = some of the map) -> AveragePool(x)`` that long."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import partial_mean

from .graphs import applied, declined

MAP = ["y.map_2 = Reshape(x, y.map)", "y.pooled = GlobalAveragePool(y.map_2)"]
CHANNELS = ["y.channels = Transpose(x)", "y.map_2 = Reshape(y.channels, y.map)", MAP[1]]
RESHAPE, FLATTEN = ["y = Reshape(y.pooled, y.shape)"], ["y = Flatten(y.pooled)"]

FIRES = {
    "rows": (
        "(float[2,3,5,7] x) => (y) <int64[1] a = {2}> { y = ReduceMean(x, a) }",
        ["y = AveragePool(x)"]),
    "columns": (
        "(float[2,3,5,7] x) => (y) <int64[1] a = {-1}> { y = ReduceMean<keepdims = 0>(x, a) }",
        ["y.pooled = AveragePool(x)", "y = Reshape(y.pooled, y.shape)"]),
    "two of three": (
        "(float[2,3,2,4,5] x) => (y) <int64[2] a = {4,2}> { y = ReduceMean<keepdims = 0>(x, a) }",
        ["y.pooled = AveragePool(x)", "y = Reshape(y.pooled, y.shape)"]),
    "channels": (
        "(float[2,3,5,7] x) => (y) <int64[1] a = {1}> { y = ReduceMean(x, a) }", [*CHANNELS, *RESHAPE]),
    "channels, keepdims 0": (
        "(float[2,3,5,7] x) => (y) <int64[1] a = {-3}> { y = ReduceMean<keepdims = 0>(x, a) }", [*CHANNELS, *RESHAPE]),
    "channels and rows": (
        "(float[2,3,5,7] x) => (y) <int64[2] a = {1,2}> { y = ReduceMean(x, a) }", [*CHANNELS, *RESHAPE]),
    "channels and columns": (
        "(float[2,3,5,7] x) => (y) <int64[2] a = {3,1}> { y = ReduceMean<keepdims = 0>(x, a) }",
        [*CHANNELS, *FLATTEN]),
    "channels of sequences": (
        "(float[2,3,5] x) => (y) <int64[1] a = {1}> { y = ReduceMean(x, a) }", [*CHANNELS, *RESHAPE]),
    "all but the batch": (
        "(float[2,3,5,7] x) => (y) <int64[3] a = {1,2,3}> { y = ReduceMean<keepdims = 0>(x, a) }", [*MAP, *RESHAPE]),
    "features": (
        "(float[2,3] x) => (y) <int64[1] a = {1}> { y = ReduceMean(x, a) }", [*MAP, *FLATTEN]),
}

DECLINES = {
    "whole": "(float[2,3,5,7] x) => (y) <int64[2] a = {2,3}> { y = ReduceMean(x, a) }",
    "batch": "(float[2,3,5,7] x) => (y) <int64[2] a = {0,2}> { y = ReduceMean(x, a) }",
    "axes that can be fed": "(float[2,3,5,7] x, int64[1] a = {2}) => (y) { y = ReduceMean(x, a) }",
    "four axes": "(float[2,3,1,1,1,2] x) => (y) <int64[1] a = {5}> { y = ReduceMean(x, a) }",
    "unknown size": "(float[2,3,H,7] x) => (y) <int64[1] a = {2}> { y = ReduceMean(x, a) }",
    "max": "(float[2,3,5,7] x) => (y) <int64[1] a = {2}> { y = ReduceMax(x, a) }",
    "another domain": "(float[2,3,5,7] x) => (y) <int64[1] a = {2}> { y = custom.ReduceMean(x, a) }",
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    applied(partial_mean.RULE, text, after)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(partial_mean.RULE, text)
