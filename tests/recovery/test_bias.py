"""Bias correction brings every channel's mean to where the float model has it, and stays inside int32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import small_networks
from integer_graphs import Case, GraphBuilder
from numpy.typing import NDArray

from onnxdiana import Config, fake_quantize, graph, integerize, map_to_hardware, numerics, prepare, quantize, reference
from onnxdiana.graph import name_of
from onnxdiana.integers import Parameters, accumulator_bounds, code_name, round_parameters
from onnxdiana.integers import integerize as build
from onnxdiana.pipeline import FakeQuantized
from onnxdiana.recovery import bias
from onnxdiana.rules.ops import operator

Array = NDArray[Any]
NETWORKS = list(small_networks.NETWORKS)


@pytest.fixture(scope="module", params=NETWORKS)
def quantized(request: pytest.FixtureRequest) -> FakeQuantized:
    return fake_quantize(prepare(small_networks.model(request.param)), small_networks.samples(request.param))


def uncorrected(quantized: FakeQuantized) -> ir.Model:
    parameters = round_parameters(quantized.view, quantized.table, halves=True)
    return build(quantized.view, quantized.table, parameters)


def mean_errors(quantized: FakeQuantized, integer: ir.Model) -> dict[str, Array]:
    """Per channel, mean of the codes minus the mean that is wanted, by layer name."""
    kept, view = quantized.calibration.kept, quantized.view
    wanted = bias.target_means(view, quantized.table, kept)
    codes = reference.run(integer, kept, list(wanted))
    layers = {code_name(layer.output): layer.name for layer in view.layers}
    return {layers[name]: codes[name].mean(axis=(0, *range(2, codes[name].ndim))) - wanted[name] for name in wanted}


def test_every_channel_is_nearer_to_the_float_model(quantized: FakeQuantized) -> None:
    before = mean_errors(quantized, uncorrected(quantized))
    after = mean_errors(quantized, integerize(map_to_hardware(quantized)).integer)
    assert len(before) >= 3
    for layer, error in after.items():
        assert np.abs(error).max() <= np.abs(before[layer]).max(), layer
        assert np.abs(error).mean() < 0.05, layer  # of a code
    sizes = [np.mean([np.abs(error).mean() for error in errors.values()]) for errors in (before, after)]
    assert sizes[1] < 0.1 * sizes[0]


def test_target_means_are_of_the_clipped_float_tensor(quantized: FakeQuantized) -> None:
    from onnxdiana.runtime import Runner

    wanted = bias.target_means(quantized.view, quantized.table, quantized.calibration.kept)
    linear = [layer for layer in quantized.view.layers if layer.operator.weight(layer.node) is not None]
    assert list(wanted) == [code_name(layer.output) for layer in linear]
    for layer in linear:
        name = name_of(layer.output)
        scale = quantized.table.tensors[name]
        real = Runner(quantized.view.model, [name]).run(quantized.calibration.kept)[name] / 2.0**scale.scalar
        mean = np.clip(real, *scale.codes).astype(np.float64).mean(axis=(0, *range(2, real.ndim)))
        np.testing.assert_allclose(wanted[code_name(layer.output)], mean, rtol=0, atol=1e-5)


def biases(integer: ir.Model) -> dict[str, Array]:
    return {name_of(node.outputs[0]).removesuffix(".accumulator"): graph.required_constant(node.inputs[2])
            for node in integer.graph if operator(node).weight(node) is not None}


def channel_means(integer: ir.Model, inputs: dict[str, Array]) -> dict[str, Array]:
    """Of every linear layer's codes, as a target that leaves nothing to correct."""
    names = [name_of(node.outputs[0]) for node in integer.graph if node.op_type == "Requantize"]
    return {name: codes.mean(axis=(0, *range(2, codes.ndim)))
            for name, codes in reference.run(integer, inputs, names).items()}


def test_where_nothing_is_missing_nothing_is_changed(quantized: FakeQuantized) -> None:
    """What stays is the rounded bias with the half of its shift."""
    integer, kept = uncorrected(quantized), dict(quantized.calibration.kept)
    progress = bias.start(integer, kept, "floor")
    bias.correct(integer, channel_means(integer, kept), progress)
    plain = round_parameters(quantized.view, quantized.table, halves=False)
    assert set(progress.biases) == set(plain)
    for layer, found in progress.biases.items():
        half = numerics.half(quantized.table.layers[layer].shift)
        np.testing.assert_array_equal(found, plain[layer].bias + half)
        np.testing.assert_array_equal(found, biases(integer)[layer])


def test_a_shifted_target_shifts_the_bias_by_as_much(quantized: FakeQuantized) -> None:
    """The last layer, which clips nearly nothing: one code more is ``2**shift`` more in the bias."""
    integer, kept = uncorrected(quantized), dict(quantized.calibration.kept)
    targets, last = channel_means(integer, kept), quantized.view.layers[-1]
    targets[code_name(last.output)] = targets[code_name(last.output)] + 1
    progress = bias.start(integer, kept, "floor")
    bias.correct(integer, targets, progress)
    step = 2 ** quantized.table.layers[last.name].shift
    np.testing.assert_allclose(progress.biases[last.name] - biases(integer)[last.name], step, rtol=0.1)


def test_a_run_without_measuring_is_the_reference(quantized: FakeQuantized) -> None:
    integer, kept = uncorrected(quantized), dict(quantized.calibration.kept)
    progress = bias.start(integer, kept, "floor", measure=False)
    bias.correct(integer, {}, progress)
    assert progress.biases == {}
    output = name_of(integer.graph.outputs[0])
    np.testing.assert_array_equal(progress.walk.codes[output], reference.run(integer, kept)[output])


@pytest.mark.parametrize("rounding", ["floor", "half_even"])
def test_a_run_that_is_split_and_forked_finds_the_same(quantized: FakeQuantized, rounding: numerics.Rounding) -> None:
    integer, again = uncorrected(quantized), uncorrected(quantized)
    kept = dict(quantized.calibration.kept)
    targets = bias.target_means(quantized.view, quantized.table, kept)
    fresh = bias.start(integer, kept, rounding)
    bias.correct(integer, targets, fresh)
    for layer in quantized.view.layers[1:]:
        beginning = bias.start(integer, kept, rounding)
        bias.correct(integer, targets, beginning, {f"{layer.name}.accumulator"})
        assert layer.name not in beginning.biases
        names = set(beginning.names)
        forks = [beginning.fork(integer), beginning.fork(again)]
        for model, fork in zip((integer, again), forks, strict=True):
            bias.correct(model, targets, fork)
            assert set(fork.biases) == set(fresh.biases)
            for name, found in fork.biases.items():
                np.testing.assert_array_equal(found, fresh.biases[name], err_msg=name)
            for name, values in fork.walk.codes.items():
                np.testing.assert_array_equal(values, fresh.walk.codes[name], err_msg=name)
        assert beginning.names == names  # a fork leaves what it came from as it was


def test_the_batch_in_which_accumulators_are_held_changes_nothing(quantized: FakeQuantized,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    integer, kept = uncorrected(quantized), dict(quantized.calibration.kept)
    targets = bias.target_means(quantized.view, quantized.table, kept)
    found = []
    for chunk in (16, 1, 7):
        monkeypatch.setattr(bias, "CHUNK", chunk)
        progress = bias.start(integer, kept, "floor")
        bias.correct(integer, targets, progress)
        found.append({name: value.tolist() for name, value in progress.biases.items()})
    assert found[0] == found[1] == found[2]


# -- extremes ---------------------------------------------------------------------------------------------------------


def one_layer(weight: Array, offset: Array | int, shift: int) -> tuple[Case, dict[str, Array]]:
    build = GraphBuilder(4, 3, 3)
    case = build.build(build.conv("x", "y", weight, offset, shift=shift))
    codes = np.random.default_rng(0).integers(-128, 127, (20, 4, 3, 3), endpoint=True)
    return case, case.floats([codes])


def corrected(case: Case, inputs: dict[str, Array], wanted: Array) -> Array:
    progress = bias.start(case.integer, inputs, "floor")
    bias.correct(case.integer, {"y.quantized": wanted}, progress)
    return progress.biases["y"]


def with_another_bias(case: Case, offset: Array) -> Case:
    parameters = {"y": Parameters(case.parameters["y"].weight, offset.astype(np.int32))}
    return Case(case.view, case.table, parameters, case.fake, build(case.view, case.table, parameters))


def with_bias(case: Case, found: Array) -> ir.Model:
    return build(case.view, case.table, {"y": Parameters(case.parameters["y"].weight, found)})


@pytest.mark.parametrize("start", [-(2**31) + 2**20, 0, 2**31 - 2**20], ids=["least", "zero", "largest"])
@pytest.mark.parametrize("wanted", [-1e6, 1e6])
def test_a_correction_leaves_room_in_int32(start: int, wanted: float) -> None:
    """Shift 24, and targets that no code reaches: the change asked for is far beyond 32 bits."""
    weight = np.random.default_rng(1).integers(-128, 127, (3, 4, 1, 1), endpoint=True)
    case, inputs = one_layer(weight, 0, 24)
    case = with_another_bias(case, np.full(3, start))
    found = corrected(case, inputs, np.full(3, wanted))
    assert found.dtype == np.int32
    assert (np.abs(found.astype(np.int64)) <= 2**31 - 2**20).all()
    assert max(accumulator_bounds(with_bias(case, found)).values()) < 2**31
    np.testing.assert_array_equal(found, found.astype(np.float32))  # HTVM carries biases in float32
    reached = reference.run(with_bias(case, found), inputs, ["y.quantized"])["y.quantized"]
    if start == 0:
        assert (reached > 0).all() if wanted > 0 else (reached < 0).all()


def test_saturated_channels() -> None:
    """Where all codes stand at one end: what is wanted stays, what is not comes back inside."""
    weight = np.ones((4, 4, 1, 1), int)
    case, inputs = one_layer(weight, np.array([2**20, 2**20, -(2**20), 0]), 6)
    wanted = channel_means(case.integer, inputs)["y.quantized"]
    assert wanted[:3].tolist() == [127, 127, -128]
    wanted[1], wanted[2] = 100, -100
    found = corrected(case, inputs, wanted)
    start = case.parameters["y"].bias
    assert (found[0], found[3]) == (start[0], start[3])
    assert found[1] < start[1]
    assert found[2] > start[2]
    codes = reference.run(with_bias(case, found), inputs, ["y.quantized"])["y.quantized"]
    assert codes[:, 0].min() == 127


def test_corrections_use_at_most_256_samples_evenly() -> None:
    data = small_networks.samples("chain", 700)
    quantized = fake_quantize(prepare(small_networks.model("chain")), data, Config(recover="fast"))
    assert quantized.calibration.kept_indices == tuple(range(0, 700, 4))
    np.testing.assert_array_equal(quantized.calibration.kept["x"], data[::4])


@pytest.mark.parametrize("count", [40, 80, 256])
@pytest.mark.parametrize("name", NETWORKS)
def test_both_quantized_models_are_corrected_alike(name: str, count: int) -> None:
    """However many samples each is measured on, the means wanted are of the same ones."""
    summary = quantize(small_networks.model(name), small_networks.samples(name, count)).summary["agreement"]
    exact, fake = summary["sqnr_db"]["y"], summary["sqnr_fake_quantized_db"]["y"]
    assert fake > exact - 1.5
