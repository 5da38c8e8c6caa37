"""``Concat(x[-b:], x, x[:e]) -> Pad(x, b, e, wrap)`` along one axis."""

from __future__ import annotations

import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import circular_pad

from .graphs import applied, attributes, declined

X = "(float[2,3,5,7] x) => (y)"
FAR = 2**63 - 1
N = f"int64[1] m2 = {{-2}}, int64[1] m1 = {{-1}}, int64[1] n0 = {{0}}, int64[1] n1 = {{1}}, int64[1] n2 = {{2}}, " \
    f"int64[1] n3 = {{3}}, int64[1] n5 = {{5}}, int64[1] far = {{{FAR}}}"
PAD = ["y = Pad(x, y.pads)"]

FIRES = {
    "both sides": (
        f"{X} <{N}> {{ h = Slice(x, m2, far, n2) t = Slice(x, n0, n1, n2) y = Concat<axis = 2>(h, x, t) }}",
        [0, 0, 2, 0, 0, 0, 1, 0]),
    "the other axis, from the end": (
        f"{X} <{N}> {{ h = Slice(x, m1, far, m1) t = Slice(x, n0, n2, n3) y = Concat<axis = -1>(h, x, t) }}",
        [0, 0, 0, 1, 0, 0, 0, 2]),
    "in front alone": (
        f"{X} <{N}> {{ h = Slice(x, n3, n5, n2) y = Concat<axis = 2>(h, x) }}", [0, 0, 2, 0, 0, 0, 0, 0]),
    "behind alone": (
        f"{X} <{N}> {{ t = Slice(x, n0, n3, n2, n1) y = Concat<axis = 2>(x, t) }}", [0, 0, 0, 0, 0, 0, 3, 0]),
    "channels": (
        f"{X} <{N}> {{ t = Slice(x, n0, n2, n1) y = Concat<axis = 1>(x, t) }}", [0, 0, 0, 0, 0, 2, 0, 0]),
}

DECLINES = {
    "another part behind": f"{X} <{N}> {{ t = Slice(x, n1, n3, n2) y = Concat<axis = 2>(x, t) }}",
    "another part in front": f"{X} <{N}> {{ h = Slice(x, n0, n1, n2) y = Concat<axis = 2>(h, x) }}",
    "a part of another tensor":
        f"{X} <{N}> {{ a = Relu(x) t = Slice(a, n0, n1, n2) y = Concat<axis = 2>(x, t) }}",
    "a part along another axis":
        f"(float[2,3,5,5] x) => (y) <{N}> {{ t = Slice(x, n0, n5, n3) y = Concat<axis = 2>(x, t) }}",
    "every second": f"{X} <{N}> {{ t = Slice(x, n0, n3, n2, n2) y = Concat<axis = 2>(x, t) }}",
    "backwards": f"{X} <{N}> {{ t = Slice(x, n2, n0, n2, m1) y = Concat<axis = 2>(x, t) }}",
    "two parts behind":
        f"{X} <{N}> {{ t = Slice(x, n0, n1, n2) y = Concat<axis = 2>(x, t, t) }}",
    "two tensors": f"{X} {{ a = Relu(x) y = Concat<axis = 2>(x, a) }}",
    "twice the same": f"{X} {{ y = Concat<axis = 2>(x, x) }}",
    "batch": f"{X} <{N}> {{ t = Slice(x, n0, n1, n0) y = Concat<axis = 0>(x, t) }}",
    "computed bounds":
        f"(float[2,3,5,7] x, int64[1] e) => (y) <{N}> {{ t = Slice(x, n0, e, n2) y = Concat<axis = 2>(x, t) }}",
    "bounds that can be fed":
        f"(float[2,3,5,7] x, int64[1] e = {{1}}) => (y) <{N}> {{ t = Slice(x, n0, e, n2) y = Concat<axis = 2>(x, t) }}",
    "one operand": f"{X} {{ y = Concat<axis = 2>(x) }}",
    "unknown rank": f"(x) => (y) <{N}> {{ a = custom.F(x) t = Slice(a, n0, n1, n2) y = Concat<axis = 2>(a, t) }}",
    "another domain": f"{X} <{N}> {{ t = Slice(x, n0, n1, n2) y = custom.Concat<axis = 2>(x, t) }}",
}


@pytest.mark.parametrize(("text", "pads"), FIRES.values(), ids=FIRES)
def test_fires(text: str, pads: list[int]) -> None:
    model = applied(circular_pad.RULE, text, PAD)
    assert attributes(model, "y") == {"mode": "wrap"}
    assert graph.required_constant(model.graph.initializers["y.pads"]).tolist() == pads


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(circular_pad.RULE, text)


def test_both_axes_one_after_the_other() -> None:
    applied(circular_pad.RULE,
            f"{X} <{N}> {{ h = Slice(x, m2, far, n2) a = Concat<axis = 2>(h, x) "
            "t = Slice(a, n0, n1, n3) y = Concat<axis = 3>(a, t) }",
            ["a = Pad(x, a.pads)", "y = Pad(a, y.pads)"], 2)
