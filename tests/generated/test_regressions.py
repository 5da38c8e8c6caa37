"""What generated graphs have found, each by name, in ONNX text."""

from __future__ import annotations

import pytest
from tiny import model

from tests.generated.test_graphs import judged

FOUND = {
    # the constants of a Split's parts came back in another order from a file
    "parts of a Split": (
        "(float[N,4,5,5] x) => (float[N,3] y) <float[3,100] w, int64[2] s = {1,3}> { a, b = Split<axis = 1>(x, s) "
        "r = Relu(a) c = Concat<axis = 1>(b, r) f = Flatten(c) e = Gemm<transB = 1>(f, w) y = LogSoftmax(e) }"),
    # with one channel the Transpose became a Reshape, and the mean then one over channels
    "mean over the map of one channel, channels last": (
        "(float[N,1,3,3] x) => (float[N,1] y) <int64[2] axes = {1,2}, float[1,1] w> { r = Relu(x) "
        "t = Transpose<perm = [0,2,3,1]>(r) m = ReduceMean<keepdims = 0>(t, axes) y = MatMul(m, w) }"),
    "mean over channels": (
        "(float[N,3,4,5] x) => (float[N,4,5] y) <int64[1] axes = {1}> { y = ReduceMean<keepdims = 0>(x, axes) }"),
    "mean over channels and height": (
        "(float[N,3,4,5] x) => (float[N,1,1,5] y) <int64[2] axes = {1,2}> { y = ReduceMean(x, axes) }"),
    "one bias for many Adds": (
        "(float[N,3] x) => (float[N,3] y) <float[3,3] w, float[3] c> { a = MatMul(x, w) b = Add(a, c) d = Add(b, c) "
        "e = Add(c, d) y = Relu(e) }"),
    "Gemm of a transposed tensor": (
        "(float[N,4] x) => (float[N,3] y) <float[4,3] w> "
        "{ t = Transpose<perm = [1,0]>(x) y = Gemm<transA = 1>(t, w) }"),
}


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND)
def test_found_before(text: str) -> None:
    judged(model(text))
