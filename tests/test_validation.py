"""Comparing spellings: the first mismatch is found where it is, errors are what the formula says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from integer_graphs import RELU, Case, GraphBuilder, extremes
from onnx import numpy_helper

from onnxdiana import reference
from onnxdiana.runtime import few
from onnxdiana.validation import Mismatch, agree, first_mismatch, sqnr

# -- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("signal", "found", "expected"), [
    ([3.0, 4.0], [3.0, 4.0], math.inf),
    ([0.0, 0.0], [0.0, 0.0], math.inf),
    ([0.0, 0.0], [0.0, 0.1], -math.inf),
    ([], [], math.inf),
    ([3.0, 4.0], [0.0, 0.0], 0.0),
    ([3.0, 4.0], [3.0, 4.5], 20.0),
    ([3.0, 4.0], [-3.0, -4.0], 10 * math.log10(0.25)),
])
def test_sqnr(signal: list[float], found: list[float], expected: float) -> None:
    assert sqnr(np.array(signal), np.array(found)) == pytest.approx(expected, abs=1e-12)


def test_sqnr_is_computed_in_float64() -> None:
    """The error would vanish, and a sum of squares overflow, in float32."""
    y = np.full(10, 2.0**80, np.float32)
    assert sqnr(y, y.astype(np.float64) + 1.0) > 400
    assert sqnr(np.float32([2.0**24]), np.array([2**24 + 1])) == pytest.approx(20 * math.log10(2**24))


@pytest.mark.parametrize(("count", "limit", "expected"), [
    (1, 16, [0]), (16, 16, list(range(16))), (17, 16, list(range(0, 17, 2))), (40, 16, list(range(0, 40, 3))),
    (128, 16, list(range(0, 128, 8))), (5, 1, [0]), (7, 3, [0, 3, 6])])
def test_few_samples_are_spread_evenly(count: int, limit: int, expected: list[int]) -> None:
    found = few({"a": np.arange(count), "b": np.arange(count) * 2}, limit)
    assert found["a"].tolist() == expected
    assert found["b"].tolist() == [2 * i for i in expected]
    assert len(expected) <= limit


# -- first mismatch ---------------------------------------------------------------------------------------------------


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(-128, 127, shape, dtype=np.int8) for name, shape in
            (("a", (2, 3, 4, 4)), ("b", (2, 5)), ("c", (2, 6, 1, 1)))}


ORDER = ["a", "b", "c"]


def test_equal_codes_match_whatever_type_and_flattening_carry_them() -> None:
    expected = tensors()
    found = {name: values.astype(np.float32).reshape(len(values), -1) for name, values in expected.items()}
    assert first_mismatch("model", expected, found, ORDER) is None


@pytest.mark.parametrize("tensor", ORDER)
def test_any_element_that_differs_is_found(tensor: str) -> None:
    expected = tensors()
    for index in np.ndindex(expected[tensor].shape):
        found = tensors() | {tensor: expected[tensor].copy()}
        found[tensor][index] ^= 1
        mismatch = first_mismatch("model", expected, found, ORDER)
        assert mismatch == Mismatch("model", tensor, index, float(expected[tensor][index]), float(found[tensor][index]))


def test_the_first_in_order_of_execution_is_told() -> None:
    expected, found = tensors(), tensors()
    for name, index in (("b", (1, 1)), ("b", (1, 4)), ("c", (0, 0, 0, 0))):
        found[name][index] += np.int8(1)
    for order, place in ((ORDER, ("b", (1, 1))), (["c", "b", "a"], ("c", (0, 0, 0, 0)))):
        mismatch = first_mismatch("model", expected, found, order)
        assert mismatch is not None
        assert (mismatch.tensor, mismatch.index) == place
    assert first_mismatch("model", expected, found, ["a"]) is None


def test_another_number_of_elements_is_a_mismatch() -> None:
    expected = tensors()
    mismatch = first_mismatch("model", expected, {**expected, "b": expected["b"][:, :4]}, ORDER)
    assert mismatch == Mismatch("model", "b", (), 10, 8)


def test_nan_is_a_mismatch() -> None:
    expected = {"a": np.zeros(3, np.int8)}
    mismatch = first_mismatch("model", expected, {"a": np.array([0, np.nan, 0])}, ["a"])
    assert mismatch is not None
    assert mismatch.index == (1,)


def test_a_mismatch_reads_well() -> None:
    assert str(Mismatch("htvm/model.onnx", "relu", (0, 1, 2), -3.0, 4.0)) == (
        "htvm/model.onnx departs from the reference at tensor 'relu', index [0, 1, 2]: expected -3, found 4")


# -- all spellings ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case() -> Case:
    rng = np.random.default_rng(0)
    build = GraphBuilder(3, 4, 4)
    first = build.conv("x", "r", rng.integers(-128, 127, (4, 3, 3, 3), endpoint=True), 100, shift=9, codes=RELU,
                       pads=[1, 1, 1, 1], half=True)
    flat = build.move("Flatten", first, "f", axis=1)
    return build.build(build.gemm(flat, "y", rng.integers(-128, 127, (4, 64), endpoint=True), -7, shift=10, half=True))


def run(case: Case, judged: int = 64, **changed: Any) -> Any:
    spellings = case.spellings
    models = {"integer_model": spellings.integer, "fake": spellings.fake, "htvm": spellings.htvm} | changed
    return agree(case.view, case.table, case.integer, case.floats(extremes(case, random=11)), judged=judged,
                 handed=spellings.handed, **models)


def with_constant(proto: onnx.ModelProto, part: str, change: int) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    tensor = next(t for t in copy.graph.initializer if t.name == part)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.asarray(change).astype(
        numpy_helper.to_array(tensor).dtype), part))
    return copy


def test_all_spellings_agree(case: Case) -> None:
    found = run(case)
    assert (found.samples, found.mismatches, found.judge) == (16, (), "onnxruntime")
    assert set(found.sqnr) == {"x.quantized", "r", "y.quantized", "y"}
    assert set(found.sqnr_fake) == {"y"}


def test_errors_are_measured_on_all_samples_and_judged_on_some(case: Case) -> None:
    every, some = run(case), run(case, judged=4)
    assert (every.samples, some.samples) == (16, 4)
    assert some.sqnr == every.sqnr
    assert some.sqnr_fake == every.sqnr_fake


@pytest.mark.parametrize("spelling", ["integer_model", "htvm"])
@pytest.mark.parametrize(("constant", "tensor"), [("r.unclipped.bias", "r"), ("y.bias", "y.quantized")])
def test_a_spelling_that_departs_is_told_with_its_first_tensor(case: Case, spelling: str, constant: str,
                                                               tensor: str) -> None:
    proto = {"integer_model": case.spellings.integer, "htvm": case.spellings.htvm}[spelling]
    found = run(case, **{spelling: with_constant(proto, constant, 2**9)})
    mismatch, = found.mismatches
    name = "model.int.onnx" if spelling == "integer_model" else "htvm/model.onnx"
    assert (mismatch.spelling, mismatch.tensor) == (name, tensor)
    expected = reference.run(case.integer, case.floats(extremes(case, random=11)), [tensor])[tensor]
    assert mismatch.expected == expected[mismatch.index]


def test_without_a_hand_over_nothing_judges_it(case: Case) -> None:
    found = run(case, htvm=None)
    assert (found.judge, found.mismatches) == (None, ())


def test_beyond_float32_the_int32_interpreter_judges() -> None:
    build = GraphBuilder(4)
    case = build.build(build.gemm("x", "y", np.full((4, 4), 127), 2**24 + 2, shift=18))
    assert case.bound >= 2**24
    assert (run(case).judge, run(case).mismatches) == ("int32 interpreter", ())
    spoilt = with_constant(case.spellings.htvm, "y.bias", 2**19)
    mismatch, = run(case, htvm=spoilt).mismatches
    assert (mismatch.spelling, mismatch.tensor) == ("htvm/model.onnx", "y.quantized")
