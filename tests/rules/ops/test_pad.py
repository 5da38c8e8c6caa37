"""Pad in every spelling and mode; zero is code 0, whatever the exponent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from integer_graphs import GraphBuilder, agree, ended

from onnxdiana.rules.ops import operator

PADS = [[0, 0, 1, 2, 0, 0, 0, 1], [0, 1, 0, 0, 0, 2, 0, 0], [0, 0, 3, 3, 0, 0, 3, 3], [0] * 8]
MODES = ["constant", "reflect", "edge", "wrap"]
WRAP = "Pad -> 'p': circular padding, which HTVM's importer does not know"


def numpy_pad(x: np.ndarray, pads: list[int], mode: str) -> np.ndarray:
    return np.pad(x, list(zip(pads[:4], pads[4:], strict=True)), mode=mode)  # type: ignore[call-overload]


@pytest.mark.parametrize("pads", PADS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str, pads: list[int]) -> None:
    build = GraphBuilder(3, 4, 5)
    build.move("Pad", "x", "p", np.array(pads), mode=mode)
    found = agree(ended(build, "p"), obstacle=WRAP if mode == "wrap" else None)
    expected = numpy_pad(found["x.quantized"], pads, mode)
    np.testing.assert_array_equal(found["y.quantized"], expected.reshape(len(expected), -1))


@pytest.mark.parametrize("mode", ["constant", "edge", "wrap"])
def test_pads_wider_than_the_map(mode: str) -> None:
    """Reflection has no such form in onnxruntime."""
    build = GraphBuilder(2, 1, 3)
    pads = [0, 3, 2, 4, 0, 0, 1, 8]
    build.move("Pad", "x", "p", np.array(pads), mode=mode)
    found = agree(ended(build, "p"), obstacle=WRAP if mode == "wrap" else None)
    expected = numpy_pad(found["x.quantized"], pads, mode)
    np.testing.assert_array_equal(found["y.quantized"], expected.reshape(len(expected), -1))


@pytest.mark.parametrize("mode", MODES)
def test_in_one_dimension(mode: str) -> None:
    build = GraphBuilder(3, 5)
    build.move("Pad", "x", "p", np.array([0, 0, 2, 0, 0, 1]), mode=mode)
    agree(ended(build, "p"), obstacle=WRAP if mode == "wrap" else None)


@pytest.mark.parametrize(("constants", "attributes"), [
    ((np.array([1, 2, 2, 1]), np.float32(0), np.array([3, 2])), {}),
    ((np.array([1, 2, 2, 1]), None, np.array([-1, -2])), {}),
    ((np.array([1, 2, 2, 1]), None, np.array([-1, -2])), {"mode": "edge"}),
    ((np.array([1, 2, 2, 1]), None, np.array([3, 2])), {"mode": "wrap"}),
    ((np.array([0, 0, 2, 1, 0, 0, 1, 2]), np.float32(-0.0)), {"mode": "constant"}),
], ids=["axes", "negative axes, no value", "axes, edge", "axes, wrap", "minus zero"])
def test_spellings_of_the_same_pads(constants: tuple[Any, ...], attributes: dict[str, str]) -> None:
    build = GraphBuilder(3, 4, 5)
    build.move("Pad", "x", "p", *constants, **attributes)
    mode = attributes.get("mode", "constant")
    found = agree(ended(build, "p"), obstacle=WRAP if mode == "wrap" else None)
    expected = numpy_pad(found["x.quantized"], [0, 0, 2, 1, 0, 0, 1, 2], mode)
    np.testing.assert_array_equal(found["y.quantized"], expected.reshape(len(expected), -1))


@pytest.mark.parametrize(("mode", "codes"), [("constant", (0, 50)), ("edge", (10, 50)), ("wrap", (10, 50))])
def test_zeros_join_the_range_of_the_codes(mode: str, codes: tuple[int, int]) -> None:
    """Other padding brings in no new code."""
    build = GraphBuilder(1, 3, 3, codes=(10, 50))
    build.move("Pad", "x", "p", np.array([0, 0, 1, 1, 0, 0, 1, 1]), mode=mode)
    case = build.build(build.conv("p", "y", np.full((1, 1, 3, 3), -1)))
    node = next(node for node in case.integer.graph if node.op_type == "Pad")
    assert operator(node).code_range(node, [(10, 50)]) == codes
    found = agree(case, obstacle=WRAP if mode == "wrap" else None)
    assert case.table.layers["y"].accumulator_bound == 9 * 50 == -found["y.accumulator"].min()


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_in_front_of_a_layer(mode: str) -> None:
    """As torch exports a convolution with another padding than zeros."""
    rng = np.random.default_rng(0)
    build = GraphBuilder(3, 5, 5)
    build.move("Pad", "x", "p", np.array([0, 0, 1, 1, 0, 0, 1, 1]), mode=mode)
    case = build.build(build.conv("p", "y", rng.integers(-128, 128, (4, 3, 3, 3)), 100, shift=9))
    agree(case)
    assert case.table.layers["y"].core == "cpu"
