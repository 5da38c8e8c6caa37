"""GlobalAveragePool as a division: odd and even maps, every sum, and what may stand behind it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from integer_graphs import RELU, Codes, GraphBuilder, agree
from tiny import model, with_values

from onnxdiana import quantize


def identity(channels: int) -> np.ndarray:
    """Weight of a 1x1 Conv that keeps every code."""
    return np.eye(channels, dtype=int).reshape(channels, channels, 1, 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 3), (5, 1), (7, 7), (9, 7), (8, 8), (16, 16), (25, 5)])
def test_map_sizes(size: tuple[int, int]) -> None:
    build = GraphBuilder(3, *size, codes=RELU)
    pooled = build.move("Flatten", build.mean("x", "mean"), "flat", axis=1)
    case = build.build(build.gemm(pooled, "y", np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [100, -50, 3]])))
    assert case.table.layers["mean.unclipped"].accumulator_bound == math.prod(size) * 127
    agree(case)


@pytest.mark.parametrize("codes", [RELU, (0, 96), (3, 100)], ids=str)
def test_every_sum_of_three(codes: Codes) -> None:
    sums = np.arange(3 * 127 + 1)
    x = np.stack([sums // 3 + (i < sums % 3) for i in range(3)], axis=-1).reshape(1, len(sums), 1, 3)
    build = GraphBuilder(*x.shape[1:], codes=RELU)
    pooled = build.move("Flatten", build.mean("x", "mean", codes=codes), "flat", axis=1)
    case = build.build(build.gemm(pooled, "y", np.eye(len(sums), dtype=int)))
    found = agree(case, [x])
    np.testing.assert_array_equal(found["mean"].reshape(-1), np.clip(sums // 3, *codes))


@pytest.mark.parametrize("end", ["conv", "flatten and conv", "output", "flatten", "reshape"])
def test_what_stands_behind_it(end: str) -> None:
    """The dialect flattens before it clips; a map of one pixel comes back where a reader wants it."""
    build = GraphBuilder(4, 3, 3, codes=RELU)
    mean = build.mean("x", "mean")
    outputs = {
        "conv": lambda: build.conv(mean, "y", identity(4)),
        "flatten and conv": lambda: build.add(
            build.gemm(build.move("Flatten", mean, "f1", axis=1), "g", np.eye(4, dtype=int)),
            build.move("Flatten", build.conv(mean, "c", identity(4)), "f2", axis=1), "y"),
        "output": lambda: mean,
        "flatten": lambda: build.move("Flatten", mean, "y", axis=1),
        "reshape": lambda: build.gemm(build.move("Reshape", mean, "r", np.array([0, 4])), "y", np.eye(4, dtype=int)),
    }
    agree(build.build(outputs[end]()))


@pytest.mark.parametrize("front", [
    "r = Relu(a)  b = Conv(x, v)  c = Concat<axis=1>(r, b)",
    "r = Relu(a)  b = Conv(x, v)  q = Relu(b)  c = Concat<axis=1>(r, q)",
    "c = Pad(a, pads)",
    "r = Relu(a)  c = Pad(r, pads)",
], ids=["negative in part", "positive", "signed", "padded"])
def test_it_is_a_division_only_of_codes_that_are_not_negative(front: str) -> None:
    """From end to end: otherwise the spellings would round it differently."""
    rng = np.random.default_rng(0)
    proto = model(f"""(float[N,4,5,5] x) => (y)
        <float[4,4,1,1] w, float[4,4,1,1] v, float[3,{8 if "Concat" in front else 4}] g, int64[8] pads> {{
        a = Conv(x, w)  {front}  p = GlobalAveragePool(c)  f = Flatten(p)  y = Gemm<transB=1>(f, g) }}""")
    if "Pad" in front:
        with_values(proto, pads=np.array([0, 0, 1, 0, 0, 0, 0, 1]))
    run = quantize(proto, {"x": rng.standard_normal((16, 4, 5, 5)).astype(np.float32)})
    assert run.summary["agreement"]["exact"]


@pytest.mark.parametrize("shape", [(3, 7), (3, 2, 3, 2)], ids=["1-d", "3-d"])
def test_other_dimensions_are_not_handed_over(shape: tuple[int, ...]) -> None:
    build = GraphBuilder(*shape, codes=RELU)
    pooled = build.move("Flatten", build.mean("x", "mean"), "flat", axis=1)
    case = build.build(build.gemm(pooled, "y", np.eye(3, dtype=int)))
    agree(case, obstacle="GlobalAveragePool -> 'mean.unclipped.accumulator': HTVM takes 2-d pooling only")
