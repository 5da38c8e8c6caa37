"""Histograms: the same state for any split of the data, and errors as near as a bin is wide."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxdiana.calibration.histogram import BINS, Histogram


def filled(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.update(part)
    return histogram


def state(histogram: Histogram) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(histogram).items()}


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
VALUES = st.one_of(
    FLOATS, st.floats(-8, 8, width=32), st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 1e-45, -1e-45, 3e38, -3e38]))


@given(st.lists(st.lists(VALUES, max_size=12), max_size=8), st.randoms(use_true_random=False))
def test_any_split_and_order_gives_the_same_state(parts: list[list[float]], random: Any) -> None:
    arrays = [np.array(part, np.float32) for part in parts]
    whole = np.concatenate([np.zeros(0, np.float32), *arrays])
    expected = state(filled(whole))
    assert state(filled(*arrays)) == expected
    shuffled = whole.copy()
    random.shuffle(shuffled)
    assert state(filled(*shuffled.reshape(-1, 1))) == expected


@given(st.lists(VALUES, min_size=1, max_size=40))
def test_counts_are_those_of_the_edges(values: list[float]) -> None:
    x = np.array(values, np.float32)
    histogram = filled(*x.reshape(-1, 1))
    assert (histogram.count, histogram.zeros) == (len(x), int((x == 0).sum()))
    assert (histogram.low, histogram.high, histogram.peak) == (x.min(), x.max(), np.abs(x).max())
    if histogram.peak == 0:
        assert not histogram._bins.any()
        return
    assert histogram._k is not None
    assert 2.0 ** (histogram._k - 1) <= histogram.peak < 2.0**histogram._k
    edges = np.ldexp(np.arange(-BINS // 2, BINS // 2 + 1, dtype=np.float64), histogram._k - 11)
    expected = np.bincount(np.searchsorted(edges, x[x != 0].astype(np.float64), side="right") - 1, minlength=BINS)
    np.testing.assert_array_equal(histogram._bins, expected)


def test_a_small_negative_stays_left_of_zero_beside_a_large_value() -> None:
    tiny, large = np.array([-1e-45], np.float32), np.array([5000.0], np.float32)
    assert state(filled(tiny, large)) == state(filled(np.concatenate([tiny, large])))
    assert filled(large, tiny)._bins[BINS // 2 - 1] == 1


def brute_force(x: np.ndarray, exponent: int, lo: int, hi: int) -> float:
    step = math.ldexp(1.0, exponent)
    return float(np.square(x - np.clip(np.rint(x.astype(np.float64) / step), lo, hi) * step).mean())


def samples(name: str) -> np.ndarray:
    random = np.random.default_rng(0)
    return {
        "normal": lambda: random.normal(0, 0.7, 200_000),
        "long tail": lambda: random.laplace(0, 0.3, 200_000),
        "half zeros": lambda: np.maximum(random.normal(0, 2, 200_000), 0),
        "off centre": lambda: random.uniform(-0.3, 5, 200_000),
        "large": lambda: random.normal(3e4, 1e4, 200_000),
        "small": lambda: random.normal(0, 1e-6, 200_000),
    }[name]().astype(np.float32)


@pytest.mark.parametrize(("lo", "hi"), [(-128, 127), (0, 127)])
@pytest.mark.parametrize("name", ["normal", "long tail", "half zeros", "off centre", "large", "small"])
def test_error_is_that_of_quantizing_the_values(name: str, lo: int, hi: int) -> None:
    x = samples(name)
    histogram = filled(*np.array_split(x, 13))
    assert np.count_nonzero(x) == histogram.count - histogram.zeros
    widest = math.frexp(histogram.peak)[1] - 7  # the whole range fits 8 bits
    for exponent in range(widest - 5, widest + 6):
        expected = brute_force(x, exponent, lo, hi)
        assert histogram.error(exponent, lo, hi) == pytest.approx(expected, rel=0.03), exponent - widest


def test_the_exponent_of_least_error_is_the_brute_force_one() -> None:
    for name in ("normal", "long tail", "half zeros", "large", "small"):
        x = samples(name)
        histogram = filled(x)
        widest = math.frexp(histogram.peak)[1] - 7
        tried = range(widest - 5, widest + 2)
        best = min(tried, key=lambda e, x=x: brute_force(x, e, -128, 127))
        assert min(tried, key=lambda e, h=histogram: h.error(e, -128, 127)) == best


def test_nothing_and_zeros_cost_nothing() -> None:
    assert filled().error(-3, -128, 127) == filled().peak == 0
    zeros = filled(np.zeros((4, 5), np.float32), np.zeros(0, np.float32))
    assert (zeros.count, zeros.zeros, zeros.peak, zeros.error(-3, -128, 127)) == (20, 20, 0, 0)
    half = filled(np.zeros(1000, np.float32), samples("normal")[:1000])
    assert half.error(-5, -128, 127) == pytest.approx(filled(samples("normal")[:1000]).error(-5, -128, 127) / 2)
