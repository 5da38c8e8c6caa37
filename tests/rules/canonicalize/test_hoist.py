"""Transposes and Reshapes behind what only prepares a graph input come first."""

from __future__ import annotations

import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import hoist

from .graphs import applied, declined

THERE = "Transpose<perm = [0,3,1,2]>"
X = "(float[2,4,5,3] x) => (y)"

FIRES = {
    "a factor and a mean": (
        f"{X} <float k = {{0.1}}, float[3] m> {{ a = Mul(x, k) b = Sub(a, m) c = {THERE}(b) y = LpNormalization(c) }}",
        ["x.transposed = Transpose(x)", "a = Mul(x.transposed, k)", "b = Sub(a, m)", "y = LpNormalization(b)"], 2),
    "the moved tensor is an output": (
        f"{X} <float[3] m> {{ b = Sub(x, m) y = {THERE}(b) }}",
        ["x.transposed = Transpose(x)", "y = Sub(x.transposed, m)"], 1),
    "several readers that do the same": (
        f"(float[2,4,5,3] x) => (y, z) <float[3] m> {{ b = Sub(x, m) y = {THERE}(b) c = {THERE}(b) z = Relu(c) }}",
        ["x.transposed = Transpose(x)", "y = Sub(x.transposed, m)", "z = Relu(y)"], 1),
    "padding": (
        f'{X} <int64[8] p = {{0,1,2,0,0,3,4,0}}> {{ b = Pad(x, p) c = {THERE}(b) y = Relu(c) }}',
        ["x.transposed = Transpose(x)", "b = Pad(x.transposed, p)", "y = Relu(b)"], 1),
    "behind a Transpose of the input": (
        f"(float[2,3,4,5] x) => (y) <float[3] m> "
        f"{{ a = Transpose<perm = [0,2,3,1]>(x) b = Sub(a, m) c = {THERE}(b) y = Relu(c) }}",
        ["a = Transpose(x)", "a.transposed = Transpose(a)", "b = Sub(a.transposed, m)", "y = Relu(b)"], 1),
    "two inputs side by side": (
        "(float[2,4,5,3] x, float[2,4,5,2] z) => (y) "
        f"{{ b = Concat<axis = 3>(x, z) c = {THERE}(b) y = Relu(c) }}",
        ["z.transposed = Transpose(z)", "x.transposed = Transpose(x)", "b = Concat(x.transposed, z.transposed)",
         "y = Relu(b)"], 1),
    "the input twice": (
        f"{X} {{ b = Add(x, x) c = {THERE}(b) y = Relu(c) }}",
        ["x.transposed = Transpose(x)", "b = Add(x.transposed, x.transposed)", "y = Relu(b)"], 1),
    "Reshape": (
        "(float[2,12] x) => (y) <float[1] m, int64[3] s = {0,3,4}> "
        "{ b = Sub(x, m) c = Reshape(b, s) y = LpNormalization(c) }",
        ["x.reshaped = Reshape(x, x.reshaped.shape)", "b = Sub(x.reshaped, m)", "y = LpNormalization(b)"], 1),
    "Reshape behind padding": (
        "(float[2,3,4] x) => (y) <int64[6] p = {0,0,1,0,0,1}, int64[4] s = {0,3,1,6}> "
        "{ b = Pad(x, p) c = Reshape(b, s) y = LpNormalization(c) }",
        ["x.reshaped = Reshape(x, x.reshaped.shape)", "b = Pad(x.reshaped, p)", "y = LpNormalization(b)"], 1),
    "Flatten": (
        "(float[2,3,4] x) => (y) <float[4] m> { b = Sub(x, m) c = Flatten(b) y = LpNormalization(c) }",
        ["x.reshaped = Flatten(x)", "b = Sub(x.reshaped, m)", "y = LpNormalization(b)"], 1),
}

DECLINES = {
    "on the input itself": f"{X} {{ y = {THERE}(x) }}",
    "another reader": f"(float[2,4,5,3] x) => (y, z) {{ b = Neg(x) y = {THERE}(b) z = Relu(b) }}",
    "another perm": f"(float[2,4,5,3] x) => (y, z) {{ b = Neg(x) y = {THERE}(b) z = Transpose<perm = [0,2,1,3]>(b) }}",
    "the tensor is an output": f"(float[2,4,5,3] x) => (y, b) {{ b = Neg(x) y = {THERE}(b) }}",
    "two results are outputs": f"(float[2,4,5,3] x) => (y, z) {{ b = Neg(x) y = {THERE}(b) z = {THERE}(b) }}",
    "behind a layer": f"{X} {{ a = LpNormalization(x) b = Neg(a) y = {THERE}(b) }}",
    "a constant with more axes": f"{X} <float[1,1,1,1,1] m> {{ b = Sub(x, m) y = Transpose<perm = [0,1,2,4,3]>(b) }}",
    "two results of one node": (
        f"(float[2,4,4,3] x) => (y, z) {{ b, c = Split<axis = 1, num_outputs = 2>(x) y = {THERE}(b) z = Relu(c) }}"),
    "a constant along an axis that is split": (
        "(float[2,12] x) => (y) <float[12] m, int64[3] s = {0,3,4}> { b = Sub(x, m) y = Reshape(b, s) }"),
    "a Reshape that splits what is padded": (
        "(float[2,3,4] x) => (y) <int64[6] p = {0,0,1,0,0,1}, int64[4] s = {0,3,2,3}> "
        "{ b = Pad(x, p) y = Reshape(b, s) }"),
}


@pytest.mark.parametrize(("text", "after", "count"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], count: int) -> None:
    applied(hoist.RULE, text, after, count)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(hoist.RULE, text)


def test_constants_follow_the_axes() -> None:
    text, after, count = FIRES["a factor and a mean"]
    model = applied(hoist.RULE, text, after, count)
    shapes = {name: graph.required_constant(value).shape for name, value in model.graph.initializers.items()}
    assert shapes == {"k": (), "m": (1, 3, 1, 1)}
