"""``auto_pad -> pads`` on Conv, MaxPool and AveragePool."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from onnxdiana.rules.canonicalize import auto_pad

from .graphs import applied, attributes, declined, feed, parse, proto

FIRES = {
    "SAME_UPPER, odd total": (
        "(float[2,3,5,6] x) => (y) <float[4,3,2,3] w> "
        '{ y = Conv<auto_pad = "SAME_UPPER">(x, w) }', [0, 1, 1, 1]),
    "SAME_LOWER, odd total": (
        "(float[2,3,5,6] x) => (y) <float[4,3,2,3] w> "
        '{ y = Conv<auto_pad = "SAME_LOWER">(x, w) }', [1, 1, 0, 1]),
    "SAME_UPPER, strides": (
        "(float[2,3,5,6] x) => (y) <float[4,3,3,3] w> "
        '{ y = Conv<auto_pad = "SAME_UPPER", strides = [2,2]>(x, w) }', [1, 0, 1, 1]),
    "SAME_LOWER, strides": (
        "(float[2,3,5,6] x) => (y) <float[4,3,3,3] w> "
        '{ y = Conv<auto_pad = "SAME_LOWER", strides = [2,2]>(x, w) }', [1, 1, 1, 0]),
    "stride larger than the kernel": (
        "(float[2,3,6,5] x) => (y) <float[4,3,1,1] w> "
        '{ y = Conv<auto_pad = "SAME_UPPER", strides = [2,3]>(x, w) }', [0, 0, 0, 0]),
    "kernel_shape written out": (
        "(float[2,3,5,6] x) => (y) <float[4,3,3,3] w> "
        '{ y = Conv<auto_pad = "SAME_UPPER", kernel_shape = [3,3]>(x, w) }', [1, 1, 1, 1]),
    "VALID": (
        "(float[2,3,5,6] x) => (y) <float[4,3,3,3] w> "
        '{ y = Conv<auto_pad = "VALID", strides = [2,2]>(x, w) }', [0, 0, 0, 0]),
    "VALID, dilations": (
        "(float[2,3,5,6] x) => (y) <float[4,3,3,3] w> "
        '{ y = Conv<auto_pad = "VALID", dilations = [2,2]>(x, w) }', [0, 0, 0, 0]),
    "NOTSET": (
        "(float[2,3,5,6] x) => (y) <float[4,3,3,3] w> "
        '{ y = Conv<auto_pad = "NOTSET", pads = [0,1,2,0]>(x, w) }', [0, 1, 2, 0]),
    "1-d": (
        "(float[2,3,7] x) => (y) <float[4,3,4] w> "
        '{ y = Conv<auto_pad = "SAME_LOWER">(x, w) }', [2, 1]),
    "max pool": (
        "(float[2,3,5,6] x) => (y) "
        '{ y = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [3,3], strides = [2,2]>(x) }', [1, 0, 1, 1]),
    "max pool, VALID, dilations": (
        "(float[2,3,5,6] x) => (y) "
        '{ y = MaxPool<auto_pad = "VALID", kernel_shape = [2,2], dilations = [3,2]>(x) }', [0, 0, 0, 0]),
    "max pool, ceil_mode": (
        "(float[2,3,5,6] x) => (y) "
        '{ y = MaxPool<auto_pad = "VALID", ceil_mode = 1, kernel_shape = [2,2], strides = [2,3]>(x) }', [0, 0, 0, 0]),
    "average pool": (
        "(float[2,3,5,6] x) => (y) "
        '{ y = AveragePool<auto_pad = "SAME_LOWER", kernel_shape = [3,2], strides = [2,1]>(x) }', [1, 1, 1, 0]),
    "average pool, zeros counted": (
        "(float[2,3,5,6] x) => (y) "
        '{ y = AveragePool<auto_pad = "SAME_UPPER", count_include_pad = 1, kernel_shape = [3,2]>(x) }', [1, 0, 1, 1]),
}

DECLINES = {
    "no auto_pad": "(float[2,3,5,6] x) => (y) <float[4,3,3,3] w> { y = Conv<pads = [1,1,1,1]>(x, w) }",
    "SAME on an open size":
        "(float[2,3,H,6] x) => (y) <float[4,3,3,3] w> "
        "{ y = Conv<auto_pad = \"SAME_UPPER\">(x, w) }",
    "SAME on an unknown rank":
        '(x) => (y) <float[4,3,3,3] w> { a = custom.F(x) y = Conv<auto_pad = "SAME_UPPER">(a, w) }',
    "kernel that can be fed":
        '(float[2,1,5,6] x, float[1,1,1,2] w = {1,2}) => (y) '
        '{ y = Conv<auto_pad = "SAME_UPPER">(x, w) }',
    "max pool with dilations, where onnxruntime departs from the standard":
        '(float[2,3,5,6] x) => (y) '
        '{ y = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [2,2], dilations = [2,2]>(x) }',
    "max pool with gaps, which onnxruntime refuses":
        '(float[2,3,6,6] x) => (y) { y = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [1,1], strides = [3,3]>(x) }',
    "transposed convolution":
        '(float[2,3,5,6] x) => (y) <float[3,4,3,3] w> { y = ConvTranspose<auto_pad = "SAME_UPPER">(x, w) }',
    "another domain":
        '(float[2,3,5,6] x) => (y) <float[4,3,3,3] w> { y = custom.Conv<auto_pad = "SAME_UPPER">(x, w) }',
}


@pytest.mark.parametrize(("text", "pads"), FIRES.values(), ids=FIRES)
def test_fires(text: str, pads: list[int]) -> None:
    line = text[text.index("{ y = ") + 2:text.index("<", text.index("{ y = "))] + ("(x, w)" if "w)" in text else "(x)")
    model = applied(auto_pad.RULE, text, [line])
    others = attributes(parse(text), "y")
    del others["auto_pad"]
    assert attributes(model, "y") == others | {"pads": pads}


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(auto_pad.RULE, text)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("op_type", ["Conv", "MaxPool"])
def test_every_geometry(op_type: str, mode: str) -> None:
    for size, kernel, stride in itertools.product((5, 6, 7), (1, 2, 3, 5), (1, 2, 3)):
        if op_type == "MaxPool" and kernel < stride:
            continue  # onnxruntime refuses some of them
        weights, inputs = (f"<float[4,3,{kernel},{kernel}] w>", "(x, w)") if op_type == "Conv" else ("", "(x)")
        applied(auto_pad.RULE, f'(float[2,3,{size},{size}] x) => (y) {weights} {{ y = {op_type}<auto_pad = "{mode}", '
                               f"kernel_shape = [{kernel},{kernel}], strides = [{stride},{stride}]>{inputs} }}",
                [f"y = {op_type}{inputs}"])


@pytest.mark.parametrize(("mode", "pads"), [("SAME_UPPER", [1, 3, 2, 3]), ("SAME_LOWER", [2, 3, 1, 3])])
def test_dilated_convolution(mode: str, pads: list[int]) -> None:
    # onnxruntime refuses the original, ONNX's own reference runs it
    text = (f'(float[2,3,5,6] x) => (y) <float[4,3,2,3] w> '
            f'{{ y = Conv<auto_pad = "{mode}", dilations = [3,3], strides = [1,1]>(x, w) }}')
    model = parse(text)
    assert auto_pad.RULE.apply(model) == 1
    assert attributes(model, "y")["pads"] == pads
    inputs = feed(proto(text))
    expected, = ReferenceEvaluator(proto(text)).run(None, inputs)
    found, = ReferenceEvaluator(ir.to_proto(model)).run(None, inputs)
    assert found.shape == (2, 4, 5, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
