"""Add in every spelling: every pair of codes, sums that saturate, a ReLU behind the sum."""

from __future__ import annotations

import numpy as np
import pytest
from integer_graphs import RELU, SIGNED, Codes, GraphBuilder, agree

EVERY_PAIR = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij"))[None]


@pytest.mark.parametrize("codes", [SIGNED, RELU, (0, 96), (-128, 0), (-7, 9)], ids=str)
@pytest.mark.parametrize("shift", [0, 1, 2, 8, 30, 31])
def test_every_pair_of_codes(shift: int, codes: Codes) -> None:
    """In one sample: two channels, one for each operand; a convolution behind the sum, which ends the graph."""
    build = GraphBuilder(2, 256, 256)
    a, b = (build.move("Slice", "x", name, *(np.array([n]) for n in (i, i + 1, 1)))
            for i, name in enumerate(("a", "b")))
    total = build.add(a, b, "sum", shift=shift, codes=codes)
    case = build.build(build.conv(total, "y", np.ones((1, 1, 1, 1), int)))
    found = agree(case, [EVERY_PAIR])
    expected = np.clip((EVERY_PAIR[:, :1] + EVERY_PAIR[:, 1:]) >> shift, *codes)
    np.testing.assert_array_equal(found["sum"], expected)
    np.testing.assert_array_equal(found["y.quantized"], expected)


def test_bounds_of_sums() -> None:
    """Of the codes that the operands have, not of all that int8 has."""
    build = GraphBuilder(4, codes=(-100, 50))
    a = build.gemm("x", "a", np.eye(4, dtype=int), weight_exponent=0, codes=RELU)
    case = build.build(build.add(a, "x", "y", shift=1))
    assert case.table.layers["y"].accumulator_bound == 227
    assert case.table.layers["y"].rounding == "floor"


def test_a_tensor_added_to_itself() -> None:
    build = GraphBuilder(3, 2, 2)
    a = build.conv("x", "a", np.eye(3, dtype=int).reshape(3, 3, 1, 1), weight_exponent=0)
    found = agree(build.build(build.add(a, a, "y")))
    np.testing.assert_array_equal(found["y.quantized"], np.clip(2 * found["a"].astype(int), -128, 127))


def test_sums_of_sums() -> None:
    """Every sum read twice, codes saturating more and more."""
    build = GraphBuilder(3, 4, 4)
    value = build.conv("x", "a", np.eye(3, dtype=int).reshape(3, 3, 1, 1), weight_exponent=0)
    for i in range(4):
        value = build.add(value, "x", f"s{i}")
    agree(build.build(value))


@pytest.mark.parametrize("codes", [SIGNED, RELU], ids=str)
def test_a_sum_is_the_output(codes: Codes) -> None:
    build = GraphBuilder(3, 2, 2)
    a = build.conv("x", "a", np.eye(3, dtype=int).reshape(3, 3, 1, 1), weight_exponent=0)
    agree(build.build(build.add(a, "x", "y", shift=1, codes=codes)))


def test_two_inputs_are_not_handed_over() -> None:
    build = GraphBuilder()
    a, b = build.input("a", 5, exponent=-2), build.input("b", 5, exponent=-2)
    agree(build.build(build.add(a, b, "y", shift=1)), obstacle="the model has 2 inputs; HTVM takes one")
