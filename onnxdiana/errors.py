"""Every exception that onnxdiana raises on purpose, and what each one means.

A message says what is wrong, where (operator type and output tensor name, or file) and what to do about it.
The command line turns :class:`OnnxDianaError` into exit status 2 and :class:`SpecViolation` into 70.
"""

from __future__ import annotations

from collections.abc import Sequence


class OnnxDianaError(Exception):
    """The user's input is at fault; the message says what, where and what to do."""


class ModelError(OnnxDianaError):
    """The model file cannot be read, is not valid ONNX, or has an interface that cannot be quantized."""


class UnsupportedOpError(ModelError):
    """The model holds operators that have no quantized form; all of them are reported at once."""

    def __init__(self, findings: Sequence[str]) -> None:
        """Args: findings: one line an operator, with its output tensor and the nearest supported spelling."""
        self.findings = tuple(findings)
        lines = "\n".join(f"  - {finding}" for finding in self.findings)
        super().__init__(f"{len(self.findings)} operator(s) have no quantized form:\n{lines}")


class CalibrationError(OnnxDianaError):
    """Calibration or evaluation data are missing, empty, of the wrong shape, or not finite."""


class ConfigError(OnnxDianaError):
    """An option or a key of the configuration file is unknown or has an impossible value."""


class OutputError(OnnxDianaError):
    """The output folder cannot be written, or holds something that we did not write."""


class RulesError(OnnxDianaError):
    """A user's file of rules is missing or defines none, or one of its rules fails or leaves no usable graph."""


class TargetError(OnnxDianaError):
    """The target description is unknown or contradicts itself, or a layer cannot run where it was told to."""


class ScaleTableError(OnnxDianaError):
    """A scale table is malformed, or belongs to another model."""


class HandoffError(OnnxDianaError):
    """The hand-over graph is outside the dialect that the HTVM compiler takes."""


class DumpError(OnnxDianaError):
    """A dump cannot be read, holds no numbers, or fits no tensor of the network."""


class SpecViolation(Exception):
    """A stage broke the contract of the next one: a bug of ours, not of the user's model."""


class SyntheticDataWarning(UserWarning):
    """No calibration data were given: inputs are drawn at random, so scales and figures mean little."""
