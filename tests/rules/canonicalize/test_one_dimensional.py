"""Convolution and pooling of (N, C, L) as those of (N, C, 1, L) between two Reshapes."""

from __future__ import annotations

from typing import Any

import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import one_dimensional

from .graphs import applied, attributes, declined

X = "(float[2,4,9] x) => (y)"

FIRES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Conv": (f"{X} <float[6,4,3] w> {{ y = Conv(x, w) }}", "Conv(y.map, w)", {}),
    "Conv, every attribute": (
        f"{X} <float[6,2,3] w, float[6] b> {{ y = Conv<kernel_shape = [3], strides = [2], pads = [1,3],"
        " dilations = [2], group = 2>(x, w, b) }", "Conv(y.map, w, b)",
        {"kernel_shape": [1, 3], "strides": [1, 2], "pads": [0, 1, 0, 3], "dilations": [1, 2], "group": 2}),
    "auto_pad that says nothing": (
        f'{X} <float[6,4,3] w> {{ y = Conv<auto_pad = "NOTSET">(x, w) }}', "Conv(y.map, w)", {"auto_pad": "NOTSET"}),
    "MaxPool": (
        f"{X} {{ y = MaxPool<kernel_shape = [3], strides = [2], pads = [0,1], ceil_mode = 1>(x) }}", "MaxPool(y.map)",
        {"kernel_shape": [1, 3], "strides": [1, 2], "pads": [0, 0, 0, 1], "ceil_mode": 1}),
    "AveragePool": (
        f"{X} {{ y = AveragePool<kernel_shape = [3], pads = [1,1], count_include_pad = 1>(x) }}",
        "AveragePool(y.map)", {"kernel_shape": [1, 3], "pads": [0, 1, 0, 1], "count_include_pad": 1}),
    "GlobalAveragePool": (f"{X} {{ y = GlobalAveragePool(x) }}", "GlobalAveragePool(y.map)", {}),
}

DECLINES = {
    "a map": "(float[2,4,9,9] x) => (y) <float[6,4,3,3] w> { y = Conv(x, w) }",
    "a volume": "(float[2,4,3,3,3] x) => (y) { y = GlobalAveragePool(x) }",
    "auto_pad": f'{X} <float[6,4,3] w> {{ y = Conv<auto_pad = "SAME_UPPER">(x, w) }}',
    "weights can be fed": "(float[2,1,9] x, float[1,1,2] w = {1,2}) => (y) { y = Conv(x, w) }",
    "weights computed": "(float[2,4,9] x, float[6,4,3] v) => (y) { w = Neg(v) y = Conv(x, w) }",
    "indices are an output": "(float[2,4,9] x) => (y, i) { y, i = MaxPool<kernel_shape = [3]>(x) }",
    "indices are read": "(float[2,4,9] x) => (y, j) { y, i = MaxPool<kernel_shape = [3]>(x) j = Neg(i) }",
    "unknown sizes": "(float[2,4,L] x) => (y) { y = GlobalAveragePool(x) }",
}


@pytest.mark.parametrize(("text", "layer", "expected"), FIRES.values(), ids=FIRES)
def test_fires(text: str, layer: str, expected: dict[str, Any]) -> None:
    model = applied(one_dimensional.RULE, text,
                    ["y.map = Reshape(x, y.map.shape)", f"y.mapped = {layer}", "y = Reshape(y.mapped, y.shape)"])
    assert attributes(model, "y.mapped") == expected
    assert graph.required_constant(model.graph.initializers["y.map.shape"]).tolist() == [0, 4, 1, 9]


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(one_dimensional.RULE, text)
