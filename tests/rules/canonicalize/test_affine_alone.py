"""``k * x + o -> Conv(x, k, o)``, one group of size 1 a channel."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import affine_alone

from .graphs import applied, attributes, declined, parse

FIRES = {
    "factor": (
        "(float[2,3,5,5] x) => (y) <float[3,1,1] k> { y = Mul(x, k) }",
        ["y = Conv(x, y.weight, y.bias)"], 1),
    "offset": (
        "(float[2,3,5,5] x) => (y) <float[1,3,1,1] o> { y = Add(o, x) }",
        ["y = Conv(x, y.weight, y.bias)"], 1),
    "chain": (
        "(float[2,3,5,5] x) => (y) <float k, float[3,1,1] o> { a = Mul(x, k) c = Add(a, o) y = Mul(c, k) }",
        ["y = Conv(x, y.weight, y.bias)"], 1),
    "a part that is returned": (
        "(float[2,3,5,5] x) => (y, a) <float k, float[3,1,1] o> { a = Mul(x, k) y = Add(a, o) }",
        ["a = Conv(x, a.weight, a.bias)", "y = Conv(a, y.weight, y.bias)"], 2),
    "features": (
        "(float[2,3] x) => (y) <float[3] k, float[3] o> { a = Mul(x, k) y = Add(a, o) }",
        ["y.point = Reshape(x, y.shape)", "y.affine = Conv(y.point, y.weight, y.bias)", "y = Flatten(y.affine)"], 1),
    "a number a place": (
        "(float[2,3,5,5] x) => (y) <float[5] k> { y = Mul(x, k) }",
        ["y.point = Reshape(x, y.point.shape)", "y.affine = Conv(y.point, y.weight, y.bias)",
         "y = Reshape(y.affine, y.shape)"], 1),
    "an offset a place of a sequence": (
        "(float[2,3,4] x) => (y) <float[1,3,4] o> { y = Add(o, x) }",
        ["y.point = Reshape(x, y.point.shape)", "y.affine = Conv(y.point, y.weight, y.bias)",
         "y = Reshape(y.affine, y.shape)"], 1),
    "features scalar": (
        "(float[2,3] x) => (y) <float k> { y = Mul(x, k) }",
        ["y.point = Reshape(x, y.shape)", "y.affine = Conv(y.point, y.weight, y.bias)", "y = Flatten(y.affine)"], 1),
    "1-d": (
        "(float[2,3,5] x) => (y) <float[3,1] k> { y = Mul(x, k) }",
        ["y = Conv(x, y.weight, y.bias)"], 1),
    "3-d": (
        "(float[2,3,2,2,2] x) => (y) <float[3,1,1,1] k> { y = Mul(x, k) }",
        ["y = Conv(x, y.weight, y.bias)"], 1),
    "one channel": (
        "(float[2,1,5,5] x) => (y) <float k> { y = Mul(x, k) }",
        ["y = Conv(x, y.weight, y.bias)"], 1),
    "behind a table and a pool": (
        "(float[2,3,5,5] x) => (y) <float k> { s = Sigmoid(x) m = MaxPool<kernel_shape = [2,2]>(s) y = Mul(m, k) z "
        "= Relu(y) }",
        ["s = Sigmoid(x)", "m = MaxPool(s)", "y = Conv(m, y.weight, y.bias)"], 1),
    "names that exist": (
        '(float[2,3,5,5] x) => (z) <float[3,1,1] k, float[1,3,1,1] "y.bias"> { "y.weight" = Relu(x) y = '
        'Mul("y.weight", k) z = Sub(y, "y.bias") }',
        ["y.weight = Relu(x)", "y = Conv(y.weight, y.weight_2, y.bias_2)", "z = Sub(y, y.bias)"], 1),
}

DECLINES = {
    "four axes": "(float[2,3,1,1,1,1] x) => (y) <float[3,1,1,1,1] k> { y = Mul(x, k) }",
    "part of a table": "(float[2,3,5,5] x) => (y) <float k> { s = Sigmoid(x) y = Mul(s, k) }",
    "in the float tail":
        "(float[2,3] x) => (y) <float[4,3] w, float k> { g = Gemm<transB = 1>(x, w) s = Softmax(g) y = Mul(s, k) }",
    "two tensors": "(float[2,3,5,5] x) => (y) { y = Mul(x, x) }",
    "a number a place that makes the tensor larger": "(float[2,3,1] x) => (y) <float[5] k> { y = Mul(x, k) }",
    "a number a sample": "(float[2,3] x) => (y) <float[2,3] k> { y = Mul(x, k) }",
    "unknown size": "(float[2,3,H,5] x) => (y) <float k> { y = Mul(x, k) }",
    "a factor that can be fed": "(float[2,3,5,5] x, float k = {2}) => (y) { y = Mul(x, k) }",
    "another domain": "(float[2,3,5,5] x) => (y) <float k> { y = custom.Mul(x, k) }",
}


@pytest.mark.parametrize(("text", "after", "count"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], count: int) -> None:
    applied(affine_alone.RULE, text, after, count)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(affine_alone.RULE, text)


@pytest.mark.parametrize(("shape", "axes", "group"), [("2,3,5", 1, 3), ("2,3,5,4", 2, 3), ("2,3,2,2,2", 3, 3),
                                                      ("2,3", 2, 3), ("2,1,5,4", 2, 1)])
def test_one_group_of_size_1_a_channel(shape: str, axes: int, group: int) -> None:
    model = parse(f"(float[{shape}] x) => (y) <float k = {{2}}> {{ y = Mul(x, k) }}")
    assert affine_alone.RULE.apply(model) == 1
    layer = next(node.outputs[0].name for node in model.graph if node.op_type == "Conv")
    assert attributes(model, layer or "") == {"group": group, "kernel_shape": [1] * axes, "strides": [1] * axes,
                                              "pads": [0] * 2 * axes, "dilations": [1] * axes}
