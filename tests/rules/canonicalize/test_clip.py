"""``Clip(x, 0, inf) -> Relu(x)``."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import clip

from .graphs import applied, declined

FIRES = {
    "lower bound alone": "(float[2,3,4,4] x) => (y) <float lo = {0}> { y = Clip(x, lo) }",
    "upper bound explicitly empty": '(float[2,3,4,4] x) => (y) <float lo = {0}> { y = Clip(x, lo, "") }',
    "infinity": "(float[2,3,4,4] x) => (y) <float lo = {0}, float hi = {inf}> { y = Clip(x, lo, hi) }",
    "largest float32":
        "(float[2,3,4,4] x) => (y) <float lo = {0}, float hi = {3.4028234663852886e38}> { y = Clip(x, lo, hi) }",
    "largest float32, rounded":
        "(float[2,3,4,4] x) => (y) <float lo = {0}, float hi = {3.4e38}> "
        "{ y = Clip(x, lo, hi) }",
    "negative zero": "(float[2,3,4,4] x) => (y) <float lo = {-0.0}> { y = Clip(x, lo) }",
}

DECLINES = {
    "relu6": "(float[2,3,4,4] x) => (y) <float lo = {0}, float hi = {6}> { y = Clip(x, lo, hi) }",
    "lower bound is not zero": "(float[2,3,4,4] x) => (y) <float lo = {-1}> { y = Clip(x, lo) }",
    "upper bound is minus infinity":
        "(float[2,3,4,4] x) => (y) <float lo = {0}, float hi = {-inf}> { y = Clip(x, lo, hi) }",
    "lower bound computed": "(float[2,3,4,4] x) => (y) { lo = ReduceMin<keepdims = 0>(x) y = Clip(x, lo) }",
    "upper bound computed":
        "(float[2,3,4,4] x) => (y) <float lo = {0}> { hi = ReduceMax<keepdims = 0>(x) y = Clip(x, lo, hi) }",
    "lower bound can be fed": "(float[2,3,4,4] x, float lo = {0}) => (y) { y = Clip(x, lo) }",
    "upper bound can be fed": "(float[2,3,4,4] x, float hi = {inf}) => (y) <float lo = {0}> { y = Clip(x, lo, hi) }",
    "a bound a channel": "(float[2,3,4,4] x) => (y) <float[3] lo = {0, 0, 0}> { y = Clip(x, lo) }",
    "another domain": "(float[2,3,4,4] x) => (y) <float lo = {0}> { y = custom.Clip(x, lo) }",
}


@pytest.mark.parametrize("text", FIRES.values(), ids=FIRES)
def test_fires(text: str) -> None:
    model = applied(clip.RULE, text, ["y = Relu(x)"])
    assert not model.graph.initializers


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(clip.RULE, text)


def test_a_bound_that_others_read_stays() -> None:
    text = "(float[2,3,4,4] x) => (y) <float lo = {0}> { a = Clip(x, lo) b = Add(a, lo) y = Clip(b, lo) }"
    applied(clip.RULE, text, ["a = Relu(x)", "b = Add(a, lo)", "y = Relu(b)"], count=2)
