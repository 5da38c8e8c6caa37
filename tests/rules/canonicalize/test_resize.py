"""``Resize(x, nearest) -> Resize(x)`` that repeats, Slice or Gather: whatever takes the same elements."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest

from onnxdiana import graph
from onnxdiana.rules.canonicalize import resize

from .graphs import applied, assert_equal, attributes, declined, lines, parse, proto, run

COORDINATES = ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric"]
ROUNDINGS = ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]
REPEATS, CUTS = ["y = Resize(x, -, y.scales)"], ["y = Slice(x, y.starts, y.ends, y.axes, y.steps)"]


def nearest(
    operands: str, coordinates: str = "half_pixel", rounding: str = "round_prefer_floor", more: str = ""
) -> str:
    """A Resize in ONNX text; an operand ``-`` is absent."""
    operands = ", ".join('""' if name == "-" else name for name in operands.split(", "))
    return (f'Resize<mode = "nearest", coordinate_transformation_mode = "{coordinates}", '
            f'nearest_mode = "{rounding}"{more}>({operands})')


def scaled(*scales: float, shape: str = "2,3,5,6", form: tuple[str, str] = ("half_pixel", "round_prefer_floor")) -> str:
    return (f"(float[{shape}] x) => (y) <float[{len(scales)}] s = {{{', '.join(map(str, scales))}}}> "
            f"{{ y = {nearest('x, -, s', *form)} }}")


FIRES = {
    "as torch writes it": (scaled(1, 1, 2, 2), REPEATS),
    "a region that says nothing": (
        "(float[2,3,5,6] x) => (y) <float[0] roi = {}, float[4] s = {1,1,2,3}> "
        f"{{ y = {nearest('x, roi, s', 'asymmetric', 'floor')} }}", REPEATS),
    "to sizes": (
        "(float[2,3,5,6] x) => (y) <int64[4] s = {2,3,10,12}> "
        f"{{ y = {nearest('x, -, -, s')} }}", REPEATS),
    "half the height": (scaled(1, 1, 0.5, 1, form=("asymmetric", "floor"), shape="2,3,4,6"), CUTS),
    "half of everything": (
        scaled(1, 1, 0.5, 0.5, form=("asymmetric", "floor"), shape="2,3,4,6"),
        ["y.resized = Slice(x, y.starts, y.ends, y.axes, y.steps)",
         "y = Slice(y.resized, y.starts_2, y.ends_2, y.axes_2, y.steps_2)"]),
    "half the height, twice the width": (
        scaled(1, 1, 0.5, 2, form=("asymmetric", "floor"), shape="2,3,4,6"),
        ["y.resized = Slice(x, y.starts, y.ends, y.axes, y.steps)", "y = Resize(y.resized, -, y.scales)"]),
    "one and a half": (scaled(1, 1, 1, 1.5, form=("asymmetric", "floor")), ["y = Gather(x, y.indices)"]),
    "nothing": (scaled(1, 1, 1, 1), ["y = Identity(x)"]),
    "nothing, by a factor that is too small": (scaled(1, 1, 1.1, 1.1), ["y = Identity(x)"]),
    "nothing, though linear": (
        '(float[2,3,5,6] x) => (y) <float[4] s = {1,1,1,1}> { y = Resize<mode = "linear">(x, "", s) }',
        ["y = Identity(x)"]),
    "sequences": (scaled(1, 1, 2, shape="2,3,5"), REPEATS),
    "channels": (scaled(1, 2, 1, 1), ["y = Gather(x, y.indices)"]),
    "three axes": (scaled(1, 1, 2, 1, 3, shape="2,3,2,2,3"), REPEATS),
    "some axes": (
        f"(float[2,3,5,6] x) => (y) <float[2] s = {{2,3}}> {{ y = {nearest('x, -, s', more=', axes = [3,2]')} }}",
        REPEATS),
}
DECLINES = {
    "canonical": scaled(1, 1, 2, 3, form=("asymmetric", "floor")),
    "linear": '(float[2,3,5,6] x) => (y) <float[4] s = {1,1,2,2}> { y = Resize<mode = "linear">(x, "", s) }',
    "cubic": '(float[2,3,5,6] x) => (y) <float[4] s = {1,1,2,2}> { y = Resize<mode = "cubic">(x, "", s) }',
    "cropped":
        "(float[2,3,5,6] x) => (y) <float[8] roi = {0,0,0,0,1,1,1,1}, float[4] s = {1,1,2,2}> "
        f"{{ y = {nearest('x, roi, s', 'tf_crop_and_resize')} }}",
    "more samples": scaled(2, 1, 1, 1),
    "fewer samples": scaled(0.5, 1, 1, 1),
    "one ratio for all axes":
        "(float[2,3,5,6] x) => (y) <int64[4] s = {2,3,10,10}> { y = "
        + nearest("x, -, -, s", more=', keep_aspect_ratio_policy = "not_larger"') + " }",
    "scales that can be fed":
        f"(float[2,3,5,6] x, float[4] s = {{1,1,2,2}}) => (y) {{ y = {nearest('x, -, s')} }}",
    "unknown size": scaled(1, 1, 2, 2, shape="2,3,H,6"),
    "another domain": scaled(1, 1, 2, 2).replace("y = Resize", "y = custom.Resize"),
}


@pytest.mark.parametrize(("text", "after"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str]) -> None:
    model = applied(resize.RULE, text, after)
    if after is REPEATS:
        assert attributes(model, "y") == resize.CANONICAL


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(resize.RULE, text)


@pytest.mark.parametrize(("coordinates", "rounding"), itertools.product(COORDINATES, ROUNDINGS), ids=str)
def test_every_mode_takes_the_elements_that_onnxruntime_takes(coordinates: str, rounding: str) -> None:
    """Larger, smaller, to one element, by whole and broken factors, given as scales and as sizes."""
    rng = np.random.default_rng(0)
    forms = [f"float[4] s = {{1,1,{h},{w}}}> {{ y = {nearest('x, -, s', coordinates, rounding)}"
             for h, w in [(2, 3), (0.5, 0.34), (1.7, 0.6), (3.3, 1), (0.2, 2.5), *rng.uniform(0.2, 4, (6, 2))]]
    forms += [f"int64[4] s = {{1,2,{h},{w}}}> {{ y = {nearest('x, -, -, s', coordinates, rounding)}"
              for h, w in [(10, 21), (1, 4), (5, 16), (3, 6), *rng.integers(1, 30, (6, 2))]]
    for form in forms:
        text = f"(float[1,2,5,7] x) => (y) <{form} }}"
        model = parse(text)
        canonical = (coordinates, rounding) == ("asymmetric", "floor") and "{1,1,2,3}" in form
        assert resize.RULE.apply(model) == (not canonical), text
        assert {node.op_type for node in model.graph} <= {"Resize", "Slice", "Gather", "Identity"}
        assert all(attributes(model, node.outputs[0].name or "") == resize.CANONICAL
                   for node in model.graph if node.op_type == "Resize")
        assert_equal(proto(text), ir.to_proto(model))
        assert resize.RULE.apply(model) == 0, text


@pytest.mark.parametrize(("coordinates", "size", "result", "rounding"), [
    ("asymmetric", 7, 4, "round_prefer_ceil"), ("asymmetric", 11, 26, "round_prefer_floor"),
    ("pytorch_half_pixel", 14, 19, "round_prefer_floor"), ("half_pixel", 14, 1, "round_prefer_ceil"),
])
def test_ties_that_float32_misses(coordinates: str, size: int, result: int, rounding: str) -> None:
    """onnxruntime rounds a place within 1e-6 of the middle as the middle."""
    form = nearest("x, -, -, s", coordinates, rounding)
    text = f"(float[1,1,1,{size}] x) => (y) <int64[4] s = {{1,1,1,{result}}}> {{ y = {form} }}"
    given = np.arange(size, dtype=np.float32).reshape(1, 1, 1, size)
    expected = run(proto(text), {"x": given})["y"].reshape(-1).astype(int)
    found = resize.places(size, result, np.float32(result) / np.float32(size), coordinates, rounding)
    np.testing.assert_array_equal(found, expected)


def test_slices_come_before_what_repeats() -> None:
    model = parse(scaled(1, 1, 2.5, 0.5, 3, shape="2,3,4,4,4", form=("asymmetric", "floor")))
    resize.RULE.apply(model)
    graph.remove_unused(model.graph)
    assert [line.split(" = ")[1].split("(")[0] for line in lines(model)] == ["Slice", "Resize", "Gather"]
