"""Hand-over graphs written node by node with onnx's helper API, apart from what the exporter writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIGNED, RELU, ADC = (-128, 127), (0, 127), (-32, 31)


class Graph:
    """Writes one; every method gives the name of the tensor that leaves it."""

    def __init__(self, *shape: int, bounds: tuple[int, ...] = ()) -> None:
        """Args: shape: of the input; bounds: shape of Max's and Min's constants."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shape, self.bounds = shape, bounds
        self.channels = {"input": shape[1]}
        self.rng = np.random.default_rng(0)

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, op_type: str, inputs: Sequence[str], channels: int | None = None, **attributes: Any) -> str:
        output = f"{op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], **attributes))
        self.channels[output] = self.channels[inputs[0]] if channels is None else channels
        return output

    def requantize(self, x: str, clip: tuple[float, float] = SIGNED, shift: float | None = 6,
                   divisor: Any = None) -> str:
        """Div (none where the shift is None), Floor, Max, Min."""
        if shift is not None:
            x = self.node("Div", [x, self.constant([2.0**shift] if divisor is None else divisor)])
        x = self.node("Floor", [x])
        for op_type, bound in zip(("Max", "Min"), clip, strict=True):
            x = self.node(op_type, [x, self.constant(np.full(self.bounds, bound))])
        return x

    def quantize(self, exponent: int = -6) -> str:
        return self.requantize("input", SIGNED, exponent)

    def weights(self, *shape: int, limit: int = 127) -> NDArray[np.float32]:
        return self.rng.integers(-limit, limit + 1, shape).astype(np.float32)

    def accumulate(self, x: str, outputs: int, kernel: int | tuple[int, int] = 3, *, pads: Any = None, stride: int = 1,
                   groups: int = 1, bias: bool = True, limit: int = 127, weights: Any = None, **more: Any) -> str:
        """A Conv, with 'same' padding where none is given."""
        kh, kw = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        attributes = {"kernel_shape": [kh, kw], "strides": [stride, stride], "group": groups, "dilations": [1, 1],
                      "pads": [kh // 2, kw // 2] * 2 if pads is None else list(pads)} | more
        if "auto_pad" in attributes:
            del attributes["pads"]
        inputs = [x, self.constant(
            self.weights(outputs, self.channels[x] // groups, kh, kw, limit=limit) if weights is None else weights)]
        if bias:
            inputs.append(self.constant(self.rng.integers(-9999, 9999, outputs)))
        return self.node("Conv", inputs, outputs, **attributes)

    def conv(self, x: str, outputs: int, kernel: int | tuple[int, int] = 3, clip: tuple[float, float] = RELU,
             shift: float | None = 6, **more: Any) -> str:
        return self.requantize(self.accumulate(x, outputs, kernel, **more), clip, shift)

    def depthwise(self, x: str, kernel: int | tuple[int, int] = 3, **more: Any) -> str:
        channels = self.channels[x]
        return self.conv(x, channels, kernel, groups=channels, **more)

    def analog(self, x: str, outputs: int, kernel: int = 3, *, gain: float = 16.0, adc: tuple[float, float] = ADC,
               multiplier: Any = None, offset: Any = None, clip: tuple[float, float] = RELU, shift: float | None = 4,
               limit: int = 1, bias: bool = False, **more: Any) -> str:
        """The analog core's chain."""
        x = self.requantize(self.accumulate(x, outputs, kernel, bias=bias, limit=limit, **more), adc, 0, [gain])
        shape = (1, outputs, 1, 1)
        x = self.node("Mul", [x, self.constant(np.full(shape, 3.0) if multiplier is None else multiplier)])
        x = self.node("Add", [x, self.constant(np.full(shape, 5.0) if offset is None else offset)])
        return self.requantize(x, clip, shift)

    def add(self, a: str, b: str, clip: tuple[float, float] = SIGNED, shift: float | None = 1) -> str:
        return self.requantize(self.node("Add", [a, b]), clip, shift)

    def mean(self, x: str) -> str:
        """GlobalAveragePool as HTVM takes it."""
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x])], axis=1)
        return self.requantize(x, SIGNED, None)

    def gemm(self, x: str, inputs: int, outputs: int, clip: tuple[float, float] = SIGNED, bias: bool = True,
             shift: float | None = 6) -> str:
        constants = [self.constant(self.weights(outputs, inputs))]
        if bias:
            constants.append(self.constant(self.rng.integers(-9999, 9999, outputs)))
        return self.requantize(self.node("Gemm", [x, *constants], outputs, transB=1), clip, shift)

    def matmul(self, x: str, inputs: int, outputs: int) -> str:
        """Matmul, Add of a constant, which stands second."""
        x = self.node("MatMul", [x, self.constant(self.weights(inputs, outputs))], outputs)
        return self.requantize(self.node("Add", [x, self.constant(self.rng.integers(-9999, 9999, outputs))]))

    def model(self, x: str, opset: int = 13, scale: float | None = 2.0**4) -> onnx.ModelProto:
        """The file, with the output's Div unless its scale is None."""
        if scale is not None:
            x = self.node("Div", [x, self.constant([scale])])
        graph = helper.make_graph(
            self.nodes, "main", [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, None)], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        inferred = onnx.shape_inference.infer_shapes(model)
        model.graph.output[0].CopyFrom(inferred.graph.output[0])
        onnx.checker.check_model(model)
        return model


def resnet8(bounds: tuple[int, ...] = (1,), opset: int = 10, classes: int = 12) -> onnx.ModelProto:
    """The original toolkit's export: sums with a fused ReLU, a shift of 0 left out."""
    g = Graph(1, 3, 32, 32, bounds=bounds)
    x = g.conv(g.quantize(), 16)
    x = g.add(x, g.conv(g.conv(x, 16), 16, clip=SIGNED), RELU)
    for channels in (32, 64):
        y = g.conv(g.conv(x, channels, stride=2), channels, clip=SIGNED)
        x = g.add(g.conv(x, channels, 1, stride=2, clip=SIGNED), y, RELU, None)
    return g.model(g.gemm(g.mean(x), 64, classes), opset)


def mobilenet(size: int = 96, classes: int = 12) -> onnx.ModelProto:
    """MobileNetV1, width 0.25."""
    g = Graph(1, 3, size, size)
    x = g.conv(g.quantize(), 8, stride=2)
    for outputs, stride in [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *5 * [(128, 1)], (256, 2),
                            (256, 1)]:
        x = g.conv(g.depthwise(x, stride=stride), outputs, 1)
    return g.model(g.gemm(g.mean(x), 256, classes))


def dscnn(kernel: tuple[int, int] = (10, 4), pads: Sequence[int] = (5, 1, 5, 1)) -> onnx.ModelProto:
    """Keyword spotting on 49 frames of 10 coefficients; the first kernel is 10x4."""
    g = Graph(1, 1, 49, 10)
    x = g.conv(g.quantize(), 64, kernel, pads=pads, stride=2)
    for _ in range(4):
        x = g.conv(g.depthwise(x), 64, 1)
    return g.model(g.gemm(g.mean(x), 64, 12))
