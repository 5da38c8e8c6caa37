"""``Pad(x, pads, value, axes) -> Pad(x, pads of every axis, value)``."""

from __future__ import annotations

import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import pad_axes

from .graphs import applied, declined

FIRES = {
    "spatial axes": (
        '(float[2,3,4,5] x) => (y) <int64[4] p = {1,2,3,4}, int64[2] k = {2,3}> { y = Pad(x, p, "", k) }',
        ["y = Pad(x, p)"], [0, 0, 1, 2, 0, 0, 3, 4]),
    "from the end, another order, a value": (
        "(float[2,3,4] x) => (y) <int64[4] p = {1,2,3,4}, int64[2] k = {-1,1}, float v = {2}> { y = Pad(x, p, v, k) }",
        ["y = Pad(x, p, v)"], [0, 2, 1, 0, 4, 3]),
    "reflection": (
        '(float[2,3,4] x) => (y) <int64[2] p = {2,1}, int64[1] k = {2}> { y = Pad<mode = "reflect">(x, p, "", k) }',
        ["y = Pad(x, p)"], [0, 0, 2, 0, 0, 1]),
}

DECLINES = {
    "every axis": "(float[2,3] x) => (y) <int64[4] p = {0,1,0,1}> { y = Pad(x, p) }",
    "axes can be fed": '(float[2,3] x, int64[1] k = {1}) => (y) <int64[2] p = {0,1}> { y = Pad(x, p, "", k) }',
    "pads can be fed": '(float[2,3] x, int64[2] p = {0,1}) => (y) <int64[1] k = {1}> { y = Pad(x, p, "", k) }',
    "axes computed": '(float[2,3] x, int64[1] q) => (y) <int64[2] p = {0,1}> { k = Abs(q) y = Pad(x, p, "", k) }',
    "unknown rank": '(x) => (y) <int64[2] p = {0,1}, int64[1] k = {1}> { a = custom.F(x) y = Pad(a, p, "", k) }',
    "another domain": '(float[2,3] x) => (y) <int64[2] p = {0,1}, int64[1] k = {1}> { y = custom.Pad(x, p, "", k) }',
}


@pytest.mark.parametrize(("text", "after", "pads"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], pads: list[int]) -> None:
    model = applied(pad_axes.RULE, text, after)
    assert graph.required_constant(model.graph.initializers["p"]).tolist() == pads


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(pad_axes.RULE, text)


def test_pads_that_another_node_reads() -> None:
    model = applied(pad_axes.RULE, '(float[2,3,4] x) => (y, z) <int64[2] p = {2,1}, int64[1] k = {2}> '
                                   '{ y = Pad(x, p, "", k) z = Neg(p) }', ["y = Pad(x, p_2)", "z = Neg(p)"])
    assert graph.required_constant(model.graph.initializers["p"]).tolist() == [2, 1]
