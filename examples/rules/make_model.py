"""Write a small network with operators of a domain ``my``, which no runtime knows: ``make_model.py FILE.onnx``."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnx.parser

TEXT = """<ir_version: 10, opset_import: ["" : 17, "my" : 1]>
network (float[batch,3,16,16] image) => (float[batch,12] logits) {
    a = Conv<pads = [1,1,1,1], strides = [2,2]> (image, conv1, bias1)
    b = my.CappedRelu<cap = 4.0> (a)
    c = Conv<pads = [1,1,1,1]> (b, conv2, bias2)
    d = my.CappedRelu (c)
    e = Conv (b, conv3, bias3)
    f = my.AddN (b, d, e)
    g = GlobalAveragePool (f)
    h = Flatten (g)
    logits = Gemm<transB = 1> (h, linear, bias4)
}"""
SHAPES = {"conv1": (16, 3, 3, 3), "bias1": (16,), "conv2": (16, 16, 3, 3), "bias2": (16,), "conv3": (16, 16, 1, 1),
          "bias3": (16,), "linear": (12, 16), "bias4": (12,)}


def network() -> onnx.ModelProto:
    """The network, with random weights."""
    proto = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        scale = np.sqrt(2 / max(np.prod(shape[1:]), 1)) if len(shape) > 1 else 0.1
        array = (scale * rng.standard_normal(shape)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


if __name__ == "__main__":
    onnx.save(network(), sys.argv[1])
