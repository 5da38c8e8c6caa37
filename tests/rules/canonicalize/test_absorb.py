"""``Gemm(Flatten(Transpose(x)), w) -> Gemm(Flatten(x), w')``, and Transposes of what a Gemm makes."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import absorb

from .graphs import applied, declined

X = "(float[2,3,4,5] x) => (y)"
FLAT = "a = Transpose<perm = [0,2,3,1]>(x) b = Flatten(a)"
GEMM = "Gemm<alpha = 1.0, beta = 1.0, transA = 0, transB = 1>"
MAP = "(float[2,6] x) => (y)"
SPLIT = "int64[4] s = {0,2,5,3}"
THERE = "Transpose<perm = [0,3,1,2]>"

FIRES = {
    "one layer": (
        f"{X} <float[7,60] w, float[7] b0> {{ {FLAT} y = {GEMM}(b, w, b0) }}",
        ["b = Flatten(x)", "y = Gemm(b, w, b0)"]),
    "three axes": (
        f"(float[2,3,4] x) => (y) <float[7,12] w> "
        f"{{ a = Transpose<perm = [0,2,1]>(x) b = Flatten(a) y = {GEMM}(b, w) }}",
        ["b = Flatten(x)", "y = Gemm(b, w)"]),
    "two layers, one weight": (
        f"(float[2,3,4,5] x) => (y, z) <float[7,60] w> {{ {FLAT} y = {GEMM}(b, w) z = {GEMM}(b, w) }}",
        ["b = Flatten(x)", "y = Gemm(b, w_2)", "z = Gemm(b, w)"]),
    "a Transpose that others read": (
        f"(float[2,3,4,5] x) => (y, z) <float[7,60] w> {{ {FLAT} y = {GEMM}(b, w) z = Relu(a) }}",
        ["a = Transpose(x)", "b = Flatten(x)", "y = Gemm(b, w)", "z = Relu(a)"]),
    "behind a layer": (
        f"{MAP} <float[30,6] w, float[30] b0, {SPLIT}> {{ a = {GEMM}(x, w, b0) b = Reshape(a, s) y = {THERE}(b) }}",
        ["a = Gemm(x, w, b0)", "y = Reshape(a, y.shape)"]),
    "behind a layer and an activation": (
        f"{MAP} <float[30,6] w, {SPLIT}> {{ a = {GEMM}(x, w) r = Relu(a) b = Reshape(r, s) y = {THERE}(b) }}",
        ["a = Gemm(x, w)", "r = Relu(a)", "y = Reshape(r, y.shape)"]),
}

DECLINES = {
    "another reader": f"(float[2,3,4,5] x) => (y, z) <float[7,60] w> {{ {FLAT} y = {GEMM}(b, w) z = Relu(b) }}",
    "the features are an output": f"(float[2,3,4,5] x) => (y, b) <float[7,60] w> {{ {FLAT} y = {GEMM}(b, w) }}",
    "features as bias": f"{X} <float[7,3] w, float[2,3] v> {{ {FLAT} c = {GEMM}(v, w) y = Flatten(b) }}",
    "not canonical": f"{X} <float[60,7] w> {{ {FLAT} y = Gemm(b, w) }}",
    "weight can be fed": (
        "(float[2,2,1] x, float[1,2] w = {1,2}) => (y) "
        f"{{ a = Transpose<perm = [0,2,1]>(x) b = Flatten(a) y = {GEMM}(b, w) }}"),
    "the batch moves": (
        "(float[2,3,4] x) => (y) <float[7,8] w> "
        f"{{ a = Transpose<perm = [1,0,2]>(x) b = Flatten(a) y = {GEMM}(b, w) }}"),
    "no Transpose": f"{X} <float[7,60] w> {{ b = Flatten(x) y = {GEMM}(b, w) }}",
    "another flattening": (
        f"{X} <float[7,15] w> {{ a = Transpose<perm = [0,2,3,1]>(x) b = Flatten<axis = 2>(a) y = {GEMM}(b, w) }}"),
    "behind a layer, features are read": (
        f"(float[2,6] x) => (y, a) <float[30,6] w, {SPLIT}> {{ a = {GEMM}(x, w) b = Reshape(a, s) y = {THERE}(b) }}"),
    "behind a layer, map is read": (
        f"(float[2,6] x) => (y, z) <float[30,6] w, {SPLIT}> "
        f"{{ a = {GEMM}(x, w) b = Reshape(a, s) y = {THERE}(b) z = Relu(b) }}"),
    "features that no layer makes": f"(float[2,30] x) => (y) <{SPLIT}> {{ b = Reshape(x, s) y = {THERE}(b) }}",
    "a constant between them": (
        f"{MAP} <float[30,6] w, float[30] c, {SPLIT}> "
        f"{{ a = {GEMM}(x, w) r = Mul(a, c) b = Reshape(r, s) y = {THERE}(b) }}"),
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    applied(absorb.RULE, text, after)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(absorb.RULE, text)
