"""onnxdiana: a float ONNX model in, an exact integer-only one with power-of-two scales out.

The five steps, and one call that does them all::

    prepared = onnxdiana.prepare("model.onnx")
    fake = onnxdiana.fake_quantize(prepared, "calibration.npz")
    mapped = onnxdiana.map_to_hardware(fake)
    quantized = onnxdiana.integerize(mapped)
    onnxdiana.export(quantized, "out")

    onnxdiana.quantize("model.onnx", "calibration.npz", "out")

and what would become of a model, without data: ``onnxdiana.inspect("model.onnx")``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from onnxdiana.check import validate as validate
    from onnxdiana.config import Config as Config
    from onnxdiana.errors import CalibrationError as CalibrationError
    from onnxdiana.errors import ConfigError as ConfigError
    from onnxdiana.errors import HandoffError as HandoffError
    from onnxdiana.errors import ModelError as ModelError
    from onnxdiana.errors import OnnxDianaError as OnnxDianaError
    from onnxdiana.errors import OutputError as OutputError
    from onnxdiana.errors import RulesError as RulesError
    from onnxdiana.errors import ScaleTableError as ScaleTableError
    from onnxdiana.errors import SpecViolation as SpecViolation
    from onnxdiana.errors import SyntheticDataWarning as SyntheticDataWarning
    from onnxdiana.errors import TargetError as TargetError
    from onnxdiana.errors import UnsupportedOpError as UnsupportedOpError
    from onnxdiana.exporting.artifacts import Artifacts as Artifacts
    from onnxdiana.inspection import Inspection as Inspection
    from onnxdiana.inspection import inspect as inspect
    from onnxdiana.interop import from_graphsurgeon as from_graphsurgeon
    from onnxdiana.interop import to_graphsurgeon as to_graphsurgeon
    from onnxdiana.pipeline import FakeQuantized as FakeQuantized
    from onnxdiana.pipeline import Mapped as Mapped
    from onnxdiana.pipeline import Prepared as Prepared
    from onnxdiana.pipeline import Quantized as Quantized
    from onnxdiana.pipeline import export as export
    from onnxdiana.pipeline import fake_quantize as fake_quantize
    from onnxdiana.pipeline import integerize as integerize
    from onnxdiana.pipeline import map_to_hardware as map_to_hardware
    from onnxdiana.pipeline import prepare as prepare
    from onnxdiana.pipeline import quantize as quantize
    from onnxdiana.pipeline import with_evaluation as with_evaluation
    from onnxdiana.scales import LayerScale as LayerScale
    from onnxdiana.scales import ScaleTable as ScaleTable
    from onnxdiana.scales import TensorScale as TensorScale
    from onnxdiana.targets import Obstacle as Obstacle
    from onnxdiana.targets import Target as Target

_HOMES = {
    "check": ["validate"],
    "config": ["Config"],
    "errors": ["CalibrationError", "ConfigError", "HandoffError", "ModelError", "OnnxDianaError", "OutputError",
               "RulesError", "ScaleTableError", "SpecViolation", "SyntheticDataWarning", "TargetError",
               "UnsupportedOpError"],
    "exporting.artifacts": ["Artifacts"],
    "inspection": ["Inspection", "inspect"],
    "interop": ["from_graphsurgeon", "to_graphsurgeon"],
    "pipeline": ["FakeQuantized", "Mapped", "Prepared", "Quantized", "export", "fake_quantize", "integerize",
                 "map_to_hardware", "prepare", "quantize", "with_evaluation"],
    "scales": ["LayerScale", "ScaleTable", "TensorScale"],
    "targets": ["Obstacle", "Target"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: importing the package loads neither onnxruntime nor onnx_ir."""
    if name not in _HOME:
        raise AttributeError(f"module 'onnxdiana' has no attribute {name!r}")
    return getattr(importlib.import_module(f"onnxdiana.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """Public names."""
    return __all__
