"""``Identity(x) -> x``, and Dropout in inference, Cast to the type x has, Concat of x alone, Pad by nothing."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import no_op

from .graphs import applied, declined

FIRES = {
    "identity": ("(float[2,3] x) => (y) { a = Identity(x) y = Relu(a) }", ["y = Relu(x)"], 1),
    "identity at the end": ("(float[2,3] x) => (y) { a = Relu(x) y = Identity(a) }", ["y = Relu(x)"], 1),
    "chain": (
        "(float[2,3] x) => (y) "
        "{ a = Identity(x) b = Relu(a) c = Identity(b) y = Identity(c) }", ["y = Relu(x)"], 3),
    "two readers":
        ("(float[2,3] x) => (y) { a = Identity(x) b = Relu(a) y = Add(a, b) }", ["b = Relu(x)", "y = Add(x, b)"], 1),
    "read twice by one node": ("(float[2,3] x) => (y) { a = Identity(x) y = Add(a, a) }", ["y = Add(x, x)"], 1),
    "source read by others":
        ("(float[2,3] x) => (y) { a = Relu(x) b = Identity(a) y = Add(a, b) }", ["a = Relu(x)", "y = Add(a, a)"], 1),
    "source read by others, at the end": (
        "(float[2,3] x) => (y, z) { a = Relu(x) y = Identity(a) z = Neg(a) }", ["y = Relu(x)", "z = Neg(y)"], 1),
    "output that is read again": (
        "(float[2,3] x) => (y, z) { a = Relu(x) y = Identity(a) z = Neg(y) }", ["y = Relu(x)", "z = Neg(y)"], 1),
    "two outputs from one source": (
        "(float[2,3] x) => (y, z) { a = Relu(x) y = Identity(a) z = Identity(a) }",
        ["y = Relu(x)", "z = Identity(y)"], 1),
    "of a constant": ("(float[2,3] x) => (y) <float[3] w> { a = Identity(w) y = Add(x, a) }", ["y = Add(x, w)"], 1),
    "dropout": ("(float[2,3] x) => (y) { a = Dropout(x) y = Relu(a) }", ["y = Relu(x)"], 1),
    "dropout, ratio": ("(float[2,3] x) => (y) <float r = {0.5}> { a = Dropout(x, r) y = Relu(a) }", ["y = Relu(x)"], 1),
    "dropout, training_mode false": (
        "(float[2,3] x) => (y) <float r = {0.5}, bool t = {0}> { a = Dropout(x, r, t) y = Relu(a) }",
        ["y = Relu(x)"], 1),
    "dropout, training_mode explicitly empty": (
        '(float[2,3] x) => (y) <float r = {0.5}> { a = Dropout(x, r, "") y = Relu(a) }', ["y = Relu(x)"], 1),
    "dropout, mask unread": ("(float[2,3] x) => (y) { a, m = Dropout(x) y = Relu(a) }", ["y = Relu(x)"], 1),
    "dropout at the end": ("(float[2,3] x) => (y) { a = Relu(x) y = Dropout(a) }", ["y = Relu(x)"], 1),
    "cast to the same type": ("(float[2,3] x) => (y) { a = Cast<to = 1>(x) y = Relu(a) }", ["y = Relu(x)"], 1),
    "cast back and forth": (
        "(float[2,3] x) => (y) { a = Cast<to = 11>(x) b = Cast<to = 11>(a) y = Cast<to = 1>(b) }",
        ["a = Cast(x)", "y = Cast(a)"], 1),
    "cast like the same type": (
        "(float[2,3] x) => (y) <float b = {1.5}> { a = CastLike(b, x) y = Add(x, a) }", ["y = Add(x, b)"], 1),
    "concat of one": ("(float[2,3] x) => (y) { a = Concat<axis = 1>(x) y = Relu(a) }", ["y = Relu(x)"], 1),
    "pad by nothing": (
        '(float[2,3] x) => (y) <int64[4] p = {0,0,0,0}> { a = Pad<mode = "reflect">(x, p) y = Relu(a) }',
        ["y = Relu(x)"], 1),
}

DECLINES = {
    "identity from input to output": "(float[2,3] x) => (y) { y = Identity(x) }",
    "identity from input to output, read again": "(float[2,3] x) => (y, z) { y = Identity(x) z = Relu(y) }",
    "identity from output to output": "(float[2,3] x) => (y, z) { y = Relu(x) z = Identity(y) }",
    "identity from constant to output": "(float[2,3] x) => (y, z) <float[3] w> { y = Relu(x) z = Identity(w) }",
    "dropout in training": "(float[2,3] x) => (y) <float r = {0.5}, bool t = {1}> { a = Dropout(x, r, t) y = Relu(a) }",
    "dropout, training_mode can be fed":
        "(float[2,3] x, bool t = {0}) => (y) <float r = {0.5}> { a = Dropout(x, r, t) y = Relu(a) }",
    "dropout, training_mode computed":
        "(float[2,3] x, bool u) => (y) <float r = {0.5}> { t = Not(u) a = Dropout(x, r, t) y = Relu(a) }",
    "dropout, mask read": "(float[2,3] x) => (y, z) { a, m = Dropout(x) y = Relu(a) z = Not(m) }",
    "dropout, mask is an output": "(float[2,3] x) => (y, m) { a, m = Dropout(x) y = Relu(a) }",
    "dropout from input to output": "(float[2,3] x) => (y) { y = Dropout(x) }",
    "cast to another type": "(float[2,3] x) => (y) { a = Cast<to = 11>(x) y = Relu(a) }",
    "cast from an unknown type": "(x) => (y) { a = custom.F(x) b = Cast<to = 1>(a) y = Relu(b) }",
    "cast like another type": "(float[2,3] x) => (y) <int64 b = {1}> { a = CastLike(b, x) y = Add(x, a) }",
    "cast like an unknown type":
        "(x) => (y) <float b = {1.5}> { u = custom.F(x) a = CastLike(b, u) y = Add(u, a) }",
    "concat of two": "(float[2,3] x) => (y) { a = Concat<axis = 1>(x, x) y = Relu(a) }",
    "pad by something":
        "(float[2,3] x) => (y) <int64[4] p = {0,0,0,1}> { a = Pad(x, p) y = Relu(a) }",
    "pads can be fed": "(float[2,3] x, int64[4] p = {0,0,0,0}) => (y) { a = Pad(x, p) y = Relu(a) }",
    "another domain": "(float[2,3] x) => (y) { a = custom.Identity(x) y = Relu(a) }",
    "not a no-op": "(float[2,3] x) => (y) { y = Relu(x) }",
}


@pytest.mark.parametrize(("text", "after", "count"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], count: int) -> None:
    applied(no_op.RULE, text, after, count)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(no_op.RULE, text)
