"""Quantize, Requantize and Dequantize: the borders of the integer graph in every spelling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_graphs import Case, GraphBuilder, agree, agree_on_floats, edges

from onnxdiana import numerics


def identity(features: int, **options: int) -> Case:
    build = GraphBuilder(features, **options)
    return build.build(build.gemm("x", "y", np.eye(features, dtype=int), weight_exponent=0))


@pytest.mark.parametrize("exponent", [-20, -7, -1, 0, 1, 5, 20])
def test_floats_around_every_step(exponent: int) -> None:
    """On each step, and one float32 to either side; far beyond the codes, and next to nothing."""
    steps = np.ldexp(np.arange(-130, 131, dtype=np.float32), exponent)
    x = np.concatenate([steps, *(np.nextafter(steps, np.float32(end)) for end in (-np.inf, np.inf)),
                        np.array([3e38, -3e38, 1e-38, -1e-38, -0.0], np.float32)]).astype(np.float32)
    case = identity(len(x), exponent=exponent)
    found = agree_on_floats(case, {"x": x[None]})
    with np.errstate(over="ignore"):
        quotient = np.ldexp(x, -exponent)
    np.testing.assert_array_equal(found["x.quantized"][0], np.clip(np.floor(quotient), -128, 127))
    np.testing.assert_array_equal(found["y"][0], np.ldexp(found["x.quantized"][0].astype(np.float32), exponent))


@pytest.mark.parametrize("exponent", [-120, -60, 60, 110])
def test_extreme_exponents(exponent: int) -> None:
    agree(identity(6, exponent=exponent))


ACCUMULATORS = sorted({numerics.in_float32(np.array(s * (2**p + o))).item() for p in range(31) for o in (-1, 0, 1)
                       for s in (-1, 1)} | {2**31 - 128, 0})


@pytest.mark.parametrize("shift", range(32))
def test_every_shift_at_the_edges_of_int32(shift: int) -> None:
    """Biases put each accumulator that float32 holds there; the input only adds 0."""
    build = GraphBuilder(1)
    case = build.build(build.gemm("x", "y", np.zeros((len(ACCUMULATORS), 1)), np.array(ACCUMULATORS), shift=shift))
    found = agree(case, [np.array([[1]])])
    expected = [max(-128, min(127, a >> shift)) for a in ACCUMULATORS]
    assert found["y.quantized"].reshape(-1).tolist() == expected


@given(st.integers(0, 31), st.integers(-128, 126), st.integers(0, 254), st.integers(0, 99))
@settings(max_examples=max(1, settings.default.max_examples // 5))
def test_every_clip(shift: int, lo: int, width: int, seed: int) -> None:
    build = GraphBuilder(4)
    hi = min(127, lo + 1 + width)
    bias = np.random.default_rng(seed).integers(-2**31, 2**31, 20) // 256 * 255 // 128 * 128
    case = build.build(build.gemm("x", "y", edges((20, 4), seed)["random"], bias, shift=shift, codes=(lo, hi)))
    found = agree(case)
    assert found["y.quantized"].min() >= lo
    assert found["y.quantized"].max() <= hi
