"""``Clip(x, 0, inf) -> Relu(x)``; Max and Min with numbers, bounds of bounds, slopes of 0 or 1 likewise."""

from __future__ import annotations

import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import clip

from .graphs import applied, attributes, declined

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
    "Max with zero": "(float[2,3,4,4] x) => (y) <float lo = {0}> { y = Max(x, lo) }",
    "Max of zero": "(float[2,3,4,4] x) => (y) <float[1] lo = {0}> { y = Max(lo, x) }",
    "the larger one of two bounds": "(float[2,3,4,4] x) => (y) <float a = {-1}, float b = {0}> { y = Max(x, a, b) }",
    "Relu of Relu": "(float[2,3,4,4] x) => (y) { a = Relu(x) y = Relu(a) }",
    "a bound of a bound": "(float[2,3,4,4] x) => (y) <float lo = {-1}> { a = Clip(x, lo) y = Relu(a) }",
    "LeakyRelu of slope 0": "(float[2,3,4,4] x) => (y) { y = LeakyRelu<alpha = 0.0>(x) }",
    "PRelu of slopes 0": "(float[2,3,4,4] x) => (y) <float[3,1,1] s = {0, 0, 0}> { y = PRelu(x, s) }",
}

OTHERS = {
    "no bounds": ("(float[2,3,4,4] x) => (y) { y = Clip(x) }", "y = Identity(x)", None),
    "an infinite bound alone": (
        '(float[2,3,4,4] x) => (y) <float hi = {inf}> { y = Clip(x, "", hi) }', "y = Identity(x)", None),
    "Max of one": ("(float[2,3,4,4] x) => (y) { y = Max(x) }", "y = Identity(x)", None),
    "LeakyRelu of slope 1": ("(float[2,3,4,4] x) => (y) { y = LeakyRelu<alpha = 1.0>(x) }", "y = Identity(x)", None),
    "PRelu of slope 1": ("(float[2,3,4,4] x) => (y) <float[1] s = {1}> { y = PRelu(x, s) }", "y = Identity(x)", None),
    "no lower bound": (
        "(float[2,3,4,4] x) => (y) <float lo = {-3.4e38}, float hi = {6}> { y = Clip(x, lo, hi) }",
        "y = Clip(x, -, y.hi)", (None, 6.0)),
    "Max": ("(float[2,3,4,4] x) => (y) <float lo = {1}> { y = Max(x, lo) }", "y = Clip(x, y.lo, -)", (1.0, None)),
    "Min": ("(float[2,3,4,4] x) => (y) <float hi = {1}> { y = Min(hi, x) }", "y = Clip(x, -, y.hi)", (None, 1.0)),
    "Relu6 of two operators": (
        "(float[2,3,4,4] x) => (y) <float hi = {6}> { a = Relu(x) y = Min(a, hi) }", "y = Clip(x, y.lo, y.hi)",
        (0.0, 6.0)),
    "bounds within bounds": (
        "(float[2,3,4,4] x) => (y) <float a = {-2}, float b = {2}, float c = {-1}, float d = {3}> "
        "{ i = Clip(x, a, b) y = Clip(i, c, d) }", "y = Clip(x, y.lo, y.hi)", (-1.0, 2.0)),
    "bounds below zero": (
        "(float[2,3,4,4] x) => (y) <float a = {-2}, float b = {-1}> { i = Clip(x, a, b) y = Relu(i) }",
        "y = Clip(x, y.lo, y.hi)", (0.0, 0.0)),
    "bounds that cross": (
        "(float[2,3,4,4] x) => (y) <float a = {2}, float b = {1}> { i = Clip(x, a, b) y = Relu(i) }",
        "y = Clip(x, y.lo, y.hi)", (2.0, 1.0)),
    "PRelu of one slope": (
        "(float[2,3,4,4] x) => (y) <float[1] s = {0.25}> { y = PRelu(x, s) }", "y = LeakyRelu(x)", None),
    "PRelu of equal slopes": (
        "(float[2,3,4,4] x) => (y) <float[3,1,1] s = {0.25, 0.25, 0.25}> { y = PRelu(x, s) }", "y = LeakyRelu(x)",
        None),
}

DECLINES = {
    "Relu": "(float[2,3,4,4] x) => (y) { y = Relu(x) }",
    "upper bound alone": '(float[2,3,4,4] x) => (y) <float hi = {2}> { y = Clip(x, "", hi) }',
    "bounds that cross": "(float[2,3,4,4] x) => (y) <float lo = {2}, float hi = {1}> { y = Clip(x, lo, hi) }",
    "an inner bound that is returned": "(float[2,3,4,4] x) => (y, a) { a = Relu(x) y = Relu(a) }",
    "an inner bound that others read": "(float[2,3,4,4] x) => (y, z) { a = Relu(x) y = Relu(a) z = Neg(a) }",
    "Max of two tensors": "(float[2,3,4,4] x, float[2,3,4,4] z) => (y) { y = Max(x, z) }",
    "Max with more axes": "(float[3,4,4] x) => (y) <float[1,1,1,1] lo = {0}> { y = Max(x, lo) }",
    "Max with a number a channel": "(float[2,3,4,4] x) => (y) <float[3,1,1] lo = {0, 1, 2}> { y = Max(x, lo) }",
    "Max with infinity": "(float[2,3,4,4] x) => (y) <float lo = {inf}> { y = Max(x, lo) }",
    "Max with what is no number": "(float[2,3,4,4] x) => (y) <float lo = {nan}> { y = Max(x, lo) }",
    "a bound of Max can be fed": "(float[2,3,4,4] x, float lo = {0}) => (y) { y = Max(x, lo) }",
    "LeakyRelu": "(float[2,3,4,4] x) => (y) { y = LeakyRelu(x) }",
    "PRelu": "(float[2,3,4,4] x) => (y) <float[3,1,1] s = {0.25, 0.5, 0.25}> { y = PRelu(x, s) }",
    "slopes that can be fed": "(float[2,3,4,4] x, float[1] s = {0}) => (y) { y = PRelu(x, s) }",
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


@pytest.mark.parametrize(("text", "after", "bounds"), OTHERS.values(), ids=OTHERS)
def test_other_forms(text: str, after: str, bounds: tuple[float | None, float | None] | None) -> None:
    model = applied(clip.RULE, text, [after])
    if bounds is not None:
        found = [None if v is None else graph.required_constant(v).item() for v in model.graph[0].inputs[1:]]
        assert found == list(bounds)
    elif "LeakyRelu" in after:
        assert attributes(model, "y") == {"alpha": 0.25}


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(clip.RULE, text)


def test_a_bound_that_others_read_stays() -> None:
    text = "(float[2,3,4,4] x) => (y) <float lo = {0}> { a = Clip(x, lo) b = Add(a, lo) y = Clip(b, lo) }"
    applied(clip.RULE, text, ["a = Relu(x)", "b = Add(a, lo)", "y = Relu(b)"], count=2)
