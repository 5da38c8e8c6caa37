"""The scale table (``scales.json``): the one truth about exponents that the ONNX side and the torch side share.

Exponents are integers, never floats, so that two tables can be compared for equality (docs/numerics.md).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from onnxdiana.errors import ScaleTableError

FORMAT = "onnxdiana.scales"
VERSION = 1
ROLES = ("input", "activation", "weight")


@dataclass(frozen=True)
class TensorScale:
    """A quantized tensor stands for ``q * 2**exponent`` with codes in the inclusive range ``codes``."""

    exponent: int | tuple[int, ...]
    codes: tuple[int, int]
    axis: int | None
    """Channel axis of a per-axis exponent, None for one exponent a tensor."""
    role: str

    @property
    def scalar(self) -> int:
        """The exponent of a per-tensor scale."""
        assert isinstance(self.exponent, int)
        return self.exponent


@dataclass(frozen=True)
class LayerScale:
    """How a layer's accumulator becomes codes: arithmetic right shift by ``shift``, on ``core``."""

    core: str
    shift: int
    rounding: str
    """``half_up`` where a bias carries the half, ``floor`` where the operator has none."""
    accumulator_bound: int
    """Proven largest magnitude of the accumulator, from the actual weights, biases and code ranges."""


@dataclass(frozen=True)
class ScaleTable:
    """Exponents of every requantized tensor and weight, and the shift of every layer."""

    target: str
    tensors: Mapping[str, TensorScale]
    layers: Mapping[str, LayerScale]
    model_sha256: str | None = None
    """Hash of ``model.float.onnx``; None until it is written."""

    def __post_init__(self) -> None:
        """Freeze the mappings."""
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))

    def replace(self, **changes: Any) -> ScaleTable:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def exponent(self, tensor: str) -> int:
        """Exponent of a per-tensor scale."""
        return self.tensors[tensor].scalar

    def to_json(self) -> str:
        """The document, the same bytes for equal tables."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "model": {"sha256": self.model_sha256},
            "target": self.target,
            "tensors": {name: _plain(t) for name, t in self.tensors.items()},
            "layers": {name: _plain(entry) for name, entry in self.layers.items()},
        }
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "scales.json") -> ScaleTable:
        """Read a document.

        Raises:
            ScaleTableError: not this format, an unknown or missing key, a value of the wrong type.
        """
        try:
            document = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ScaleTableError(f"{where}: not JSON ({error})") from error
        _keys(document, ("format", "version", "model", "target", "tensors", "layers"), where)
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ScaleTableError(f"{where}: format {document['format']!r} version {document['version']!r}; "
                                  f"this program reads {FORMAT!r} version {VERSION}")
        _keys(document["model"], ("sha256",), f"{where}: model")
        digest = document["model"]["sha256"]
        if digest is not None:
            _string(digest, f"{where}: model: sha256")
        for key in ("tensors", "layers"):
            _object(document[key], f"{where}: {key}")
        tensors = {name: _tensor(entry, f"{where}: tensor '{name}'") for name, entry in document["tensors"].items()}
        layers = {name: _layer(entry, f"{where}: layer '{name}'") for name, entry in document["layers"].items()}
        return cls(_string(document["target"], f"{where}: target"), tensors, layers, digest)


def _plain(entry: TensorScale | LayerScale) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(entry).items()}


def _object(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise ScaleTableError(f"{where}: expected an object, found {entry!r}")


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ScaleTableError(f"{where}: expected a string, found {value!r}")
    return value


def _keys(entry: Any, wanted: tuple[str, ...], where: str) -> None:
    _object(entry, where)
    for key in entry:
        if key not in wanted:
            near = difflib.get_close_matches(key, wanted, n=1)
            raise ScaleTableError(f"{where}: unknown key '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""))
    for key in wanted:
        if key not in entry:
            raise ScaleTableError(f"{where}: key '{key}' is missing")


def _integer(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ScaleTableError(f"{where}: expected an integer, found {value!r}")
    return value


def _tensor(entry: Any, where: str) -> TensorScale:
    _keys(entry, ("exponent", "codes", "axis", "role"), where)
    axis, raw = entry["axis"], entry["exponent"]
    if axis is None:
        exponent: int | tuple[int, ...] = _integer(raw, f"{where}: exponent")
    else:
        axis = _integer(axis, f"{where}: axis")
        if not isinstance(raw, list):
            raise ScaleTableError(f"{where}: a scale with an axis has a list of exponents")
        exponent = tuple(_integer(v, f"{where}: exponent") for v in raw)
    codes = entry["codes"]
    if not isinstance(codes, list) or len(codes) != 2:
        raise ScaleTableError(f"{where}: codes must be [lowest, highest]")
    if entry["role"] not in ROLES:
        raise ScaleTableError(f"{where}: role {entry['role']!r} is none of {', '.join(ROLES)}")
    lo, hi = (_integer(v, f"{where}: codes") for v in codes)
    if lo > hi:
        raise ScaleTableError(f"{where}: codes [{lo}, {hi}] are no range; the lowest comes first")
    return TensorScale(exponent, (lo, hi), axis, entry["role"])


def _layer(entry: Any, where: str) -> LayerScale:
    _keys(entry, ("core", "shift", "rounding", "accumulator_bound"), where)
    if entry["rounding"] not in ("half_up", "floor"):
        raise ScaleTableError(f"{where}: rounding {entry['rounding']!r} is neither half_up nor floor")
    return LayerScale(
        _string(entry["core"], f"{where}: core"), _integer(entry["shift"], f"{where}: shift"), entry["rounding"],
        _integer(entry["accumulator_bound"], f"{where}: accumulator_bound"))
