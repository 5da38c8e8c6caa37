"""Every network, layer and spelling that torch exports becomes exact integers, from both exporters."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from features import CONVOLUTIONS, FEATURES, IMAGE, Convolution, allowed_pairs
from networks import NETWORKS, Shape, export, network, samples
from numpy.typing import NDArray
from torch import nn

from onnxdiana import quantize
from onnxdiana.exporting.artifacts import Artifacts
from onnxdiana.runtime import Runner
from onnxdiana.validation import sqnr

Arrays = Mapping[str, NDArray[Any]]

EXPORTERS = pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
EXPECTED: dict[str, tuple[float, set[str]]] = {
    "digits": (19.0, {"Gemm"}),
    "dae": (18.0, set()),
    "resnet8": (25.0, set()),
    "resnet20": (20.0, set()),
    "mobilenetv1": (16.0, {"Gemm"}),
    "mobilenetv2": (16.0, {"Gemm"}),
    "dscnn": (23.0, {"Conv"}),
}
"""Least SQNR in dB on the calibration samples, and the layers that stay on the CPU, the average pool aside.

A classifier of 10 or 2 outputs does not fill the accelerator's words of 4, and a 10x4 kernel is none of its sizes.
"""
FORMS = [
    *((False, opset, batch) for opset in (9, 11, 13, 17, 20) for batch in (1, None, 4)),
    *((True, opset, batch) for opset in (18, 20, onnx.defs.onnx_opset_version()) for batch in (1, None, 4)),
]
"""Exporter, opset, and batch (None: open)."""


def parsed(artifacts: Artifacts, name: str) -> onnx.ModelProto:
    """A model of the output folder."""
    return onnx.load_from_string(artifacts.files[name])


def answers(artifacts: Artifacts, inputs: Arrays, name: str = "model.int.onnx") -> list[NDArray[Any]]:
    """Every output of a model of the output folder."""
    return list(Runner(parsed(artifacts, name)).run(inputs).values())


def torch_answers(module: nn.Module, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
    """What torch says."""
    with torch.no_grad():
        result = module(*map(torch.from_numpy, inputs))
    return [y.numpy() for y in (result if isinstance(result, tuple) else (result,))]


def checked(module: nn.Module, model: onnx.ModelProto, inputs: Arrays) -> Artifacts:
    """Quantize; the spellings must agree bit for bit, and the canonical float graph with torch."""
    artifacts = quantize(model, inputs)
    assert artifacts.summary["agreement"]["exact"]
    assert artifacts.agreement.samples == min(16, len(next(iter(inputs.values()))))
    for expected, found in zip(torch_answers(module, *inputs.values()), answers(artifacts, inputs, "model.float.onnx"),
                               strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    written = {name for name in artifacts.files if name.startswith("htvm/")}
    assert ("htvm/model.onnx" in written) == artifacts.summary["handoff"]["written"] == bool(written)
    return artifacts


def least_sqnr(artifacts: Artifacts) -> float:
    """Of all outputs, in dB."""
    return min(artifacts.summary["agreement"]["sqnr_db"].values())


@functools.cache
def quantized(name: str, dynamo: bool, opset: int | None = None, batch: int | None = None,
              keep_batch_norm: bool = False) -> Artifacts:
    """A network, exported in one form, and quantized on its calibration samples."""
    module, shape, inputs = network(name)
    model = export(module, (batch or 1, *shape), dynamo=dynamo, opset=opset, dynamic_batch=batch is None,
                   keep_batch_norm=keep_batch_norm)
    return checked(module, model, {"input": inputs})


# ---------------------------------------------------------------- networks


@EXPORTERS
@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str, dynamo: bool) -> None:
    artifacts = quantized(name, dynamo)
    summary = artifacts.summary
    floor, on_cpu = EXPECTED[name]
    assert summary["handoff"] == {"written": True, "obstacles": []}
    assert artifacts.agreement.judge is not None
    assert least_sqnr(artifacts) > floor
    assert min(summary["agreement"]["sqnr_fake_quantized_db"].values()) > floor - 3
    layers = [layer for layer in summary["layers"] if layer["name"] not in summary["pooling"]]
    assert {layer["operator"] for layer in layers if layer["core"] != "digital"} == on_cpu


@pytest.mark.parametrize("name", NETWORKS)
def test_exporters_give_the_same_integers(name: str) -> None:
    both = [quantized(name, dynamo) for dynamo in (False, True)]
    first, second = ([(layer["shift"], layer["exponent"], layer["codes"]) for layer in artifacts.summary["layers"]]
                     for artifacts in both)
    assert first == second
    inputs = {"input": network(name)[2]}
    (a,), (b,) = (answers(artifacts, inputs) for artifacts in both)
    assert sqnr(a, b) > EXPECTED[name][0]  # folded weights may differ in the last place, and with them a few codes
    assert abs(least_sqnr(both[0]) - least_sqnr(both[1])) < 0.5


@pytest.mark.parametrize(("dynamo", "opset", "batch"), FORMS)
@pytest.mark.parametrize("name", ["digits", "dae"])
def test_opset_and_batch_change_nothing(name: str, dynamo: bool, opset: int, batch: int | None) -> None:
    artifacts = quantized(name, dynamo, opset, batch)
    assert artifacts.summary["model"]["opset"] == opset
    assert artifacts.summary["handoff"]["obstacles"] == []
    inputs = {"input": network(name)[2]}
    (expected,), (found,) = answers(quantized(name, dynamo), inputs), answers(artifacts, inputs)
    np.testing.assert_array_equal(found, expected)


@EXPORTERS
@pytest.mark.parametrize("name", NETWORKS)
def test_batch_norm_that_the_exporter_has_kept(name: str, dynamo: bool) -> None:
    if dynamo and name not in ("digits", "dae"):
        pytest.skip("one exporter is enough for the larger networks")
    artifacts = quantized(name, dynamo, keep_batch_norm=True)
    assert any(entry["rule"] == "batch_norm" for entry in artifacts.summary["canonicalization"]["rules"])
    assert "BatchNormalization" not in {node.op_type for node in parsed(artifacts, "model.float.onnx").graph.node}
    assert artifacts.summary["handoff"]["obstacles"] == []
    assert least_sqnr(artifacts) > EXPECTED[name][0]


def test_relu6_bounds_the_codes() -> None:
    layers = quantized("mobilenetv2", False).summary["layers"]
    bounded = [layer for layer in layers if layer["codes"][0] == 0 and layer["codes"][1] < 127]
    assert bounded
    assert {layer["codes"][1] for layer in bounded} <= {math.floor(6 / 2.0**e) for e in range(-8, 3)}


# ---------------------------------------------------------------- layers


def exported(module: nn.Module, shapes: tuple[Shape, ...], dynamo: bool) -> tuple[onnx.ModelProto, Arrays]:
    """An open batch, and eight samples for every input."""
    model = export(module, *((1, *shape) for shape in shapes), dynamo=dynamo, dynamic_batch=True)
    pairs = zip(model.graph.input, shapes, strict=True)
    return model, {value.name: samples(shape, 8, seed=i) for i, (value, shape) in enumerate(pairs)}


@EXPORTERS
@pytest.mark.parametrize("name", FEATURES)
def test_feature(name: str, dynamo: bool) -> None:
    feature = FEATURES[name]
    module = feature.module()
    artifacts = checked(module, *exported(module, feature.shapes, dynamo))
    obstacles = artifacts.summary["handoff"]["obstacles"]
    if feature.obstacle is None:
        assert obstacles == []
    else:
        assert obstacles
        assert all(feature.obstacle in obstacle for obstacle in obstacles)
    assert least_sqnr(artifacts) > feature.floor_db


@EXPORTERS
@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)
def test_convolution(convolution: Convolution, dynamo: bool) -> None:
    module = convolution.build()
    artifacts = checked(module, *exported(module, (IMAGE,), dynamo))
    (layer,) = artifacts.summary["layers"]
    assert layer["core"] == ("digital" if convolution.accelerated else "cpu")
    assert least_sqnr(artifacts) > 20.0
    pads = [node for node in parsed(artifacts, "model.float.onnx").graph.node if node.op_type == "Pad"]
    modes = {attribute.s.decode() for node in pads for attribute in node.attribute if attribute.name == "mode"}
    assert modes == ({convolution.pad_mode} if convolution.pad_mode else set())
    obstacles = artifacts.summary["handoff"]["obstacles"]
    if convolution.pad_mode == "wrap":
        assert obstacles
        assert all("circular padding" in obstacle for obstacle in obstacles)
    else:
        assert obstacles == []
    if convolution.pad_mode:
        assert "an explicit Pad in front of it" in layer["not_accelerated_because"]


def test_convolutions_cover_every_pair_of_arguments() -> None:
    covered = {pair for pair in allowed_pairs() for c in CONVOLUTIONS
               if getattr(c, pair[0]) == pair[1] and getattr(c, pair[2]) == pair[3]}
    assert allowed_pairs() - covered == set()
