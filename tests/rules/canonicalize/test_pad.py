"""``Conv(Pad(x, zeros)) -> Conv(x)`` with the padding in its pads."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import pad

from .graphs import applied, attributes, declined

W = "float[4,3,3,3] w"
P = "int64[8] p = {0,0,1,2,0,0,3,4}"
CONV = ["y = Conv(x, w)"]

FIRES = {
    "pads alone": (f"(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad(x, p) y = Conv(a, w) }}", CONV, [1, 2, 3, 4]),
    "bias": (
        f"(float[2,3,5,5] x) => (y) <{W}, float[4] b, {P}> {{ a = Pad(x, p) y = Conv(a, w, b) }}",
        ["y = Conv(x, w, b)"], [1, 2, 3, 4]),
    "bias explicitly empty": (
        f'(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad(x, p) y = Conv(a, w, "") }}',
        ["y = Conv(x, w, -)"], [1, 2, 3, 4]),
    "mode written out": (
        f'(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad<mode = "constant">(x, p) y = Conv(a, w) }}',
        CONV, [1, 2, 3, 4]),
    "zero written out": (
        f"(float[2,3,5,5] x) => (y) <{W}, {P}, float v = {{0}}> {{ a = Pad(x, p, v) y = Conv(a, w) }}",
        CONV, [1, 2, 3, 4]),
    "zero as a list": (
        f"(float[2,3,5,5] x) => (y) <{W}, {P}, float[1] v = {{-0.0}}> {{ a = Pad(x, p, v) y = Conv(a, w) }}",
        CONV, [1, 2, 3, 4]),
    "zero explicitly empty": (
        f'(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad(x, p, "") y = Conv(a, w) }}', CONV, [1, 2, 3, 4]),
    "axes": (
        f'(float[2,3,5,5] x) => (y) <{W}, int64[4] p = {{1,2,3,4}}, int64[2] axes = {{2,3}}> '
        '{ a = Pad(x, p, "", axes) y = Conv(a, w) }', CONV, [1, 2, 3, 4]),
    "axes from the end, backwards": (
        f'(float[2,3,5,5] x) => (y) <{W}, int64[4] p = {{2,1,4,3}}, int64[2] axes = {{-1,-2}}> '
        '{ a = Pad(x, p, "", axes) y = Conv(a, w) }', CONV, [1, 2, 3, 4]),
    "one axis": (
        f'(float[2,3,5,5] x) => (y) <{W}, int64[2] p = {{2,1}}, int64[1] axes = {{3}}, float v = {{0}}> '
        "{ a = Pad(x, p, v, axes) y = Conv(a, w) }", CONV, [0, 2, 0, 1]),
    "axes with zeros on the channels": (
        f'(float[2,3,5,5] x) => (y) <{W}, int64[4] p = {{0,2,0,4}}, int64[2] axes = {{1,3}}> '
        '{ a = Pad(x, p, "", axes) y = Conv(a, w) }', CONV, [0, 2, 0, 4]),
    "padding added to padding": (
        f"(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad(x, p) y = Conv<pads = [1,0,0,2]>(a, w) }}",
        CONV, [2, 2, 3, 6]),
    "no padding": (
        f"(float[2,3,5,5] x) => (y) <{W}, int64[8] p = {{0,0,0,0,0,0,0,0}}> {{ a = Pad(x, p) y = Conv(a, w) }}",
        CONV, [0, 0, 0, 0]),
    "1-d": (
        "(float[2,3,5] x) => (y) <float[4,3,3] w, int64[6] p = {0,0,1,0,0,2}> { a = Pad(x, p) y = Conv(a, w) }",
        CONV, [1, 2]),
    "read by two convolutions": (
        f"(float[2,3,5,5] x) => (z) <{W}, {P}> "
        "{ a = Pad(x, p) b = Conv(a, w) y = Conv<pads = [0,0,0,0]>(a, w) z = Add(b, y) }",
        ["b = Conv(x, w)", "y = Conv(x, w)", "z = Add(b, y)"], [1, 2, 3, 4]),
    "read by another operator, which keeps the Pad": (
        f"(float[2,3,5,5] x) => (y, z) <{W}, {P}> {{ a = Pad(x, p) y = Conv(a, w) z = Relu(a) }}",
        ["a = Pad(x, p)", "y = Conv(x, w)", "z = Relu(a)"], [1, 2, 3, 4]),
    "an output, which keeps the Pad": (
        f"(float[2,3,5,5] x) => (y, a) <{W}, {P}> {{ a = Pad(x, p) y = Conv(a, w) }}",
        ["a = Pad(x, p)", "y = Conv(x, w)"], [1, 2, 3, 4]),
    "Pad behind Pad": (
        f"(float[2,3,5,5] x) => (y) <{W}, {P}, int64[8] q = {{0,0,1,1,0,0,1,1}}> "
        "{ a = Pad(x, p) b = Pad(a, q) y = Conv(b, w) }", CONV, [2, 3, 4, 5]),
}

DECLINES = {
    "reflect": f'(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad<mode = "reflect">(x, p) y = Conv(a, w) }}',
    "edge": f'(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad<mode = "edge">(x, p) y = Conv(a, w) }}',
    "wrap": f'(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad<mode = "wrap">(x, p) y = Conv(a, w) }}',
    "another number than zero":
        f"(float[2,3,5,5] x) => (y) <{W}, {P}, float v = {{0.5}}> {{ a = Pad(x, p, v) y = Conv(a, w) }}",
    "number can be fed": f"(float[2,3,5,5] x, float v = {{0}}) => (y) <{W}, {P}> {{ a = Pad(x, p, v) y = Conv(a, w) }}",
    "number computed":
        f"(float[2,3,5,5] x, float u) => (y) <{W}, {P}> {{ v = Relu(u) a = Pad(x, p, v) y = Conv(a, w) }}",
    "channels": f"(float[2,2,5,5] x) => (y) <{W}, int64[8] p = {{0,1,0,0,0,0,0,0}}> {{ a = Pad(x, p) y = Conv(a, w) }}",
    "channels at the end":
        f"(float[2,2,5,5] x) => (y) <{W}, int64[8] p = {{0,0,1,1,0,1,1,1}}> {{ a = Pad(x, p) y = Conv(a, w) }}",
    "batch": f"(float[2,3,5,5] x) => (y) <{W}, int64[8] p = {{1,0,0,0,0,0,0,0}}> {{ a = Pad(x, p) y = Conv(a, w) }}",
    "cropping":
        f"(float[2,3,5,5] x) => (y) <{W}, int64[8] p = {{0,0,-1,0,0,0,0,0}}> "
        f"{{ a = Pad(x, p) y = Conv(a, w) }}",
    "cropping on one side, padding on the other":
        f"(float[2,3,5,5] x) => (y) <{W}, int64[8] p = {{0,0,2,2,0,0,-1,-1}}> {{ a = Pad(x, p) y = Conv(a, w) }}",
    "pads can be fed":
        f"(float[2,3,5,5] x, int64[8] p = {{0,0,1,1,0,0,1,1}}) => (y) <{W}> "
        f"{{ a = Pad(x, p) y = Conv(a, w) }}",
    "pads computed":
        f"(float[2,3,5,5] x, int64[8] q) => (y) <{W}> {{ p = Abs(q) a = Pad(x, p) y = Conv(a, w) }}",
    "axes can be fed": f"(float[2,3,5,5] x, int64[2] axes = {{2,3}}) => (y) <{W}, int64[4] p = {{1,1,1,1}}> "
                       '{ a = Pad(x, p, "", axes) y = Conv(a, w) }',
    "axes computed": f"(float[2,3,5,5] x, int64[2] q) => (y) <{W}, int64[4] p = {{1,1,1,1}}> "
                     '{ axes = Abs(q) a = Pad(x, p, "", axes) y = Conv(a, w) }',
    "unknown rank": f"(x) => (y) <{W}, {P}> {{ u = custom.F(x) a = Pad(u, p) y = Conv(a, w) }}",
    "auto_pad that is not yet resolved":
        f'(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad(x, p) y = Conv<auto_pad = "SAME_UPPER">(a, w) }}',
    "VALID that is not yet resolved":
        f'(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad(x, p) y = Conv<auto_pad = "VALID">(a, w) }}',
    "pooling": f"(float[2,3,5,5] x) => (y) <{P}> {{ a = Pad(x, p) y = MaxPool<kernel_shape = [2,2]>(a) }}",
    "padded weight": f"(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad(w, p) y = Conv(x, a) }}",
    "something between": f"(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad(x, p) b = Relu(a) y = Conv(b, w) }}",
    "transposed convolution":
        f"(float[2,4,5,5] x) => (y) <{W}, {P}> {{ a = Pad(x, p) y = ConvTranspose(a, w) }}",
    "Pad of another domain": f"(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = custom.Pad(x, p) y = Conv(a, w) }}",
    "Conv of another domain": f"(float[2,3,5,5] x) => (y) <{W}, {P}> {{ a = Pad(x, p) y = custom.Conv(a, w) }}",
}


@pytest.mark.parametrize(("text", "after", "pads"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], pads: list[int]) -> None:
    model = applied(pad.RULE, text, after, count=2 if "z = Add" in text or "b = Pad" in text else 1)
    assert attributes(model, "y")["pads"] == pads


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(pad.RULE, text)


def test_geometry_of_the_layer_stays() -> None:
    geometry = "dilations = [1,2], group = 3, kernel_shape = [3,2], pads = [1,0,2,1], strides = [2,1]"
    model = applied(pad.RULE, f"(float[2,3,5,6] x) => (y) <float[3,1,3,2] w, {P}> "
                              f"{{ a = Pad(x, p) y = Conv<{geometry}>(a, w) }}", CONV)
    assert attributes(model, "y") == {"dilations": [1, 2], "group": 3, "kernel_shape": [3, 2], "pads": [2, 2, 5, 5],
                                      "strides": [2, 1]}
