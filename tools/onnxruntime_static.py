"""What ``whole_process.py`` compares with: MODEL DATA.npz:KEY OUTPUT through onnxruntime's static quantization."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Samples(CalibrationDataReader):
    """One sample a call: the models have a batch of 1."""

    def __init__(self, name: str, samples: np.ndarray) -> None:
        self._feeds = iter([{name: samples[i:i + 1]} for i in range(len(samples))])

    def get_next(self) -> dict[str, Any] | None:
        """The next feed, None behind the last."""
        return next(self._feeds, None)


def main(model: str, data: str, output: str) -> None:
    path, key = data.rsplit(":", 1)
    with np.load(path, allow_pickle=False) as arrays:
        samples = arrays[key]
    prepared = Path(output).with_suffix(".prepared.onnx")
    quant_pre_process(model, prepared)
    name = onnx.load(prepared).graph.input[0].name
    quantize_static(prepared, output, Samples(name, samples), calibrate_method=CalibrationMethod.MinMax)


if __name__ == "__main__":
    main(*sys.argv[1:])
