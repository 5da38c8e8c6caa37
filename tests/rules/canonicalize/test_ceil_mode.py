"""``pool(x, ceil_mode = 1) -> pool(x)``, the last windows as padding at the end."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from onnxdiana.canonical import canonicalize, prove
from onnxdiana.errors import ModelError
from onnxdiana.rules.canonicalize import ceil_mode

from .graphs import applied, declined, feed, proto

FIRES = {
    "odd map": (
        "(float[2,2,5,5] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(x) }",
        ["y = MaxPool(x)"], 1),
    "even map": (
        "(float[2,2,4,4] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(x) }",
        ["y = MaxPool(x)"], 1),
    "padded, odd map": (
        "(float[2,2,5,5] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2], pads = [1,1,1,1], "
        "ceil_mode = 1>(x) }",
        ["y = MaxPool(x)"], 1),
    "padded, even map: a last window that would start in the padding": (
        "(float[2,2,4,4] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2], pads = [1,1,1,1], "
        "ceil_mode = 1>(x) }",
        ["y = MaxPool(x)"], 1),
    "in one axis only": (
        "(float[2,2,4,5] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2], pads = [1,1,1,1], "
        "ceil_mode = 1>(x) }",
        ["y = MaxPool(x)"], 1),
    "strides beyond the kernel": (
        "(float[2,2,6,7] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [4,3], ceil_mode = 1>(x) }",
        ["y = MaxPool(x)"], 1),
    "dilated": (
        "(float[2,2,8,9] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2], dilations = [2,2], "
        "ceil_mode = 1>(x) }",
        ["y = MaxPool(x)"], 1),
    "1-d": (
        "(float[2,2,5] x) => (y) { y = MaxPool<kernel_shape = [2], strides = [2], ceil_mode = 1>(x) }",
        ["y = MaxPool(x)"], 1),
    "3-d": (
        "(float[2,2,5,4,3] x) => (y) { y = MaxPool<kernel_shape = [2,2,2], strides = [2,2,2], ceil_mode = 1>(x) }",
        ["y = MaxPool(x)"], 1),
    "average": (
        "(float[2,2,5,5] x) => (y) { y = AveragePool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(x) }",
        ["y = AveragePool(x)"], 1),
    "average, counted": (
        "(float[2,2,5,5] x) => (y) { y = AveragePool<kernel_shape = [2,2], strides = [2,2], count_include_pad = 1, "
        "ceil_mode = 1>(x) }",
        ["y = AveragePool(x)"], 1),
    "average, padded": (
        "(float[2,2,6,6] x) => (y) { y = AveragePool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1], "
        "ceil_mode = 1>(x) }",
        ["y = AveragePool(x)"], 1),
    "average, padding counted": (
        "(float[2,2,6,6] x) => (y) { y = AveragePool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1], "
        "count_include_pad = 1, ceil_mode = 1>(x) }",
        ["y.padded = Pad(x, y.pads)", "y = AveragePool(y.padded)"], 1),
    "average, padding counted, nothing beyond": (
        "(float[2,2,5,5] x) => (y) { y = AveragePool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1], "
        "count_include_pad = 1, ceil_mode = 1>(x) }",
        ["y = AveragePool(x)"], 1),
    "VALID": (
        '(float[2,2,5,5] x) => (y) { y = MaxPool<kernel_shape = [5,5], auto_pad = "VALID", ceil_mode = 1>(x) }',
        ["y = MaxPool(x)"], 1),
    "what stands behind gets its shape": (
        "(float[2,2,4,4] x) => (y) { a = MaxPool<kernel_shape = [2,2], strides = [2,2], pads = [1,1,1,1], "
        "ceil_mode = 1>(x) b = Relu(a) y = Flatten(b) }",
        ["a = MaxPool(x)", "b = Relu(a)", "y = Flatten(b)"], 1),
    "one behind another": (
        "(float[2,2,4,4] x) => (y) { a = MaxPool<kernel_shape = [2,2], strides = [2,2], pads = [1,1,1,1], "
        "ceil_mode = 1>(x) y = MaxPool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(a) }",
        ["a = MaxPool(x)", "y = MaxPool(a)"], 2),
}

DECLINES = {
    "rounded down":
        "(float[2,2,5,5] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 0>(x) }",
    "SAME":
        '(float[2,2,5,5] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2], auto_pad = "SAME_UPPER", '
        "ceil_mode = 1>(x) }",
    "padding as wide as the kernel":
        "(float[2,2,3,7] x) => (y) { y = MaxPool<kernel_shape = [1,2], strides = [1,3], dilations = [1,2], "
        "ceil_mode = 1>(x) }",
    "unknown size":
        "(float[2,2,H,5] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(x) }",
    "another domain":
        "(float[2,2,5,5] x) => (y) { y = custom.MaxPool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(x) }",
}


@pytest.mark.parametrize(("text", "after", "count"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], count: int) -> None:
    applied(ceil_mode.RULE, text, after, count)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(ceil_mode.RULE, text)


@pytest.mark.parametrize("size", ["4,4", "5,5", "4,5", "1,1", "2,3"])
@pytest.mark.parametrize("form", ["MaxPool<", "AveragePool<", "AveragePool<count_include_pad = 1, "])
def test_torchs_padded_pool_in_front_of_a_layer(form: str, size: str) -> None:
    """``MaxPool2d(2, 2, padding=1, ceil_mode=True)``: ONNX's shape inference counts windows that nobody computes."""
    text = (f"(float[N,2,{size}] x) => (y) <float[3,2,1,1] w> {{ a = {form}kernel_shape = [2,2], strides = [2,2], "
            "pads = [1,1,1,1], ceil_mode = 1>(x) y = Conv(a, w) }")
    model = ir.from_proto(proto(text))
    assert prove(model, canonicalize(model), [feed(proto(text))]) <= 1e-5


def test_a_model_that_onnxruntime_does_not_load_is_the_models_fault() -> None:
    """Its own shape inference finds one window more than the dense layer behind was trained for."""
    text = ("(float[N,2,5,5] x) => (y) <float[18,3] w> { a = MaxPool<kernel_shape = [2,2], strides = [2,2], "
            "pads = [1,1,1,1], ceil_mode = 1>(x) f = Flatten(a) y = MatMul(f, w) }")
    model = ir.from_proto(proto(text))
    with pytest.raises(ModelError, match="onnxruntime cannot load the model"):
        prove(model, canonicalize(model), [feed(proto(text))])
