"""``Reshape | Squeeze | Unsqueeze (N, ...) -> Flatten`` to (N, rest), else Reshape to (0, ...)."""

from __future__ import annotations

import numpy as np
import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import reshape

from .graphs import applied, attributes, declined

FLATTEN = ["y = Flatten(x)"]
RESHAPE = ["y = Reshape(x, y.shape)"]

FIRES = {
    "(N, -1)": ("(float[2,3,4] x) => (y) <int64[2] s = {2,-1}> { y = Reshape(x, s) }", FLATTEN, None),
    "(-1, sizes)": ("(float[2,3,4] x) => (y) <int64[2] s = {-1,12}> { y = Reshape(x, s) }", FLATTEN, None),
    "(0, -1)": ("(float[2,3,4] x) => (y) <int64[2] s = {0,-1}> { y = Reshape(x, s) }", FLATTEN, None),
    "written out": ("(float[2,3,4,5] x) => (y) <int64[2] s = {2,60}> { y = Reshape(x, s) }", FLATTEN, None),
    "same two axes": ("(float[2,3] x) => (y) <int64[2] s = {2,3}> { y = Reshape(x, s) }", FLATTEN, None),
    "(0, sizes, -1)": ("(float[2,12] x) => (y) <int64[3] s = {0,3,-1}> { y = Reshape(x, s) }", RESHAPE, [0, 3, 4]),
    "a copied axis": ("(float[2,3,4] x) => (y) <int64[4] s = {0,0,2,2}> { y = Reshape(x, s) }", RESHAPE, [0, 3, 2, 2]),
    "flatten from the end": ("(float[2,4] x) => (y) { y = Flatten<axis = -1>(x) }", FLATTEN, None),
    "flatten behind an axis of size 1": ("(float[2,1,3] x) => (y) { y = Flatten<axis = 2>(x) }", FLATTEN, None),
    "flatten of a batch alone": ("(float[2,1] x) => (y) { y = Flatten<axis = 2>(x) }", FLATTEN, None),
    "to three axes": ("(float[2,12] x) => (y) <int64[3] s = {2,3,4}> { y = Reshape(x, s) }", RESHAPE, [0, 3, 4]),
    "to three axes, -1 first": (
        "(float[2,12] x) => (y) <int64[3] s = {-1,3,4}> "
        "{ y = Reshape(x, s) }", RESHAPE, [0, 3, 4]),
    "to three axes, -1 behind": (
        "(float[2,12] x) => (y) <int64[3] s = {2,3,-1}> "
        "{ y = Reshape(x, s) }", RESHAPE, [0, 3, 4]),
    "a copied axis behind the batch": (
        "(float[2,3,4] x) => (y) <int64[4] s = {-1,0,2,2}> { y = Reshape(x, s) }", RESHAPE, [0, 3, 2, 2]),
    "allowzero where there is no zero": (
        "(float[2,12] x) => (y) <int64[3] s = {2,3,4}> { y = Reshape<allowzero = 1>(x, s) }", RESHAPE, [0, 3, 4]),
    "a target computed from shapes": (
        "(float[2,3,4] x) => (y) <int64[1] r = {-1}> "
        "{ n = Shape<start = 0, end = 1>(x) t = Concat<axis = 0>(n, r) y = Reshape(x, t) }", FLATTEN, None),
    "a target computed from shapes, three axes": (
        "(float[2,12] x) => (y) <int64[2] r = {3,-1}> "
        "{ n = Shape<start = 0, end = 1>(x) t = Concat<axis = 0>(n, r) y = Reshape(x, t) }", RESHAPE, [0, 3, 4]),
    "squeeze to two axes": ("(float[2,3,1,1] x) => (y) <int64[2] a = {2,3}> { y = Squeeze(x, a) }", FLATTEN, None),
    "squeeze from the end": ("(float[2,3,1,1] x) => (y) <int64[2] a = {-1,-2}> { y = Squeeze(x, a) }", FLATTEN, None),
    "squeeze to three axes": ("(float[2,3,1,4] x) => (y) <int64[1] a = {2}> { y = Squeeze(x, a) }", RESHAPE, [0, 3, 4]),
    "squeeze to one axis": ("(float[2,1] x) => (y) <int64[1] a = {1}> { y = Squeeze(x, a) }", RESHAPE, [0]),
    "squeeze of all, batch larger than 1": ("(float[2,3,1,1] x) => (y) { y = Squeeze(x) }", FLATTEN, None),
    "squeeze beside a batch of 1": (
        "(float[1,3,1,1] x) => (y) <int64[2] a = {2,3}> "
        "{ y = Squeeze(x, a) }", FLATTEN, None),
    "unsqueeze": ("(float[2,12] x) => (y) <int64[2] a = {2,3}> { y = Unsqueeze(x, a) }", RESHAPE, [0, 12, 1, 1]),
    "unsqueeze behind the batch": (
        "(float[2,12] x) => (y) <int64[1] a = {1}> "
        "{ y = Unsqueeze(x, a) }", RESHAPE, [0, 1, 12]),
    "unsqueeze from the end": (
        "(float[2,12] x) => (y) <int64[1] a = {-1}> "
        "{ y = Unsqueeze(x, a) }", RESHAPE, [0, 12, 1]),
    "unsqueeze to two axes": ("(float[2] x) => (y) <int64[1] a = {1}> { y = Unsqueeze(x, a) }", FLATTEN, None),
}

DECLINES = {
    "(0, sizes)": "(float[2,12] x) => (y) <int64[3] s = {0,3,4}> { y = Reshape(x, s) }",
    "flatten with the batch": "(float[2,3,4] x) => (y) { y = Flatten<axis = 2>(x) }",
    "flatten with a batch of 1": "(float[1,3,4] x) => (y) { y = Flatten<axis = 2>(x) }",
    "flatten of everything": "(float[1,3,4] x) => (y) { y = Flatten<axis = 0>(x) }",
    "flatten": "(float[2,3,4] x) => (y) { y = Flatten(x) }",
    "batch into features": "(float[2,3,4] x) => (y) <int64[2] s = {1,24}> { y = Reshape(x, s) }",
    "features into batch": "(float[2,3,4] x) => (y) <int64[2] s = {-1,4}> { y = Reshape(x, s) }",
    "batch split": "(float[4,3] x) => (y) <int64[3] s = {2,2,3}> { y = Reshape(x, s) }",
    "everything into one axis": "(float[2,3,4] x) => (y) <int64[1] s = {-1}> { y = Reshape(x, s) }",
    "to a scalar": "(float[1,1] x) => (y) <int64[0] s = {}> { y = Reshape(x, s) }",
    "from a scalar": "(float x) => (y) <int64[2] s = {1,1}> { y = Reshape(x, s) }",
    "unknown sizes": "(float[2,H,4] x) => (y) <int64[2] s = {2,-1}> { y = Reshape(x, s) }",
    "unknown rank": "(x) => (y) <int64[2] s = {2,-1}> { a = custom.F(x) y = Reshape(a, s) }",
    "squeeze of the batch": "(float[1,1,8] x) => (y) <int64[1] a = {0}> { y = Squeeze(x, a) }",
    "squeeze of the batch from the end": "(float[1,1,8] x) => (y) <int64[1] a = {-3}> { y = Squeeze(x, a) }",
    "squeeze of all, batch of 1": "(float[1,1,3,1] x) => (y) { y = Squeeze(x) }",
    "squeeze of all, batch of 1 in disguise": "(float[1,1,1,3] x) => (y) { y = Squeeze(x) }",
    "unsqueeze in front of the batch": "(float[2,8] x) => (y) <int64[1] a = {0}> { y = Unsqueeze(x, a) }",
    "unsqueeze in front of a batch of 1": "(float[1,8] x) => (y) <int64[1] a = {0}> { y = Unsqueeze(x, a) }",
    "unsqueeze in front of a batch of 1, from the end":
        "(float[1,8] x) => (y) <int64[1] a = {-3}> "
        "{ y = Unsqueeze(x, a) }",
    "target can be fed": "(float[2,12] x, int64[2] s = {2,-1}) => (y) { y = Reshape(x, s) }",
    "target computed": "(float[2,12] x, int64[3] q) => (y) { s = Abs(q) y = Reshape(x, s) }",
    "axes computed": "(float[2,3,1] x, int64[1] q) => (y) { a = Abs(q) y = Squeeze(x, a) }",
    "axes can be fed": "(float[2,3,1] x, int64[1] a = {2}) => (y) { y = Squeeze(x, a) }",
    "another domain": "(float[2,3,4] x) => (y) <int64[2] s = {2,-1}> { y = custom.Reshape(x, s) }",
}


@pytest.mark.parametrize(("text", "after", "target"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], target: list[int] | None) -> None:
    model = applied(reshape.RULE, text, after)
    assert attributes(model, "y") == ({"axis": 1} if target is None else {})
    found = {name: graph.required_constant(value).tolist() for name, value in model.graph.initializers.items()}
    assert found == ({} if target is None else {"y.shape": target})


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(reshape.RULE, text)


def test_a_target_that_two_nodes_read_stays() -> None:
    applied(reshape.RULE, "(float[2,12] x, float[3,8] z) => (y, u) <int64[3] s = {-1,2,4}> "
                          "{ a = Reshape(z, s) u = Reshape(x, s) y = Reshape(a, s) }",
            ["a = Reshape(z, a.shape)", "u = Reshape(x, s)", "y = Reshape(a, y.shape)"], count=2)


def test_names_that_exist() -> None:
    model = applied(reshape.RULE, '(float[2,12] x) => (z) <int64[3] s = {-1,3,4}, float[4] "y.shape"> '
                                  '{ y = Reshape(x, s) z = Add(y, "y.shape") }',
                    ["y = Reshape(x, y.shape_2)", "z = Add(y, y.shape)"])
    np.testing.assert_array_equal(graph.required_constant(model.graph.initializers["y.shape_2"]), [0, 3, 4])
