"""The scale table: the same after a round trip, and every departure from its format refused with what and where."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from onnxdiana.errors import ScaleTableError
from onnxdiana.scales import LayerScale, ScaleTable, TensorScale

TABLE = ScaleTable(
    "diana",
    {
        "input": TensorScale(-6, (-128, 127), None, "input"),
        "relu": TensorScale(-4, (0, 96), None, "activation"),
        "net.0.weight": TensorScale((-7, -9, 3), (-127, 127), 0, "weight"),
        'with "quotes" and ü': TensorScale(0, (5, 5), None, "activation"),
    },
    {"conv2d": LayerScale("digital", 9, "half_up", 1183021), "add": LayerScale("cpu", 0, "floor", 256)},
    "ab" * 32,
)
"""One of everything, a per-axis scale included."""


def document() -> dict[str, Any]:
    """What :data:`TABLE` is written as."""
    loaded: dict[str, Any] = json.loads(TABLE.to_json())
    return loaded


def read(changed: dict[str, Any]) -> ScaleTable:
    return ScaleTable.from_json(json.dumps(changed), "dir/scales.json")


def test_round_trip() -> None:
    again = ScaleTable.from_json(TABLE.to_json())
    assert again == TABLE
    assert again.to_json() == TABLE.to_json()
    assert list(again.tensors) == list(TABLE.tensors)  # in the same order


def test_the_document_is_the_published_one() -> None:
    """The torch side reads exactly this (docs/numerics.md)."""
    assert document() == {
        "format": "onnxdiana.scales", "version": 1, "model": {"sha256": "ab" * 32}, "target": "diana",
        "tensors": {
            "input": {"exponent": -6, "codes": [-128, 127], "axis": None, "role": "input"},
            "relu": {"exponent": -4, "codes": [0, 96], "axis": None, "role": "activation"},
            "net.0.weight": {"exponent": [-7, -9, 3], "codes": [-127, 127], "axis": 0, "role": "weight"},
            'with "quotes" and ü': {"exponent": 0, "codes": [5, 5], "axis": None, "role": "activation"},
        },
        "layers": {
            "conv2d": {"core": "digital", "shift": 9, "rounding": "half_up", "accumulator_bound": 1183021},
            "add": {"core": "cpu", "shift": 0, "rounding": "floor", "accumulator_bound": 256},
        },
    }


def test_a_table_without_a_model_yet() -> None:
    table = TABLE.replace(model_sha256=None)
    assert ScaleTable.from_json(table.to_json()) == table != TABLE


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TABLE.target = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        TABLE.tensors["input"] = TABLE.tensors["relu"]  # type: ignore[index]
    tensors = dict(TABLE.tensors)
    table = TABLE.replace(tensors=tensors)
    tensors.clear()
    assert table == TABLE


def test_exponents() -> None:
    assert TABLE.exponent("relu") == TABLE.tensors["relu"].scalar == -4
    with pytest.raises(AssertionError):
        TABLE.exponent("net.0.weight")  # one exponent of several would be the wrong one


Change = Callable[[dict[str, Any]], object]


def put(*path: str, value: Any) -> Change:
    """Another value at a path of keys."""
    def change(entry: dict[str, Any]) -> None:
        for key in path[:-1]:
            entry = entry[key]
        entry[path[-1]] = value
    return change


def drop(*path: str) -> Change:
    """A key taken away."""
    def change(entry: dict[str, Any]) -> None:
        for key in path[:-1]:
            entry = entry[key]
        del entry[path[-1]]
    return change


TENSOR, LAYER = ("tensors", "relu"), ("layers", "conv2d")

REFUSED: dict[str, tuple[Change, str]] = {
    "another format": (put("format", value="onnx"), r"scales.json: format 'onnx' version 1; this program reads"),
    "a later version": (put("version", value=2), r"'onnxdiana.scales' version 2; this program reads .*version 1"),
    "no format": (drop("format"), "key 'format' is missing"),
    "unknown key": (put("tensor", value={}), "unknown key 'tensor'; did you mean 'tensors'?"),
    "unknown key, nothing near": (put("zzz", value={}), r"unknown key 'zzz'$"),
    "no target": (drop("target"), "key 'target' is missing"),
    "target of another type": (put("target", value=3), "target: expected a string, found 3"),
    "no model": (put("model", value=None), "model: expected an object, found None"),
    "unknown key of the model": (put("model", "sha265", value="x"), "model: unknown key 'sha265'; did you mean 'sha25"),
    "hash of another type": (put("model", "sha256", value=5), "model: sha256: expected a string, found 5"),
    "tensors are a list": (put("tensors", value=[]), r"tensors: expected an object, found \[\]"),
    "layers are a number": (put("layers", value=1), "layers: expected an object, found 1"),
    "tensor is a number": (put(*TENSOR, value=-4), "tensor 'relu': expected an object, found -4"),
    "tensor, unknown key": (put(*TENSOR, "exponents", value=1),
                            "tensor 'relu': unknown key 'exponents'; did you mean 'exponent'?"),
    "tensor, missing key": (drop(*TENSOR, "axis"), "tensor 'relu': key 'axis' is missing"),
    "exponent is a float": (put(*TENSOR, "exponent", value=-4.0),
                            "tensor 'relu': exponent: expected an integer, found -4.0"),
    "exponent is a bool": (put(*TENSOR, "exponent", value=True), "exponent: expected an integer, found True"),
    "exponent is a string": (put(*TENSOR, "exponent", value="-4"), "exponent: expected an integer, found '-4'"),
    "exponent is null": (put(*TENSOR, "exponent", value=None), "exponent: expected an integer, found None"),
    "exponents without an axis": (put(*TENSOR, "exponent", value=[-4, -5]), "exponent: expected an integer, found"),
    "axis without exponents": (put(*TENSOR, "axis", value=0), "a scale with an axis has a list of exponents"),
    "axis is a float": (put("tensors", "net.0.weight", "axis", value=0.5), "axis: expected an integer, found 0.5"),
    "one of the exponents is a float": (put("tensors", "net.0.weight", "exponent", value=[-7, -9.5, 3]),
                                        "tensor 'net.0.weight': exponent: expected an integer, found -9.5"),
    "three codes": (put(*TENSOR, "codes", value=[0, 1, 2]), r"tensor 'relu': codes must be \[lowest, highest\]"),
    "codes are an object": (put(*TENSOR, "codes", value={"lo": 0, "hi": 1}), r"codes must be \[lowest, highest\]"),
    "code is a float": (put(*TENSOR, "codes", value=[0, 96.0]), "codes: expected an integer, found 96.0"),
    "codes exchanged": (put(*TENSOR, "codes", value=[96, 0]), r"tensor 'relu': codes \[96, 0\] are no range"),
    "role": (put(*TENSOR, "role", value="relu"), "role 'relu' is none of input, activation, weight"),
    "role of another type": (put(*TENSOR, "role", value=["input"]), "role .* is none of input, activation, weight"),
    "layer, unknown key": (put(*LAYER, "shifts", value=1),
                           "layer 'conv2d': unknown key 'shifts'; did you mean 'shift'?"),
    "layer, missing key": (drop(*LAYER, "accumulator_bound"), "layer 'conv2d': key 'accumulator_bound' is missing"),
    "shift is a float": (put(*LAYER, "shift", value=9.0), "layer 'conv2d': shift: expected an integer, found 9.0"),
    "bound is a string": (put(*LAYER, "accumulator_bound", value="1"), "accumulator_bound: expected an integer"),
    "core is a number": (put(*LAYER, "core", value=1), "layer 'conv2d': core: expected a string, found 1"),
    "rounding": (put(*LAYER, "rounding", value="half_even"), "rounding 'half_even' is neither half_up nor floor"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(change: Change, message: str) -> None:
    changed = document()
    change(changed)
    with pytest.raises(ScaleTableError, match=message) as error:
        read(changed)
    assert str(error.value).startswith("dir/scales.json: ")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"x"', "NaN", "[" * 100_000],
                         ids=["nothing", "cut off", "list", "null", "number", "string", "NaN", "deep"])
def test_not_a_document(text: str) -> None:
    with pytest.raises(ScaleTableError, match=r"scales.json: (not JSON|expected an object)"):
        ScaleTable.from_json(text)


def test_the_unchanged_document_is_read() -> None:
    assert read(document()) == TABLE
