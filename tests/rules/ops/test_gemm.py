"""Gemm in every spelling: codes, weights, biases, shifts and clips at their ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from integer_graphs import RELU, SIGNED, Case, Codes, GraphBuilder, agree, edges, float32_below

from onnxdiana import numerics
from onnxdiana.errors import TargetError

CLIPS = [SIGNED, RELU, (0, 96), (-128, 0), (5, 6)]


def requantized(
    features: int, weight: np.ndarray, bias: Any = 0, *, input_codes: Codes = SIGNED, **options: Any
) -> Case:
    """One Gemm."""
    build = GraphBuilder(features, codes=input_codes)
    return build.build(build.gemm("x", "y", weight, bias, **options))


@pytest.mark.parametrize(("features", "outputs"), [(1, 1), (1, 5), (7, 1), (33, 10), (640, 12)])
def test_sizes(features: int, outputs: int) -> None:
    rng = np.random.default_rng(0)
    case = requantized(features, rng.integers(-128, 128, (outputs, features)), rng.integers(-9999, 9999, outputs),
                       shift=8)
    agree(case)


@pytest.mark.parametrize("side", [-1, 0, 1], ids=["least bias", "no bias", "largest bias"])
@pytest.mark.parametrize("shift", [0, 1, 30, 31])
@pytest.mark.parametrize("kind", ["least", "largest", "zero", "alternating", "random"])
def test_everything_at_its_ends(kind: str, shift: int, side: int) -> None:
    weight = edges((3, 20))[kind]
    room = numerics.INT32_BOUND - 1 - int(numerics.weight_bound(weight, -128, 127).max())
    for codes in CLIPS:
        agree(requantized(20, weight, float32_below(side * room), shift=shift, codes=codes))


@pytest.mark.parametrize("channels", [1023, 1024, 1025, 131071])
@pytest.mark.parametrize("half", [False, True])
def test_the_largest_sums(channels: int, half: bool) -> None:
    """Without a bias to speak of: 2**14 a product, around 2**24 and up to 2**31."""
    weight = np.full((2, channels), -128)
    weight[1] = 127
    if channels == 131071 and half:
        weight[:, :2**7] = 0  # room for the half
    case = requantized(channels, weight, shift=16, half=half)
    zeros = 128 if channels == 131071 and half else 0
    assert case.bound == (channels - zeros) * 2**14 + (2**15 if half else 0)
    found = agree(case)["y.accumulator"]
    assert found.max() == case.bound


def test_beyond_int32_there_is_no_table() -> None:
    with pytest.raises(TargetError, match="Gemm -> 'y': accumulator up to 2147483648, beyond 32 bits"):
        requantized(131072, np.full((1, 131072), -128), shift=16)


def test_layers_behind_each_other() -> None:
    """Each from the other's codes, several samples at once."""
    rng = np.random.default_rng(1)
    build = GraphBuilder(16)
    value = "x"
    for i, (inputs, outputs, codes) in enumerate([(16, 9, RELU), (9, 21, (0, 96)), (21, 6, SIGNED)]):
        value = build.gemm(value, f"y{i}", rng.integers(-128, 128, (outputs, inputs)),
                           rng.integers(-4000, 4000, outputs), shift=8, codes=codes, half=True)
    agree(build.build(value), [rng.integers(-128, 128, (40, 16))])
