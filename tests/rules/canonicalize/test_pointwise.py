"""``MatMul(x, w)`` of three or more axes as a convolution of size 1 between Transposes."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import pointwise

from .graphs import applied, attributes, declined

FIRES = {
    "a sequence": (
        "(float[2,5,6] x) => (y) <float[6,4] w> { y = MatMul(x, w) }",
        ["y.channels_first = Transpose(x)", "y.reshaped = Reshape(y.channels_first, y.shape)",
         "y.map = Conv(y.reshaped, w)", "y.reshaped_2 = Reshape(y.map, y.shape_2)", "y = Transpose(y.reshaped_2)"],
        [0, 2, 1]),
    "a map": (
        "(float[2,5,3,6] x) => (y) <float[6,4] w> { y = MatMul(x, w) }",
        ["y.channels_first = Transpose(x)", "y.map = Conv(y.channels_first, w)", "y = Transpose(y.map)"],
        [0, 2, 3, 1]),
    "a volume": (
        "(float[2,5,3,2,6] x) => (y) <float[6,4] w> { y = MatMul(x, w) }",
        ["y.channels_first = Transpose(x)", "y.reshaped = Reshape(y.channels_first, y.shape)",
         "y.map = Conv(y.reshaped, w)", "y.reshaped_2 = Reshape(y.map, y.shape_2)", "y = Transpose(y.reshaped_2)"],
        [0, 2, 3, 4, 1]),
    "weights on the left": (
        "(float[2,6,5] x) => (y) <float[4,6] w> { y = MatMul(w, x) }",
        ["y.channels_first = Transpose(x)", "y.reshaped = Reshape(y.channels_first, y.shape)",
         "y.map = Conv(y.reshaped, w)", "y.reshaped_2 = Reshape(y.map, y.shape_2)", "y = Transpose(y.reshaped_2)"],
        [0, 1, 2]),
    "weights on the left of a map": (
        "(float[2,3,6,5] x) => (y) <float[4,6] w> { y = MatMul(w, x) }",
        ["y.channels_first = Transpose(x)", "y.map = Conv(y.channels_first, w)", "y = Transpose(y.map)"],
        [0, 2, 1, 3]),
    "features beside axes of size 1": (
        "(float[2,1,1,6] x) => (y) <float[6,4] w> { y = MatMul(x, w) }",
        ["y.flat = Flatten(x)", "y.product = Gemm(y.flat, w)", "y = Reshape(y.product, y.shape)"], None),
    "weights on the left of features beside axes of size 1": (
        "(float[2,6,1] x) => (y) <float[4,6] w> { y = MatMul(w, x) }",
        ["y.flat = Flatten(x)", "y.product = Gemm(y.flat, w)", "y = Reshape(y.product, y.shape)"], None),
    "a weight that another node reads": (
        "(float[2,5,3,6] x) => (y, z) <float[6,4] w> { y = MatMul(x, w) z = Neg(w) }",
        ["y.channels_first = Transpose(x)", "y.map = Conv(y.channels_first, w_2)", "y = Transpose(y.map)",
         "z = Neg(w)"],
        [0, 2, 3, 1]),
}

DECLINES = {
    "features": "(float[2,6] x) => (y) <float[6,4] w> { y = MatMul(x, w) }",
    "weights on the left of features": "(float[6,2] x) => (y) <float[4,6] w> { y = MatMul(w, x) }",
    "two activations": "(float[2,5,6] x, float[2,6,4] z) => (y) { y = MatMul(x, z) }",
    "a batch of matrices": "(float[2,5,6] x) => (y) <float[2,6,4] w> { y = MatMul(x, w) }",
    "a vector": "(float[2,5,6] x) => (y) <float[6] w> { y = MatMul(x, w) }",
    "weights can be fed": "(float[2,5,2] x, float[2,1] w = {1,2}) => (y) { y = MatMul(x, w) }",
    "unknown sizes": "(float[2,L,6] x) => (y) <float[6,4] w> { y = MatMul(x, w) }",
}


@pytest.mark.parametrize(("text", "after", "perm"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], perm: list[int] | None) -> None:
    model = applied(pointwise.RULE, text, after)
    assert attributes(model, "y") == ({} if perm is None else {"perm": perm})


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(pointwise.RULE, text)
