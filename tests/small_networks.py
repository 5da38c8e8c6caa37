"""Two small networks with weights as training leaves them, their data, and folders of them that tests can spoil."""

from __future__ import annotations

import numpy as np
import onnx
import tiny
from numpy.typing import NDArray

RESIDUAL = """(float[N,3,8,8] x) => (float[N,6] y)
    <float[8,3,3,3] w0, float[8] b0, float[8,8,3,3] w1, float[8] b1, float[6,8] w2, float[6] b2> {
    c0 = Conv<pads=[1,1,1,1]>(x, w0, b0)
    r0 = Relu(c0)
    c1 = Conv<pads=[1,1,1,1]>(r0, w1, b1)
    s = Add(c1, r0)
    r1 = Relu(s)
    m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
    g = GlobalAveragePool(m)
    f = Flatten(g)
    y = Gemm<transB=1>(f, w2, b2)
}"""
"""Convolutions, a residual add, max pool, global average pool, linear layer."""

CHAIN = """(float[N,2,6,6] x) => (float[N,36] y)
    <int64[8] pads = {0,0,1,1,0,0,1,1}, float[4,2,3,3] w0, float[4] b0, float[16,144] w1, float[16] b1,
     float[8,16] w2, float[8] b2, float[36,8] w3, float[36] b3> {
    p = Pad<mode="reflect">(x, pads)
    c = Conv(p, w0, b0)
    r0 = Relu(c)
    f = Flatten(r0)
    g1 = Gemm<transB=1>(f, w1, b1)
    r1 = Relu(g1)
    g2 = Gemm<transB=1>(r1, w2, b2)
    r2 = Relu(g2)
    y = Gemm<transB=1>(r2, w3, b3)
}"""
"""Reflected borders, then linear layers through a bottleneck."""

NETWORKS = {"residual": (RESIDUAL, (3, 8, 8)), "chain": (CHAIN, (2, 6, 6))}


def model(name: str, seed: int = 0) -> onnx.ModelProto:
    """A network; its activations keep their size from layer to layer, its biases are small beside them."""
    proto = tiny.model(NETWORKS[name][0], seed=seed)
    rng = np.random.default_rng(seed)
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if tensor.name.startswith("w"):
            size = np.sqrt(2 / array[0].size)
        elif tensor.name.startswith("b"):
            size = 0.2
        else:
            continue
        values = (size * rng.standard_normal(array.shape)).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return proto


def samples(name: str, count: int = 40, seed: int = 1) -> NDArray[np.float32]:
    """Inputs (count, ...): each sample with its own contrast and brightness."""
    rng = np.random.default_rng(seed)
    shape = NETWORKS[name][1]
    size = (count, *(1,) * len(shape))
    values = rng.uniform(0.3, 2.0, size) * rng.standard_normal((count, *shape)) + 0.5 * rng.standard_normal(size)
    return values.astype(np.float32)
