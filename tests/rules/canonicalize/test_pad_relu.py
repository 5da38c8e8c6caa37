"""``Relu(Pad(x, zeros)) -> Pad(Relu(x), zeros)``."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import pad_relu

from .graphs import applied, declined

P = "int64[8] p = {0,0,1,1,0,0,1,2}"
A = "a = LpNormalization(x)"

FIRES = {
    "relu": (f"(float[2,3,4,4] x) => (y) <{P}> {{ {A} b = Pad(a, p) y = Relu(b) }}",
             ["a = LpNormalization(x)", "b = Relu(a)", "y = Pad(b, p)"]),
    "zero given": (f"(float[2,3,4,4] x) => (y) <{P}, float v = {{0}}> {{ b = Pad(x, p, v) y = Relu(b) }}",
                   ["b = Relu(x)", "y = Pad(b, p, v)"]),
    "bounds that hold zero": (
        f"(float[2,3,4,4] x) => (y) <{P}, float l = {{-1}}, float h = {{0.5}}> {{ b = Pad(x, p) y = Clip(b, l, h) }}",
        ["b = Clip(x, l, h)", "y = Pad(b, p)"]),
    "upper bound alone": (f'(float[2,3,4,4] x) => (y) <{P}, float h = {{1}}> {{ b = Pad(x, p) y = Clip(b, "", h) }}',
                          ["b = Clip(x, -, h)", "y = Pad(b, p)"]),
}

DECLINES = {
    "read beside": f"(float[2,3,4,4] x) => (y, z) <{P}> {{ b = Pad(x, p) y = Relu(b) z = Neg(b) }}",
    "returned": f"(float[2,3,4,4] x) => (y, b) <{P}> {{ b = Pad(x, p) y = Relu(b) }}",
    "another value": f"(float[2,3,4,4] x) => (y) <{P}, float v = {{1}}> {{ b = Pad(x, p, v) y = Relu(b) }}",
    "reflected": f'(float[2,3,4,4] x) => (y) <{P}> {{ b = Pad<mode = "reflect">(x, p) y = Relu(b) }}',
    "a lower bound above zero": (
        f"(float[2,3,4,4] x) => (y) <{P}, float l = {{0.5}}> {{ b = Pad(x, p) y = Clip(b, l) }}"),
    "an upper bound below zero": (
        f'(float[2,3,4,4] x) => (y) <{P}, float h = {{-0.5}}> {{ b = Pad(x, p) y = Clip(b, "", h) }}'),
    "another domain": f"(float[2,3,4,4] x) => (y) <{P}> {{ b = Pad(x, p) y = custom.Relu(b) }}",
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    applied(pad_relu.RULE, text, after)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(pad_relu.RULE, text)
