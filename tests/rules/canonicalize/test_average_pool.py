"""``AveragePool(x, kernel = the whole map) -> GlobalAveragePool(x)``; any other ``-> Conv(x, 1 / kernel size)``."""

from __future__ import annotations

import numpy as np
import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import average_pool

from .graphs import applied, attributes, declined

FIRES = {
    "whole map": "(float[2,3,5,7] x) => (y) { y = AveragePool<kernel_shape = [5,7]>(x) }",
    "strides do not matter": "(float[2,3,5,7] x) => (y) { y = AveragePool<kernel_shape = [5,7], strides = [3,2]>(x) }",
    "zero pads": "(float[2,3,5,7] x) => (y) { y = AveragePool<kernel_shape = [5,7], pads = [0,0,0,0]>(x) }",
    "ceil_mode":
        "(float[2,3,5,7] x) => (y) "
        "{ y = AveragePool<kernel_shape = [5,7], ceil_mode = 1, strides = [2,2]>(x) }",
    "count_include_pad":
        "(float[2,3,5,7] x) => (y) "
        "{ y = AveragePool<kernel_shape = [5,7], count_include_pad = 1>(x) }",
    "VALID": '(float[2,3,5,7] x) => (y) { y = AveragePool<kernel_shape = [5,7], auto_pad = "VALID">(x) }',
    "NOTSET": '(float[2,3,5,7] x) => (y) { y = AveragePool<kernel_shape = [5,7], auto_pad = "NOTSET">(x) }',
    "one axis": "(float[2,3,5] x) => (y) { y = AveragePool<kernel_shape = [5]>(x) }",
    "three axes": "(float[2,3,5,2,4] x) => (y) { y = AveragePool<kernel_shape = [5,2,4]>(x) }",
    "map of one pixel": "(float[2,3,1,1] x) => (y) { y = AveragePool<kernel_shape = [1,1]>(x) }",
}

CONVOLUTIONS = {
    "part of the map": ("5,7", "kernel_shape = [5,6]", {}),
    "strided": ("5,7", "kernel_shape = [2,3], strides = [2,1]", {"strides": [2, 1]}),
    "dilated": ("5,7", "kernel_shape = [2,2], dilations = [2,3]", {"dilations": [2, 3]}),
    "padding counted": (
        "5,7", "kernel_shape = [3,3], pads = [1,0,1,2], count_include_pad = 1", {"pads": [1, 0, 1, 2]}),
    "the whole map, padding counted": (
        "5,7", "kernel_shape = [5,7], pads = [1,1,1,1], count_include_pad = 1", {"pads": [1, 1, 1, 1]}),
    "nothing to count": ("5,7", 'kernel_shape = [3,3], auto_pad = "VALID", count_include_pad = 1', {}),
    "1-d": ("5", "kernel_shape = [3], strides = [2]", {"strides": [2]}),
    "3-d": ("5,4,3", "kernel_shape = [3,1,2]", {}),
}

DECLINES = {
    "ceil_mode, which its own rule resolves":
        "(float[2,3,5,7] x) => (y) { y = AveragePool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(x) }",
    "four axes": "(float[2,3,2,2,2,3] x) => (y) { y = AveragePool<kernel_shape = [2,2,2,2]>(x) }",
    "a kernel far beyond the map":
        "(float[2,3,5,7] x) => (y) "
        "{ y = AveragePool<kernel_shape = [3000,3000], pads = [2999,2999,2999,2999], count_include_pad = 1>(x) }",
    "padded":
        "(float[2,3,5,7] x) => (y) "
        "{ y = AveragePool<kernel_shape = [5,7], pads = [1,0,1,0], strides = [9,9]>(x) }",
    "padded, zeros not counted":
        "(float[2,3,2,2] x) => (y) { y = AveragePool<kernel_shape = [2,2], pads = [1,1,1,1], strides = [2,2]>(x) }",
    "SAME_UPPER": '(float[2,3,5,7] x) => (y) { y = AveragePool<kernel_shape = [5,7], auto_pad = "SAME_UPPER">(x) }',
    "SAME_LOWER": '(float[2,3,5,7] x) => (y) { y = AveragePool<kernel_shape = [5,7], auto_pad = "SAME_LOWER">(x) }',
    "unknown size": "(float[2,3,H,7] x) => (y) { y = AveragePool<kernel_shape = [5,7]>(x) }",
    "largest, not mean": "(float[2,3,5,7] x) => (y) { y = MaxPool<kernel_shape = [5,7]>(x) }",
    "another domain": "(float[2,3,5,7] x) => (y) { y = custom.AveragePool<kernel_shape = [5,7]>(x) }",
}


@pytest.mark.parametrize("text", FIRES.values(), ids=FIRES)
def test_fires(text: str) -> None:
    model = applied(average_pool.RULE, text, ["y = GlobalAveragePool(x)"])
    assert attributes(model, "y") == {}


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(average_pool.RULE, text)


def test_input_with_other_readers() -> None:
    applied(average_pool.RULE, "(float[2,3,5,7] x) => (y) { a = Relu(x) m = AveragePool<kernel_shape = [5,7]>(a) "
                               "y = Add(a, m) }", ["a = Relu(x)", "m = GlobalAveragePool(a)", "y = Add(a, m)"])


@pytest.mark.parametrize(("size", "form", "expected"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_mean_of_whole_windows_is_a_convolution(size: str, form: str, expected: dict[str, list[int]]) -> None:
    text = f"(float[2,3,{size}] x) => (y) {{ y = AveragePool<{form}>(x) }}"
    model = applied(average_pool.RULE, text, ["y = Conv(x, y.weight)"])
    n = len(size.split(","))
    weight = graph.required_constant(model.graph.initializers["y.weight"])
    assert weight.shape[:2] == (3, 1)
    assert np.unique(weight).tolist() == [np.float32(1.0 / weight[0].size)]
    form_of = {"strides": [1] * n, "pads": [0] * 2 * n, "dilations": [1] * n} | expected
    assert attributes(model, "y") == form_of | {"group": 3, "kernel_shape": list(weight.shape[2:])}
