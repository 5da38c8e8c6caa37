"""The arithmetic against slow definitions in Python's own integers and fractions, exhaustive where ranges are small."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnxdiana import numerics
from onnxdiana.numerics import FLOAT32_EXACT, INT32_BOUND, Rounding

Array = NDArray[Any]

ROUNDINGS: tuple[Rounding, ...] = ("floor", "half_even")
INT32 = range(-2**31, 2**31)
EDGES = sorted({n for power in range(32) for offset in (-3, -1, 0, 1, 3) for sign in (-1, 1)
                if (n := sign * (2**power + offset)) in INT32} | {0, 2**31 - 1})
"""Around every power of two that int32 holds, its ends included."""
CODES = [(-128, 127), (0, 127), (0, 96), (-5, 3), (7, 7), (-128, -128), (127, 127)]


def rounded(x: Fraction, rounding: Rounding) -> int:
    """Python rounds a Fraction to the nearest integer, ties to even."""
    return math.floor(x) if rounding == "floor" else round(x)


def clipped(code: int, lo: int, hi: int) -> int:
    return max(lo, min(hi, code))


# -- shifts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("shift", range(17))
def test_every_int16_shifted(shift: int, rounding: Rounding) -> None:
    acc = np.arange(-2**15, 2**15, dtype=np.int32)
    expected = [rounded(Fraction(a, 2**shift), rounding) for a in acc.tolist()]
    assert numerics.shift_right(acc, shift, rounding).tolist() == expected


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("shift", range(32))
def test_the_edges_of_int32_shifted(shift: int, rounding: Rounding, dtype: type) -> None:
    """Nothing on the way leaves int32, where the accumulators are int32."""
    found = numerics.shift_right(np.array(EDGES, dtype), shift, rounding)
    assert found.dtype == dtype
    assert found.tolist() == [rounded(Fraction(a, 2**shift), rounding) for a in EDGES]


@pytest.mark.parametrize(("lo", "hi"), CODES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("shift", [0, 1, 7, 24, 30, 31])
def test_requantize(shift: int, rounding: Rounding, lo: int, hi: int) -> None:
    codes = numerics.requantize(np.array(EDGES, np.int32), shift, lo, hi, rounding)
    assert codes.dtype == np.int8
    assert codes.tolist() == [clipped(rounded(Fraction(a, 2**shift), rounding), lo, hi) for a in EDGES]


def test_requantize_floors_by_default() -> None:
    assert numerics.requantize(np.array([-1, 3]), 1, -128, 127).tolist() == [-1, 1]


@pytest.mark.parametrize("shift", range(32))
def test_half_makes_a_floor_round_half_up(shift: int) -> None:
    for acc in EDGES:
        assert (acc + numerics.half(shift)) >> shift == math.floor(Fraction(acc, 2**shift) + Fraction(1, 2))


# -- borders ----------------------------------------------------------------------------------------------------------

REALS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


@given(st.lists(REALS, min_size=1), st.integers(-120, 120), st.sampled_from(ROUNDINGS), st.sampled_from(CODES))
def test_quantize_is_exact(values: list[float], exponent: int, rounding: Rounding, codes: tuple[int, int]) -> None:
    found = numerics.quantize(np.array(values, np.float32), exponent, *codes, rounding)
    assert found.dtype == np.int8
    for value, code in zip(values, found.tolist(), strict=True):
        quotient = Fraction(value) / Fraction(2)**exponent
        if quotient == 0 or abs(quotient) >= Fraction(2)**-126:  # float32 has it with all its bits
            assert code == clipped(rounded(quotient, rounding), *codes)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("exponent", [-9, -1, 0, 3])
def test_quantize_around_every_half_step(exponent: int, rounding: Rounding) -> None:
    """On each multiple of half a step, and one float32 to either side."""
    middle = np.ldexp(np.array([n for n in range(-300, 301) if n], np.float32), exponent - 1)
    values = np.concatenate([[0], middle, *(np.nextafter(middle, np.float32(end)) for end in (-1e9, 1e9))])
    expected = [clipped(rounded(Fraction(v) / Fraction(2)**exponent, rounding), -128, 127) for v in values.tolist()]
    assert numerics.quantize(values.astype(np.float32), exponent, -128, 127, rounding).tolist() == expected


def test_a_quotient_beyond_float32_saturates() -> None:
    assert numerics.quantize(np.array([3e38, -3e38], np.float32), -20, -128, 127, "floor").tolist() == [127, -128]


@pytest.mark.parametrize("exponent", [-140, -126, -7, 0, 9, 120])
def test_every_code_survives_dequantize_and_quantize(exponent: int) -> None:
    codes = np.arange(-128, 128, dtype=np.int8)
    real = numerics.dequantize(codes, exponent)
    assert real.dtype == np.float32
    assert [Fraction(r) for r in real.tolist()] == [c * Fraction(2)**exponent for c in codes.tolist()]
    for rounding in ROUNDINGS:
        assert numerics.quantize(real, exponent, -128, 127, rounding).tolist() == codes.tolist()


@pytest.mark.parametrize("integer", [*EDGES, 2**24 + 1, 2**24 + 3, 2**31 - 64, 2**31 - 65])
def test_in_float32_is_the_nearest_that_float32_holds(integer: int) -> None:
    size = max(0, integer.bit_length() - 24)  # bits that do not fit
    nearest = round(Fraction(integer, 2**size)) * 2**size
    assert numerics.in_float32(np.array([integer])).tolist() == [nearest]
    assert float(np.float32(nearest)) == nearest


# -- means ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("size", [(1,), (2,), (3, 1), (2, 2), (7, 5), (1, 2, 3), (16, 16)])
def test_mean(size: tuple[int, ...], rounding: Rounding) -> None:
    rng = np.random.default_rng(0)
    ends = [np.full((1, 3, *size), code) for code in (127, -128, 0, -1)]
    x = np.concatenate([rng.integers(-128, 128, (40, 3, *size)), *ends]).astype(np.int8)
    found = numerics.mean(x, rounding)
    assert found.shape == (44, 3, *(1 for _ in size))
    assert found.reshape(44, 3).tolist() == [
        [rounded(Fraction(sum(channel.reshape(-1).tolist()), math.prod(size)), rounding) for channel in sample]
        for sample in x]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("count", [4, 6])
def test_every_mean_of_a_few_codes(count: int, rounding: Rounding) -> None:
    sums = range(-128 * count, 127 * count + 1)
    x = np.array([[s // count + (i < s % count) for i in range(count)] for s in sums], np.int8)
    found = numerics.mean(x.reshape(-1, 1, 2, count // 2), rounding)
    assert found.reshape(-1).tolist() == [rounded(Fraction(s, count), rounding) for s in sums]


# -- convolution ------------------------------------------------------------------------------------------------------


def at(x: Any, position: Sequence[int]) -> int:
    """An element of nested lists, 0 outside them."""
    for p in position:
        if not 0 <= p < len(x):
            return 0
        x = x[p]
    return int(x)


def slow_convolution(
    x: Array, w: Array, strides: list[int], pads: list[int], dilations: list[int], group: int
) -> list[list[list[int]]]:
    """ONNX's definition, one multiplication after the other: samples, channels, positions in row-major order."""
    kernel, n = w.shape[2:], w.ndim - 2
    out = [(size + pads[i] + pads[n + i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1
           for i, size in enumerate(x.shape[2:])]
    maps, weights = x.tolist(), w.tolist()
    inputs, per_group = w.shape[1], w.shape[0] // group
    return [
        [
            [
                sum(
                    at(weights[m][c], k) * at(sample[m // per_group * inputs + c],
                                              [position[i] * strides[i] - pads[i] + dilations[i] * k[i]
                                               for i in range(n)])
                    for c in range(inputs) for k in itertools.product(*map(range, kernel))
                )
                for position in itertools.product(*map(range, out))
            ]
            for m in range(w.shape[0])
        ]
        for sample in maps
    ]


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Array, Array, dict[str, Any]]:
    """Codes, weights and geometry of a small convolution in one to three dimensions."""
    n = draw(st.integers(1, 3))
    group, per_group, inputs = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))

    def each(lo: int, hi: int, count: int = n) -> list[int]:
        return draw(st.lists(st.integers(lo, hi), min_size=count, max_size=count))

    kernel, strides, dilations, pads = each(1, 3), each(1, 3), each(1, 2), each(0, 2, 2 * n)
    size = [max(1, (k - 1) * d + 1 - pads[i] - pads[n + i]) + more
            for i, (k, d, more) in enumerate(zip(kernel, dilations, each(0, 2), strict=True))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lo, hi = draw(st.sampled_from([(-128, 127), (-128, -128), (127, 127), (0, 1)]))
    x = rng.integers(lo, hi, (draw(st.integers(1, 2)), group * inputs, *size), np.int8, endpoint=True)
    w = rng.integers(-128, 127, (group * per_group, inputs, *kernel), np.int8, endpoint=True)
    return x, w, {"strides": strides, "pads": pads, "dilations": dilations, "group": group}


BOUNDS = [FLOAT32_EXACT - 1, FLOAT32_EXACT, 2**53 - 1, 2**53]
"""One for each type that sums are computed in, and the ends of their ranges."""


@given(convolutions(), st.sampled_from(BOUNDS))
def test_convolve(case: tuple[Array, Array, dict[str, Any]], bound: int) -> None:
    x, w, geometry = case
    expected = slow_convolution(x, w, **geometry)
    found = numerics.convolve(x, w, bound=bound, **geometry)
    assert found.dtype == np.int64
    assert found.reshape(*found.shape[:2], -1).tolist() == expected


def test_each_bound_has_its_type() -> None:
    assert [numerics.exact_type(bound) for bound in BOUNDS] == [np.float32, np.float64, np.float64, np.int64]


def convolved(x: Array, w: Array, bound: int) -> list[int]:
    """Over 3 channels, dense and depthwise at once: the sums must be equal."""
    geometry: dict[str, Any] = {"strides": [1], "pads": [0, 0], "dilations": [1]}
    dense = numerics.convolve(x.reshape(1, -1, 1), w.reshape(1, -1, 1), group=1, bound=bound, **geometry)
    depthwise = numerics.convolve(x.reshape(1, 1, -1), w.reshape(1, 1, -1), group=1, bound=bound, **geometry)
    product = numerics.multiply(x.reshape(1, -1), w.reshape(1, -1), bound=bound)
    return [int(a.item()) for a in (dense, depthwise, product)]


@pytest.mark.parametrize("limit", [FLOAT32_EXACT, 2**53])
def test_sums_are_exact_on_either_side_of_a_types_limit(limit: int) -> None:
    """Large odd terms that cancel: a type of fewer bits loses the last one."""
    below = np.array([limit // 2 - 1, limit // 2 - 1, 1])
    assert convolved(below, np.array([1, 1, 1]), int(below.sum())) == [limit - 1] * 3
    above = np.array([limit - 1, 2, -limit])
    assert convolved(above, np.array([1, 1, 1]), int(np.abs(above).sum())) == [1] * 3
    narrow = np.float32 if limit == FLOAT32_EXACT else np.float64
    assert (above[:2].astype(narrow).sum() - narrow(limit)) != 1  # what the wider type is for


@pytest.mark.parametrize("channels", [1023, 1024, 1025, 131071])
def test_the_largest_sums(channels: int) -> None:
    """All codes and weights at their ends: just below, at and above 2**24, and just below 2**31."""
    x, w = np.full(channels, -128, np.int8), np.full(channels, -128, np.int8)
    bound = int(numerics.weight_bound(w.reshape(1, -1), -128, 127).item())
    assert convolved(x, w, bound) == [channels * 2**14] * 3
    assert convolved(x, np.full(channels, 127, np.int8), bound) == [-channels * 128 * 127] * 3


@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 6), st.integers(0, 2**32), st.sampled_from(BOUNDS))
def test_multiply(n: int, m: int, k: int, seed: int, bound: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-128, 128, (n, k), np.int8), rng.integers(-128, 128, (m, k), np.int8)
    found = numerics.multiply(x, w, bound=bound)
    assert found.dtype == np.int64
    assert found.tolist() == [[sum(a * b for a, b in zip(row, weights, strict=True)) for weights in w.tolist()]
                              for row in x.tolist()]


# -- accumulator bounds -----------------------------------------------------------------------------------------------

SMALL = st.integers(-128, 127)


@given(st.lists(st.tuples(st.lists(SMALL, min_size=3, max_size=3), st.integers(-2**31 + 1, 2**31 - 1)), min_size=1),
       st.sampled_from([(-128, 127), (0, 127), (0, 96), (-64, 63), (-3, 0)]))
def test_the_bound_holds_for_every_extreme_input(channels: list[tuple[list[int], int]], codes: tuple[int, int]) -> None:
    """A sum of products is largest at a corner of the box of inputs; partial sums are inside too."""
    weight, bias = np.array([w for w, _ in channels], np.int8), np.array([b for _, b in channels], np.int32)
    bound = numerics.accumulator_bound(weight, bias, *codes)
    for x in itertools.product(codes, repeat=3):
        for w, b in channels:
            parts = list(itertools.accumulate(q * p for q, p in zip(w, x, strict=True)))
            assert max(abs(total) for total in [*parts, parts[-1] + b]) <= bound


@pytest.mark.parametrize(("lo", "hi", "worst"), [(-128, 127, -128), (0, 127, 127), (0, 96, 96), (-5, 3, -5)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_bound_is_reached(lo: int, hi: int, worst: int, sign: int) -> None:
    """By the channel of largest weights, where weights have one sign and the bias pushes the same way."""
    weight = np.array([[1, 2, 3], [100, 127, 90], [0, 0, 0]]) * sign
    total = int(weight[1].sum()) * worst
    bias = np.array([0, 10**6 * (1 if total > 0 else -1), -5])
    bound = numerics.accumulator_bound(weight.astype(np.int8), bias.astype(np.int32), lo, hi)
    assert bound == abs(total + int(bias[1]))


def test_a_bias_alone_can_be_the_bound() -> None:
    """Of another channel than that of the largest products; the least int32 has no positive counterpart in int32."""
    weight, bias = np.array([[127], [0]], np.int8), np.array([0, -2**31], np.int32)
    assert numerics.accumulator_bound(weight, bias, -128, 127) == INT32_BOUND


def test_bounds_of_each_output_channel() -> None:
    weight = np.array([[1, -2, 3], [-128, 0, 127]], np.int8)
    assert numerics.weight_bound(weight, -3, 2).tolist() == [18, 765]
    assert numerics.weight_bound(weight, -3, 2, out_axis=1).tolist() == [387, 6, 390]
    assert numerics.weight_bound(np.zeros((2, 0), np.int8), -3, 2).tolist() == [0, 0]


# -- padding and pooling ----------------------------------------------------------------------------------------------


def test_pad() -> None:
    x = np.arange(1, 7, dtype=np.int8).reshape(1, 1, 2, 3)
    assert numerics.pad(x, [1, 0, 0, 2], -9).tolist() == [[[[-9] * 5, [1, 2, 3, -9, -9], [4, 5, 6, -9, -9]]]]
    assert numerics.pad(x, [0, 0, 0, 0], -9) is x


@st.composite
def poolings(draw: st.DrawFn) -> tuple[Array, dict[str, Any]]:
    """Codes and geometry of a small max pooling that ONNX allows: pads below the kernel, a window that fits."""
    n = draw(st.integers(1, 3))

    def each(lo: int, hi: int) -> list[int]:
        return draw(st.lists(st.integers(lo, hi), min_size=n, max_size=n))

    kernel, strides, dilations = each(1, 3), each(1, 4), each(1, 2)
    pads = [draw(st.integers(0, k - 1)) for k in 2 * kernel]
    size = [max(1, (k - 1) * d + 1 - pads[i] - pads[n + i]) + more
            for i, (k, d, more) in enumerate(zip(kernel, dilations, each(0, 4), strict=True))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.integers(-128, draw(st.sampled_from([-127, 0, 128])), (2, 2, *size), np.int8)
    return x, {"kernel": kernel, "strides": strides, "pads": pads, "dilations": dilations,
               "ceil_mode": draw(st.booleans())}


@given(poolings())
def test_max_pool_is_onnxruntimes(case: tuple[Array, dict[str, Any]]) -> None:
    x, geometry = case
    form = {**geometry, "kernel_shape": geometry["kernel"], "ceil_mode": int(geometry["ceil_mode"])}
    del form["kernel"]
    graph = helper.make_graph([helper.make_node("MaxPool", ["x"], ["y"], **form)], "g",
                              [helper.make_tensor_value_info("x", TensorProto.INT8, x.shape)],
                              [helper.make_tensor_value_info("y", TensorProto.INT8, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    expected, = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    found = numerics.max_pool(x, **geometry)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("kernel", "stride", "pads", "dilation", "ceil_mode", "expected"), [
    (2, 2, [0, 0], 1, False, [-1, -3]),  # the last element is left out
    (2, 2, [0, 0], 1, True, [-1, -3, -5]),  # a window of what is left
    (3, 3, [0, 0], 1, True, [-1, -4]),
    (3, 1, [1, 1], 1, False, [-1, -1, -2, -3, -4]),  # padding never wins
    (2, 1, [1, 0], 2, False, [-2, -1, -2, -3]),
    (2, 4, [1, 1], 1, True, [-1, -4]),
    (3, 5, [1, 1], 1, True, [-1, -5]),
    (3, 3, [1, 1], 1, True, [-1, -3]),  # a third window would start in the padding
])
def test_max_pool_by_hand(
    kernel: int, stride: int, pads: list[int], dilation: int, ceil_mode: bool, expected: list[int]
) -> None:
    x = np.array([-1, -2, -3, -4, -5], np.int8).reshape(1, 1, 5)
    found = numerics.max_pool(x, kernel=[kernel], strides=[stride], pads=pads, dilations=[dilation],
                              ceil_mode=ceil_mode)
    assert found.reshape(-1).tolist() == expected
