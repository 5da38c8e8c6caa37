"""Calibration: data as a stream, ranges as histograms, and the samples that corrections are measured on."""

from onnxdiana.calibration.batches import EvenSamples, InputSpec
from onnxdiana.calibration.data import open_data, synthetic_data
from onnxdiana.calibration.histogram import Histogram
from onnxdiana.calibration.observe import MAX_KEPT, Calibration, calibrate, further_samples
from onnxdiana.calibration.sources import DataSource

__all__ = [
    "MAX_KEPT",
    "Calibration",
    "DataSource",
    "EvenSamples",
    "Histogram",
    "InputSpec",
    "calibrate",
    "further_samples",
    "open_data",
    "synthetic_data",
]
