"""``Split(x) -> Slice(x), Slice(x), ...``."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import split

from .graphs import applied, declined

FIRES = {
    "sizes": (
        "(float[2,5,3] x) => (a, b) <int64[2] s = {2,3}> { a, b = Split<axis = 1>(x, s) }",
        ["a = Slice(x, a.starts, a.ends, a.axes)", "b = Slice(x, b.starts, b.ends, b.axes)"], 1),
    "equal": (
        "(float[2,6,3] x) => (a, b, c) { a, b, c = Split<axis = 1, num_outputs = 3>(x) }",
        [
            "a = Slice(x, a.starts, a.ends, a.axes)",
            "b = Slice(x, b.starts, b.ends, b.axes)",
            "c = Slice(x, c.starts, c.ends, c.axes)"], 1),
    "num_outputs ragged": (
        "(float[2,5,3] x) => (a, b, c) { a, b, c = Split<axis = 1, num_outputs = 3>(x) }",
        [
            "a = Slice(x, a.starts, a.ends, a.axes)",
            "b = Slice(x, b.starts, b.ends, b.axes)",
            "c = Slice(x, c.starts, c.ends, c.axes)"], 1),
    "axis -1": (
        "(float[2,5,4] x) => (a, b) { a, b = Split<axis = -1, num_outputs = 2>(x) }",
        ["a = Slice(x, a.starts, a.ends, a.axes)", "b = Slice(x, b.starts, b.ends, b.axes)"], 1),
    "unused part": (
        "(float[2,5,3] x) => (b) <int64[2] s = {2,3}> { a, b = Split<axis = 1>(x, s) }",
        ["b = Slice(x, b.starts, b.ends, b.axes)"], 1),
    "read inside": (
        "(float[2,4,3] x) => (y, a) { a, b = Split<axis = 1, num_outputs = 2>(x) y = Add(a, b) }",
        ["a = Slice(x, a.starts, a.ends, a.axes)", "b = Slice(x, b.starts, b.ends, b.axes)", "y = Add(a, b)"], 1),
    "one part": (
        "(float[2,4,3] x) => (y) { a = Split<axis = 1, num_outputs = 1>(x) y = Relu(a) }",
        ["a = Slice(x, a.starts, a.ends, a.axes)", "y = Relu(a)"], 1),
    "empty unused": (
        "(float[2,4,3] x) => (y) <int64[2] s = {0,4}> { a, b = Split<axis = 1>(x, s) y = Relu(b) }",
        ["b = Slice(x, b.starts, b.ends, b.axes)", "y = Relu(b)"], 1),
    "sizes shared": (
        "(float[2,5,3] x, float[2,5,3] u) => (a, b, c, d) <int64[2] s = {2,3}> { a, b = Split<axis = 1>(x, s) c, d "
        "= Split<axis = 1>(u, s) }",
        [
            "a = Slice(x, a.starts, a.ends, a.axes)",
            "b = Slice(x, b.starts, b.ends, b.axes)",
            "c = Slice(u, c.starts, c.ends, c.axes)",
            "d = Slice(u, d.starts, d.ends, d.axes)"], 2),
}

DECLINES = {
    "batch": "(float[2,5,3] x) => (a, b) { a, b = Split<num_outputs = 2>(x) }",
    "computed sizes": "(float[2,5,3] x, float[2] u) => (a, b) { s = Cast<to = 7>(u) a, b = Split<axis = 1>(x, s) }",
    "sizes that can be fed": "(float[2,5,3] x, int64[2] s = {2,3}) => (a, b) { a, b = Split<axis = 1>(x, s) }",
    "wrong sum": "(float[2,5,3] x) => (a, b) <int64[2] s = {2,2}> { a, b = Split<axis = 1>(x, s) }",
    "more parts than elements":
        "(float[2,5,3] x) => (a, b, c, d) { a, b, c, d = Split<axis = 1, num_outputs = 4>(x) }",
    "empty used":
        "(float[2,4,3] x) => (y) <int64[2] s = {0,4}> { a, b = Split<axis = 1>(x, s) y = Concat<axis = 1>(a, b) }",
    "unknown size": "(float[2,H,3] x) => (a, b) { a, b = Split<axis = 1, num_outputs = 2>(x) }",
    "another domain": "(float[2,5,3] x) => (a, b) <int64[2] s = {2,3}> { a, b = custom.Split<axis = 1>(x, s) }",
}


@pytest.mark.parametrize(("text", "after", "count"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], count: int) -> None:
    applied(split.RULE, text, after, count)


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(split.RULE, text)
