"""Conv in every spelling: all geometries, and codes, weights, biases, shifts and clips at their ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_graphs import RELU, SIGNED, Case, Codes, GraphBuilder, agree, edges, extremes, float32_below

from onnxdiana import numerics
from onnxdiana.errors import TargetError
from onnxdiana.exporting.htvm import INPUT
from onnxdiana.runtime import Runner

IMAGE = (4, 9, 7)

GEOMETRIES: dict[str, dict[str, Any]] = {
    "1x1": {"kernel": (1, 1)},
    "1x1, stride 2": {"kernel": (1, 1), "strides": [2, 2]},
    "1x1, padded": {"kernel": (1, 1), "pads": [1, 0, 2, 1]},
    "3x3, same": {"kernel": (3, 3), "pads": [1, 1, 1, 1]},
    "3x3, strides differ": {"kernel": (3, 3), "strides": [2, 3]},
    "3x3, pads differ": {"kernel": (3, 3), "strides": [2, 2], "pads": [0, 0, 1, 1]},
    "even kernel": {"kernel": (2, 4), "pads": [0, 1, 1, 2]},
    "10x4, as DS-CNN": {"kernel": (10, 4), "strides": [2, 2], "pads": [5, 1, 5, 1]},
    "dilated": {"kernel": (3, 2), "dilations": [2, 3], "pads": [2, 0, 1, 3]},
    "two groups": {"kernel": (3, 3), "group": 2, "pads": [1, 1, 1, 1]},
    "depthwise": {"kernel": (3, 3), "group": 4, "outputs": 4, "pads": [1, 1, 1, 1]},
    "depthwise, stride 2": {"kernel": (3, 3), "group": 4, "outputs": 4, "strides": [2, 2]},
    "depthwise, multiplier": {"kernel": (3, 3), "group": 4},
    "depthwise, dilated": {"kernel": (2, 3), "group": 4, "outputs": 4, "dilations": [3, 2]},
    "the whole map": {"kernel": (9, 7)},
    "one output channel": {"kernel": (3, 3), "outputs": 1},
    "pads wider than the kernel": {"kernel": (1, 2), "pads": [3, 3, 3, 3]},
}


def requantized(
    shape: tuple[int, ...], weight: np.ndarray, bias: Any = 0, *, input_codes: Codes = SIGNED, **options: Any
) -> Case:
    """One Conv."""
    build = GraphBuilder(*shape, codes=input_codes)
    return build.build(build.conv("x", "y", weight, bias, **options))


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_geometries(geometry: dict[str, Any]) -> None:
    attributes = dict(geometry)
    kernel, outputs = attributes.pop("kernel"), attributes.pop("outputs", 8)
    rng = np.random.default_rng(0)
    weight = rng.integers(-128, 128, (outputs, 4 // attributes.get("group", 1), *kernel))
    case = requantized(IMAGE, weight, rng.integers(-2**15, 2**15, outputs), shift=9, **attributes)
    assert case.bound < numerics.FLOAT32_EXACT
    found = agree(case)
    assert len(np.unique(found["y.quantized"])) > 20  # not all saturated


@pytest.mark.parametrize(("shape", "kernel", "attributes"), [
    ((4, 11), (3,), {"pads": [1, 1]}),
    ((4, 11), (4,), {"strides": [3], "pads": [0, 2], "dilations": [2], "group": 2}),
    ((4, 11), (3,), {"group": 4}),
    ((4, 5, 4, 3), (2, 3, 1), {"pads": [1, 0, 0, 0, 2, 1], "strides": [2, 1, 2]}),
    ((4, 5, 4, 3), (2, 2, 2), {"group": 4, "dilations": [2, 1, 2]}),
], ids=["1-d", "1-d, all attributes", "1-d, depthwise", "3-d", "3-d, depthwise"])
def test_other_dimensions_are_not_handed_over(
    shape: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    rng = np.random.default_rng(1)
    weight = rng.integers(-128, 128, (8, 4 // attributes.get("group", 1), *kernel))
    case = requantized(shape, weight, rng.integers(-2**14, 2**14, 8), shift=8, **attributes)
    agree(case, obstacle="Conv -> 'y.accumulator': HTVM takes 2-d convolutions only")


CLIPS = [SIGNED, RELU, (0, 96), (-128, 0), (-1, 0)]


@pytest.mark.parametrize("side", [-1, 0, 1], ids=["least bias", "no bias", "largest bias"])
@pytest.mark.parametrize("shift", [0, 1, 30, 31])
@pytest.mark.parametrize("kind", ["least", "largest", "zero", "alternating", "random"])
def test_everything_at_its_ends(kind: str, shift: int, side: int) -> None:
    """Accumulators up to the last one that int32 and the float32 of the bias hold."""
    weight = edges((2, 3, 2, 2))[kind]
    room = numerics.INT32_BOUND - 1 - int(numerics.weight_bound(weight, -128, 127).max())
    for codes in CLIPS:
        case = requantized((3, 4, 3), weight, float32_below(side * room), shift=shift, codes=codes)
        agree(case)


@pytest.mark.parametrize("bias", [2**31 - 1, -(2**31 - 1), 2**31 - 2, 12345677, -33554433])
@pytest.mark.parametrize("shift", [0, 1, 8, 30, 31])
def test_biases_that_only_int32_holds(bias: int, shift: int) -> None:
    """In the integer model; the hand-over graph has float32 biases, so none of these is ever made for it."""
    case = requantized((2, 3, 3), np.zeros((2, 2, 1, 1), int), bias, shift=shift, codes=(-100, 100))
    accumulator, = case.accumulators
    found = Runner(case.spellings.integer, [accumulator, "y.quantized"]).run(case.floats(extremes(case)))
    assert np.unique(found[accumulator]).tolist() == [bias]
    assert np.unique(found["y.quantized"]).tolist() == [max(-100, min(100, bias >> shift))]


@given(st.data())
@settings(max_examples=max(1, settings.default.max_examples // 3))
def test_random_geometry_and_integers(data: st.DataObject) -> None:
    """Any stride, padding, dilation, group count, batch, shift and clip that are legal together."""
    draw = data.draw
    n = draw(st.sampled_from([2, 2, 2, 1, 3]))

    def each(lo: int, hi: int, count: int = n) -> list[int]:
        return draw(st.lists(st.integers(lo, hi), min_size=count, max_size=count))

    group, inputs, outputs = (draw(st.integers(1, 3)) for _ in range(3))
    kernel, strides, dilations, pads = each(1, 4), each(1, 3), each(1, 3), each(0, 3, 2 * n)
    size = [max(1, (k - 1) * d + 1 - pads[i] - pads[n + i]) + more
            for i, (k, d, more) in enumerate(zip(kernel, dilations, each(0, 3), strict=True))]
    weight = edges((group * outputs, inputs, *kernel), draw(st.integers(0, 99)))[draw(st.sampled_from(
        ["least", "largest", "alternating", "random", "random"]))]
    room = numerics.INT32_BOUND - 1 - int(numerics.weight_bound(weight, -128, 127).max())
    bias = float32_below(draw(st.integers(-room, room) | st.integers(-2**16, 2**16)))
    lo = draw(st.integers(-128, 126))
    case = requantized((group * inputs, *size), weight, bias, shift=draw(st.integers(0, 31)),
                       codes=(lo, draw(st.integers(lo + 1, 127))), group=group, strides=strides, pads=pads,
                       dilations=dilations)
    agree(case, obstacle=None if n == 2 else "HTVM takes 2-d convolutions only")


# -- the limits of float32 and int32 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [2**24 - 1, 2**24, 2**24 + 1, 2**31 - 1])
def test_at_the_limits(bound: int) -> None:
    """2**24 - 1 is the last bound that onnxruntime's float32 carries; from there on the interpreter judges."""
    products = 1030 * 127 * 127
    bias = float32_below(bound - products)
    case = requantized((1030, 1, 2), np.full((2, 1030, 1, 1), 127), np.array([bias, 1]), shift=17, codes=SIGNED,
                       input_codes=RELU)
    assert bound - 128 < case.bound == products + bias <= bound
    found = agree(case)
    assert found["y.accumulator"].max() == case.bound  # the largest input reaches it


def test_beyond_2_to_the_24_onnxruntimes_floats_are_wrong() -> None:
    """Why the interpreter judges there: sums that the bias brings back to a code lose their last bits in float32."""
    rng = np.random.default_rng(3)
    x, weight = rng.integers(100, 128, (1, 2048, 1, 1)), rng.integers(100, 128, (16, 2048, 1, 1))
    total = (weight[:, :, 0, 0] @ x[0, :, 0, 0]).astype(int)
    assert total.min() > 2**24
    case = requantized((2048, 1, 1), weight, -(total & ~63), shift=0, codes=SIGNED)
    found = agree(case, [x])["y.quantized"].reshape(-1)
    assert found.tolist() == (total & 63).tolist()
    handed = case.spellings.htvm
    assert handed is not None
    floats = Runner(handed, ["y.quantized"]).run({INPUT: np.ldexp(x.astype(np.float32), -3)})["y.quantized"]
    assert floats.reshape(-1).tolist() != found.tolist()


def test_beyond_int32_there_is_no_table() -> None:
    weight, room = np.full((2, 3, 1, 1), -128), 2**31 - 1 - 3 * 128 * 128
    assert requantized((3, 2, 2), weight, np.array([0, room]), shift=31, codes=SIGNED).bound == 2**31 - 1
    with pytest.raises(TargetError, match="Conv -> 'y': accumulator up to 2147483648, beyond 32 bits"):
        requantized((3, 2, 2), weight, np.array([0, room + 1]), shift=31, codes=SIGNED)
