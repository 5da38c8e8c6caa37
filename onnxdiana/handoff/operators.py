"""The dialect: versions and domains that a file may name, its operators, and what to write instead of others."""

from __future__ import annotations

OPSETS = range(10, 14)
IR_VERSION = 8
"""At most."""
DOMAINS = ("", "ai.onnx")
"""Both mean ONNX's own."""

ARITY = {
    "Conv": (2, 3), "Gemm": (2, 3), "MatMul": (2, 2), "Add": (2, 2), "Mul": (2, 2), "Div": (2, 2), "Floor": (1, 1),
    "Max": (2, 2), "Min": (2, 2), "GlobalAveragePool": (1, 1), "Flatten": (1, 1), "Reshape": (2, 2),
    "Transpose": (1, 1), "Pad": (2, 3), "Slice": (3, 5), "Resize": (4, 4), "MaxPool": (1, 1), "Relu": (1, 1),
    "Identity": (1, 1),
}
"""Least and most inputs by operator type."""
ARITY_10 = {"Pad": (1, 1), "Resize": (2, 2)}
"""Those that were others at opset 10."""
MOVES = ("Flatten", "Identity", "MaxPool", "Pad", "Relu", "Reshape", "Resize", "Slice", "Transpose")
"""Operators that hand codes on: on the CPU, without a change of scale."""

_FOLD = "fold it into the weights and the bias of the layer in front"
_TAIL = "end the model before it and let the host compute it: floats cannot be compared exactly"
_QUANTIZED = "write integer values typed float32: weights, Div, Floor, Max, Min"
_POOL = "write it as a depthwise Conv with weights 1, or GlobalAveragePool where it covers the map: HTVM sums in int8"
_PARTITION = "HTVM's partitioning for DIANA ends with an exception"

FOREIGN = {
    "AveragePool": _POOL, "ReduceMean": _POOL, "BatchNormalization": _FOLD, "Sub": _FOLD,
    "Concat": f"write it as the Add of two convolutions with zero rows: {_PARTITION}",
    "Split": f"use Slice for every part: {_PARTITION}",
    "Dropout": f"leave it out: {_PARTITION}",
    "Softmax": _TAIL, "LogSoftmax": _TAIL, "Sigmoid": _TAIL, "Tanh": _TAIL, "ArgMax": _TAIL,
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
                     "MatMulInteger", "Cast"), _QUANTIZED),
    **dict.fromkeys(("Round", "Ceil"), "use Floor; a bias of half a step rounds half up"),
    "Constant": "write its value as an initializer: HTVM's importer knows no other form of it",
    **dict.fromkeys(("Squeeze", "Unsqueeze"), "write it as a Reshape, or behind a mean as Flatten"),
}
"""What to do about operators that are often met, by operator type."""
