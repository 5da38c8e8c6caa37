"""Every spelling that exporters use, as a step of a random graph; docs/spellings.md has a row for each.

A step takes a tensor of a kind (features, a sequence, a map) and gives one. Those at the start make the graph's input,
those at the end give what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.generated.draft import NEWEST, Draft, Tensor

KINDS = {"features": 1, "sequence": 2, "map": 3}
"""Rank of a sample."""


@dataclass(frozen=True)
class Spelling:
    """One step."""

    name: str
    apply: Callable[..., Tensor]
    kind: str
    """Of the tensor it takes; of the one it makes at the start."""
    place: str
    """``start``, ``inner`` or ``end``."""
    opsets: tuple[int, int]


SPELLINGS: dict[str, Spelling] = {}


def spelling(
    kind: str, place: str = "inner", since: int = 7, until: int = NEWEST
) -> Callable[..., Callable[..., Tensor]]:
    """Register a step under its function's name."""
    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = function.__name__.replace("_", " ").strip()
        SPELLINGS[name] = Spelling(name, function, kind, place, (since, until))
        return function
    return register


def features(x: Tensor) -> int:
    """Number of them."""
    return x.shape[0]


# -- linear layers ----------------------------------------------------------------------------------------------------


def dense_weight(d: Draft, inputs: int, outputs: int) -> str:
    """(K, M)."""
    return d.constant(d.normal(inputs, outputs, scale=inputs**-0.5), "weight")


@spelling("features")
def matmul_then_bias(d: Draft, x: Tensor) -> Tensor:
    m = d.whole(1, 6)
    y = d.one("MatMul", [x.name, dense_weight(d, features(x), m)])
    bias = d.constant(d.normal(m))
    return Tensor(d.one("Add", d.pick([[y, bias], [bias, y]])), (m,))


@spelling("sequence")
def matmul_weight_on_the_left(d: Draft, x: Tensor) -> Tensor:
    m = d.whole(1, 4)
    weight = d.constant(d.normal(m, x.shape[0], scale=x.shape[0]**-0.5), "weight")
    return Tensor(d.one("MatMul", [weight, x.name]), (m, x.shape[1]))


@spelling("features")
def bias_behind_a_reshape(d: Draft, x: Tensor) -> Tensor:
    m = 2 * d.whole(1, 3)
    y = Tensor(d.one("MatMul", [x.name, dense_weight(d, features(x), m)]), (m,))
    y = d.reshape(y, 2, m // 2)
    y = d.same("Add", y, d.constant(d.normal(2, m // 2)))
    return d.reshape(y, m)


@spelling("features")
def gemm(d: Draft, x: Tensor) -> Tensor:
    m = d.whole(1, 6)
    weight = d.constant(d.normal(m, features(x), scale=features(x)**-0.5), "weight")
    return Tensor(d.one("Gemm", [x.name, weight, d.constant(d.normal(m))], transB=1), (m,))


@spelling("features")
def gemm_alpha_beta(d: Draft, x: Tensor) -> Tensor:
    m = d.whole(1, 6)
    bias = d.pick([d.normal(m), d.normal(1, m), d.normal(1)])
    return Tensor(d.one("Gemm", [x.name, dense_weight(d, features(x), m), d.constant(bias)], alpha=0.5, beta=2.0), (m,))


@spelling("features")
def gemm_trans_a(d: Draft, x: Tensor) -> Tensor:
    m = d.whole(1, 6)
    turned = d.transpose(x.name, 1, 0)
    return Tensor(d.one("Gemm", [turned, dense_weight(d, features(x), m), d.constant(d.normal(m))], transA=1), (m,))


@spelling("sequence")
def matmul_on_three_axes(d: Draft, x: Tensor) -> Tensor:
    m = d.whole(1, 5)
    y = d.one("MatMul", [x.name, dense_weight(d, x.shape[1], m)])
    return Tensor(d.one("Add", [y, d.constant(d.normal(m))]), (x.shape[0], m))


@spelling("map")
def conv(d: Draft, x: Tensor) -> Tensor:
    k = d.pick([1, 3])
    return d.conv(x, d.whole(1, 4), [k, k], pads=[k // 2] * 4, bias=d.pick([True, False]))


@spelling("map")
def conv_strided(d: Draft, x: Tensor) -> Tensor:
    return d.conv(x, d.whole(1, 4), [3, 3], pads=[1] * 4, strides=[2, 2])


@spelling("map")
def conv_depthwise(d: Draft, x: Tensor) -> Tensor:
    return d.conv(x, x.shape[0], [3, 3], pads=[1] * 4, group=x.shape[0])


@spelling("map")
def conv_dilated(d: Draft, x: Tensor) -> Tensor:
    return d.conv(x, d.whole(1, 3), [3, 3], pads=[2] * 4, dilations=[2, 2])


@spelling("map")
def conv_auto_pad(d: Draft, x: Tensor) -> Tensor:
    return d.conv(x, d.whole(1, 4), [d.pick([1, 2, 3]), 3], auto_pad=d.pick(["SAME_UPPER", "SAME_LOWER"]),
                  strides=d.pick([[1, 1], [2, 2], [1, 2]]))


@spelling("map")
def conv_valid(d: Draft, x: Tensor) -> Tensor:
    return d.conv(x, d.whole(1, 4), [min(2, x.shape[1]), min(3, x.shape[2])], auto_pad="VALID")


@spelling("map")
def conv_unequal_pads(d: Draft, x: Tensor) -> Tensor:
    return d.conv(x, d.whole(1, 4), [3, 3], pads=[0, 0, 2, 2], strides=d.pick([[1, 1], [2, 2]]))


@spelling("map")
def pad_then_conv(d: Draft, x: Tensor) -> Tensor:
    return d.conv(d.pad(x, [0, 1, 1, 0, 1, 2]), d.whole(1, 4), [3, 3], pads=d.pick([[0] * 4, [1] * 4]))


@spelling("map")
def pad_relu_conv(d: Draft, x: Tensor) -> Tensor:
    return d.conv(d.same("Relu", d.pad(x, [0, 1, 1, 0, 1, 1])), d.whole(1, 4), [3, 3])


@spelling("sequence")
def conv_1d(d: Draft, x: Tensor) -> Tensor:
    return d.conv(x, d.whole(1, 4), [3], pads=[1, 1])


@spelling("sequence")
def conv_1d_network(d: Draft, x: Tensor) -> Tensor:
    c = x.shape[0]
    y = d.same("Relu", d.batch_norm(d.conv(x, c, [3], pads=[1, 1])))
    y = d.same("Add", d.conv(y, c, [1]), x.name)
    return Tensor(d.one("MaxPool", [y.name], kernel_shape=[2], strides=[1], pads=[1, 0]), y.shape)


# -- normalization and constants --------------------------------------------------------------------------------------


@spelling("map")
def batch_norm_behind_conv(d: Draft, x: Tensor) -> Tensor:
    return d.batch_norm(conv(d, x))


@spelling("map")
def batch_norm_before_conv(d: Draft, x: Tensor) -> Tensor:
    return d.conv(d.batch_norm(x), d.whole(1, 4), [3, 3], pads=d.pick([[0] * 4, [1] * 4]) if min(x.shape[1:]) > 2
                  else [1] * 4)


@spelling("map")
def batch_norm_behind_concat(d: Draft, x: Tensor) -> Tensor:
    return d.batch_norm(concat(d, x))


@spelling("map")
def batch_norm_behind_add(d: Draft, x: Tensor) -> Tensor:
    return d.batch_norm(residual(d, x))


@spelling("map")
def batch_norm_alone(d: Draft, x: Tensor) -> Tensor:
    return d.same("Relu", d.batch_norm(d.same("Relu", x)))


@spelling("features")
def batch_norm_behind_linear(d: Draft, x: Tensor) -> Tensor:
    return d.batch_norm(gemm(d, x))


def per_channel(d: Draft, x: Tensor) -> np.ndarray:
    """One number, or one a channel."""
    c = x.shape[0]
    return d.pick([d.normal(), d.normal(1), d.normal(c, *(1,) * (len(x.shape) - 1)),
                   d.normal(1, c, *(1,) * (len(x.shape) - 1))])


@spelling("map")
def multiply_by_constants(d: Draft, x: Tensor) -> Tensor:
    y = d.pick([x, conv(d, x)])
    return d.same("Mul", y, d.constant(per_channel(d, y)))


@spelling("map")
def add_constants(d: Draft, x: Tensor) -> Tensor:
    y = d.pick([x, conv(d, x)])
    constant = d.constant(per_channel(d, y))
    return Tensor(d.one("Add", d.pick([[y.name, constant], [constant, y.name]])), y.shape)


@spelling("map")
def subtract_constants(d: Draft, x: Tensor) -> Tensor:
    y = d.pick([x, conv(d, x)])
    constant = d.constant(per_channel(d, y))
    return Tensor(d.one("Sub", d.pick([[y.name, constant], [constant, y.name]])), y.shape)


@spelling("map")
def divide_by_constants(d: Draft, x: Tensor) -> Tensor:
    y = d.pick([x, conv(d, x)])
    return d.same("Div", y, d.constant(np.abs(per_channel(d, y)) + np.float32(0.5)))


@spelling("features")
def affine_of_features(d: Draft, x: Tensor) -> Tensor:
    y = d.same("Mul", x, d.constant(d.normal(features(x))))
    return d.same("Add", y, d.constant(d.normal(features(x))))


def as_constant(d: Draft, array: np.ndarray, way: str) -> str:
    """A constant behind another node."""
    stored = numpy_helper.from_array(array)
    if way == "Constant":
        return d.one("Constant", [], value=stored)
    if way == "Identity":
        return d.one("Identity", [d.constant(array)])
    if way == "Cast":
        return d.one("Cast", [d.constant(array.astype(np.float64))], to=TensorProto.FLOAT)
    if way == "Expand":
        return d.one("Expand", [d.constant(array.reshape(-1)[:1]), d.ints(*array.shape)])
    assert way == "ConstantOfShape"
    value = numpy_helper.from_array(array.reshape(-1)[:1])
    return d.one("ConstantOfShape", [d.ints(*array.shape)], value=value)


def _behind(way: str) -> Callable[[Draft, Tensor], Tensor]:
    def step(d: Draft, x: Tensor) -> Tensor:
        m = d.whole(1, 4)
        return d.conv(x, m, [1, 1], weight=as_constant(d, d.normal(m, x.shape[0], 1, 1), way),
                      offset=as_constant(d, d.normal(m), way))
    step.__name__ = f"constants_behind_{way}"
    return step


for _way, _since in (("Constant", 7), ("Identity", 7), ("Cast", 7), ("Expand", 8), ("ConstantOfShape", 9)):
    spelling("map", since=_since)(_behind(_way))


@spelling("map", since=10)
def weights_behind_DequantizeLinear(d: Draft, x: Tensor) -> Tensor:
    m = d.whole(1, 4)
    codes = d.constant(d.rng.integers(-127, 128, (m, x.shape[0], 3, 3)).astype(np.int8), "codes")
    if d.opset >= 13 and d.pick([True, False]):
        scale, zero = 0.001 + d.rng.random(m).astype(np.float32) / 100, np.zeros(m, np.int8)
        weight = d.one("DequantizeLinear", [codes, d.constant(scale), d.constant(zero)], axis=0)
    else:
        weight = d.one("DequantizeLinear", [codes, d.constant(np.float32(0.004)), d.constant(np.int8(0))])
    return d.conv(x, m, [3, 3], pads=[1] * 4, weight=weight)


@spelling("map")
def weights_shared_by_two_layers(d: Draft, x: Tensor) -> Tensor:
    c = x.shape[0]
    weight = d.constant(d.normal(c, c, 3, 3, scale=(9 * c)**-0.5), "weight")
    y = d.batch_norm(d.conv(x, c, [3, 3], pads=[1] * 4, weight=weight))
    return d.conv(d.same("Relu", y), c, [3, 3], pads=[1] * 4, weight=weight)


# -- activations ------------------------------------------------------------------------------------------------------


def activation(
    name: str, kind: str, build: Callable[[Draft, Tensor], Tensor], since: int = 7, until: int = NEWEST
) -> None:
    """An activation behind a layer."""
    def step(d: Draft, x: Tensor) -> Tensor:
        return build(d, gemm(d, x) if kind == "features" else conv(d, x))
    step.__name__ = name
    spelling(kind, since=since, until=until)(step)


def channels(x: Tensor) -> tuple[int, ...]:
    """Shape of one number a channel."""
    return (x.shape[0], *(1,) * (len(x.shape) - 1))


def zero(d: Draft) -> str:
    """The constant 0."""
    return d.constant(np.float32(0))


def _hard_swish(d: Draft, x: Tensor) -> Tensor:
    inner = d.clip(d.same("Add", x, d.constant(np.float32(3))), 0.0, 6.0)
    product = Tensor(d.one("Mul", d.pick([[x.name, inner.name], [inner.name, x.name]])), x.shape)
    return d.pick([d.same("Div", product, d.constant(np.float32(6))),
                   d.same("Mul", product, d.constant(np.float32(1 / 6)))])


def _gelu(d: Draft, x: Tensor) -> Tensor:
    erf = d.same("Erf", d.same("Div", x, d.constant(np.float32(2**0.5))))
    return d.same("Mul", d.same("Mul", x, d.same("Add", erf, d.constant(np.float32(1))).name),
                  d.constant(np.float32(0.5)))


activation("relu", "map", lambda d, x: d.same("Relu", x))
activation("relu as Clip", "map", lambda d, x: d.clip(x, 0.0, d.pick([None, float(np.finfo(np.float32).max)])))
activation("relu as Max", "map", lambda d, x: Tensor(d.one("Max", d.pick([[x.name, zero(d)], [zero(d), x.name]])),
                                                    x.shape), since=8)
activation("relu6", "map", lambda d, x: d.clip(x, 0.0, 6.0))
activation("bounds of hardtanh", "features", lambda d, x: d.clip(x, -1.0, 1.0))
activation("Min with a constant", "map", lambda d, x: d.same("Min", x, d.constant(np.float32(0.7))), since=8)
activation("PRelu", "map", lambda d, x: d.same("PRelu", x, d.constant(d.pick([
    np.abs(d.normal(*channels(x))), np.array([0.25], np.float32)]))))
activation("LeakyRelu", "map", lambda d, x: d.same("LeakyRelu", x, alpha=0.1))
activation("Sigmoid", "map", lambda d, x: conv(d, d.same("Sigmoid", x)))
activation("Tanh", "features", lambda d, x: gemm(d, d.same("Tanh", x)))
activation("HardSigmoid", "map", lambda d, x: conv(d, d.same("HardSigmoid", x, alpha=1 / 6, beta=0.5)))
activation("HardSwish", "map", lambda d, x: conv(d, d.same("HardSwish", x)), since=14)
activation("HardSwish of simpler operators", "map", lambda d, x: conv(d, _hard_swish(d, x)))
activation("Swish as x times Sigmoid", "map", lambda d, x: conv(d, d.same("Mul", x, d.same("Sigmoid", x).name)))
activation("Swish", "map", lambda d, x: conv(d, d.same("Swish", x)), since=24)
activation("Gelu with Erf", "features", lambda d, x: gemm(d, _gelu(d, x)), since=9)
activation("Elu", "map", lambda d, x: conv(d, d.same("Elu", x)))


@spelling("map")
def product_with_a_gate(d: Draft, x: Tensor) -> Tensor:
    y = conv(d, x)
    pooled = Tensor(d.one("GlobalAveragePool", [y.name]), (y.shape[0], 1, 1))
    gate = d.same("Sigmoid", d.conv(pooled, y.shape[0], [1, 1]))
    return conv(d, Tensor(d.one("Mul", d.pick([[y.name, gate.name], [gate.name, y.name]])), y.shape))


# -- pooling ----------------------------------------------------------------------------------------------------------


def pooled(x: Tensor) -> tuple[int, ...]:
    """Behind a global pool."""
    return (x.shape[0], 1, 1)


@spelling("map")
def global_average_pool(d: Draft, x: Tensor) -> Tensor:
    y = d.pick([x, d.same("Relu", x)])
    return Tensor(d.one("GlobalAveragePool", [y.name]), pooled(x))


@spelling("map")
def average_pool_over_the_whole_map(d: Draft, x: Tensor) -> Tensor:
    return Tensor(d.one("AveragePool", [d.same("Relu", x).name], kernel_shape=list(x.shape[1:])), pooled(x))


@spelling("map")
def reduce_mean_over_the_map(d: Draft, x: Tensor) -> Tensor:
    keep = d.pick([0, 1])
    y = Tensor(d.mean(x.name, d.pick([[2, 3], [-1, -2]]), keep), pooled(x) if keep else x.shape[:1])
    return y if keep else d.reshape(y, *pooled(x))


@spelling("map")
def mean_over_height_then_width(d: Draft, x: Tensor) -> Tensor:
    if d.pick([True, False]):
        return Tensor(d.mean(d.mean(x.name, [2], 1), [3], 1), pooled(x))
    y = d.mean(d.mean(x.name, [2], 0), [2], 0)
    return d.reshape(Tensor(y, x.shape[:1]), *pooled(x))


def window(d: Draft, x: Tensor) -> list[int]:
    """A kernel that fits the map."""
    return [min(d.pick([2, 3]), size) for size in x.shape[1:]]


@spelling("map")
def average_pool(d: Draft, x: Tensor) -> Tensor:
    kernel = window(d, x)
    size = [(s - k) // 2 + 1 for s, k in zip(x.shape[1:], kernel, strict=True)]
    return Tensor(d.one("AveragePool", [x.name], kernel_shape=kernel, strides=[2, 2]), (x.shape[0], *size))


@spelling("map")
def average_pool_with_padding(d: Draft, x: Tensor) -> Tensor:
    name = d.one("AveragePool", [x.name], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=d.pick([0, 1]))
    return Tensor(name, x.shape)


@spelling("map")
def average_pool_with_auto_pad(d: Draft, x: Tensor) -> Tensor:
    size = [-(-s // 2) for s in x.shape[1:]]
    name = d.one("AveragePool", [x.name], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    return Tensor(name, (x.shape[0], *size))


@spelling("map")
def max_pool(d: Draft, x: Tensor) -> Tensor:
    kernel = window(d, x)
    size = [(s - k) // 2 + 1 for s, k in zip(x.shape[1:], kernel, strict=True)]
    return Tensor(d.one("MaxPool", [x.name], kernel_shape=kernel, strides=[2, 2]), (x.shape[0], *size))


@spelling("map")
def max_pool_with_auto_pad(d: Draft, x: Tensor) -> Tensor:
    size = [-(-s // 2) for s in x.shape[1:]]
    name = d.one("MaxPool", [x.name], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    return Tensor(name, (x.shape[0], *size))


@spelling("map", since=10)
def max_pool_rounded_up(d: Draft, x: Tensor) -> Tensor:
    kernel = [min(2, s) for s in x.shape[1:]]
    size = [-(-(s - k) // 2) + 1 for s, k in zip(x.shape[1:], kernel, strict=True)]
    return Tensor(d.one("MaxPool", [x.name], kernel_shape=kernel, strides=[2, 2], ceil_mode=1), (x.shape[0], *size))


@spelling("map")
def global_max_pool(d: Draft, x: Tensor) -> Tensor:
    return Tensor(d.one("GlobalMaxPool", [x.name]), pooled(x))


# -- tensors moved ----------------------------------------------------------------------------------------------------


@spelling("map")
def concat(d: Draft, x: Tensor) -> Tensor:
    y = d.conv(x, d.whole(1, 3), [1, 1])
    parts = d.pick([[x, y], [y, x], [x, x, y]])
    return Tensor(d.one("Concat", [p.name for p in parts], axis=d.pick([1, -3])),
                  (sum(p.shape[0] for p in parts), *x.shape[1:]))


@spelling("map")
def split_into_branches(d: Draft, x: Tensor) -> Tensor:
    y = d.conv(x, 4, [1, 1])
    first, second = d.split(y, 1, d.pick([[2, 2], [1, 3]]))
    first = d.same("Relu", first)
    return Tensor(d.one("Concat", [second.name, first.name], axis=1), y.shape)


@spelling("map")
def slice_of_channels(d: Draft, x: Tensor) -> Tensor:
    y = d.conv(x, 4, [1, 1])
    return d.slice(y, 1, 1, d.pick([2, 3, 4]))


@spelling("map")
def slice_of_the_map(d: Draft, x: Tensor) -> Tensor:
    return d.slice(x, 2, x.shape[1] // 2, x.shape[1])


@spelling("map")
def gather_of_channels(d: Draft, x: Tensor) -> Tensor:
    y = d.conv(x, 4, [1, 1])
    return Tensor(d.one("Gather", [y.name, d.ints(2, 0, 3)], axis=1), (3, *y.shape[1:]))


@spelling("map")
def pad_between_layers(d: Draft, x: Tensor) -> Tensor:
    y = d.conv(x, d.whole(1, 3), [1, 1])
    mode = d.pick(["constant", "edge", "reflect"]) if min(y.shape[1:]) > 1 else "constant"
    return Tensor(d.one("MaxPool", [d.pad(y, [0, 0, 1, 0, 0, 1], mode).name], kernel_shape=[1, 1]),
                  (y.shape[0], y.shape[1], y.shape[2] + 2))


@spelling("map")
def upsample_nearest(d: Draft, x: Tensor) -> Tensor:
    return d.nearest(x, 2) if x.shape[1] * x.shape[2] < 60 else x


@spelling("map")
def squeeze_and_unsqueeze(d: Draft, x: Tensor) -> Tensor:
    y = d.squeeze(d.unsqueeze(x, 2), 2)
    return d.same("Relu", d.squeeze(d.unsqueeze(y, 4), 4))


@spelling("features")
def chain_of_reshapes(d: Draft, x: Tensor) -> Tensor:
    y = d.unsqueeze(d.reshape(x, 1, features(x)), 3)
    return d.reshape(d.same("Relu", d.squeeze(y, 1)), features(x))


@spelling("map")
def channel_shuffle(d: Draft, x: Tensor) -> Tensor:
    y = d.conv(x, 4, [1, 1])
    c, h, w = y.shape
    y = d.reshape(y, 2, 2, h, w)
    return d.reshape(Tensor(d.transpose(y.name, 0, 2, 1, 3, 4), y.shape), c, h, w)


@spelling("map")
def dropout_and_identity(d: Draft, x: Tensor) -> Tensor:
    return d.same("Identity", d.same("Dropout", x))


# -- channels last ----------------------------------------------------------------------------------------------------


def last(d: Draft, x: Tensor) -> str:
    """(N, H, W, C)."""
    return d.transpose(x.name, 0, 2, 3, 1)


def first(d: Draft, name: str, c: int, h: int, w: int) -> Tensor:
    """Back to (N, C, H, W)."""
    return Tensor(d.transpose(name, 0, 3, 1, 2), (c, h, w))


@spelling("map")
def layers_with_channels_last(d: Draft, x: Tensor) -> Tensor:
    c = x.shape[0]
    y = d.conv(x, c, [3, 3], auto_pad="SAME_UPPER", bias=False)
    inner = d.one("Relu", [d.one("Add", [last(d, y), d.constant(d.normal(c))])])
    y = d.conv(first(d, inner, *y.shape), c, [1, 1])
    total = d.one("Add", [last(d, y), last(d, x)])
    return first(d, d.one("Relu", [total]), *y.shape)


@spelling("map")
def mean_with_channels_last(d: Draft, x: Tensor) -> Tensor:
    return d.reshape(Tensor(d.mean(last(d, d.same("Relu", x)), [1, 2], 0), x.shape[:1]), *pooled(x))


@spelling("map")
def concat_with_channels_last(d: Draft, x: Tensor) -> Tensor:
    y = d.conv(x, 2, [1, 1])
    both = d.one("Concat", [last(d, x), last(d, y)], axis=d.pick([3, -1]))
    return first(d, both, x.shape[0] + 2, *x.shape[1:])


@spelling("map")
def pad_with_channels_last(d: Draft, x: Tensor) -> Tensor:
    padded = d.pad(Tensor(last(d, x), (*x.shape[1:], x.shape[0])), [0, 1, 0, 1, 0, 0])
    return d.conv(first(d, padded.name, x.shape[0], x.shape[1] + 1, x.shape[2] + 1), 2, [1, 1])


@spelling("map")
def matmul_with_channels_last(d: Draft, x: Tensor) -> Tensor:
    m = d.whole(1, 4)
    y = d.one("MatMul", [last(d, x), dense_weight(d, x.shape[0], m)])
    return first(d, d.one("Add", [y, d.constant(d.normal(m))]), m, *x.shape[1:])


@spelling("map")
def dense_on_flattened_channels_last(d: Draft, x: Tensor) -> Tensor:
    size, m = int(np.prod(x.shape)), d.whole(1, 4)
    flat = d.reshape(Tensor(last(d, x), x.shape), size)
    y = Tensor(d.one("MatMul", [flat.name, dense_weight(d, size, m)]), (m,))
    return d.reshape(y, m, 1, 1)


# -- the form of the graph --------------------------------------------------------------------------------------------


@spelling("map")
def residual(d: Draft, x: Tensor) -> Tensor:
    y = d.conv(d.same("Relu", d.conv(x, 3, [3, 3], pads=[1] * 4)), x.shape[0], [1, 1])
    return d.same("Relu", Tensor(d.one("Add", d.pick([[x.name, y.name], [y.name, x.name]])), x.shape))


@spelling("map")
def chain_of_residuals(d: Draft, x: Tensor) -> Tensor:
    for _ in range(3):
        x = d.same("Add", x, d.conv(x, x.shape[0], [1, 1]).name)
    return x


@spelling("map")
def adds_that_feed_adds(d: Draft, x: Tensor) -> Tensor:
    a, b, c = (d.conv(x, 2, [1, 1]) for _ in range(3))
    left, right = d.same("Add", a, b.name), d.same("Add", b, c.name)
    return d.same("Add", left, right.name)


@spelling("map")
def sum_with_itself(d: Draft, x: Tensor) -> Tensor:
    return d.same("Add", x, x.name)


@spelling("map")
def concat_of_residual_streams(d: Draft, x: Tensor) -> Tensor:
    a, b = residual(d, x), residual(d, x)
    both = Tensor(d.one("Concat", [a.name, b.name], axis=1), (2 * x.shape[0], *x.shape[1:]))
    return d.same("Add", d.conv(both, x.shape[0], [1, 1]), a.name)


@spelling("map")
def branches_of_different_depth(d: Draft, x: Tensor) -> Tensor:
    a = d.conv(x, 3, [1, 1])
    b = d.conv(d.same("Relu", d.conv(d.same("Relu", d.conv(x, 2, [3, 3], pads=[1] * 4)), 2, [1, 1])), 3, [1, 1])
    return d.same("Add", a, d.same("Relu", b).name)


@spelling("map")
def output_used_inside(d: Draft, x: Tensor) -> Tensor:
    y = d.same("Relu", conv(d, x))
    d.returned.append(y.name)
    return conv(d, y)


@spelling("map")
def second_input(d: Draft, x: Tensor) -> Tensor:
    y = d.conv(d.input(*x.shape), x.shape[0], [1, 1])
    return d.same("Add", d.conv(x, x.shape[0], [1, 1]), y.name)


@spelling("map")
def second_output(d: Draft, x: Tensor) -> Tensor:
    head = d.conv(x, 2, [1, 1])
    d.returned.append(head.name)
    return x


@spelling("map", since=15)
def function_of_the_model(d: Draft, x: Tensor) -> Tensor:
    name = d.name("Block")
    body = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Add", ["r", "x"], ["y"])]
    d.functions.append(helper.make_function("local", name, ["x"], ["y"], body, [helper.make_opsetid("", d.opset)]))
    return Tensor(d.one(name, [x.name], domain="local"), x.shape)


# -- at the start -----------------------------------------------------------------------------------------------------


@spelling("map", "start")
def channels_first_input(d: Draft) -> Tensor:
    return d.input(d.whole(1, 3), d.whole(3, 7), d.whole(3, 7))


@spelling("map", "start")
def channels_last_input(d: Draft) -> Tensor:
    c, h, w = d.whole(1, 3), d.whole(3, 7), d.whole(3, 7)
    return d.conv(first(d, d.input(h, w, c).name, c, h, w), 3, [3, 3], auto_pad="SAME_UPPER", strides=[2, 2])


@spelling("map", "start")
def preprocessing(d: Draft) -> Tensor:
    c, h, w = d.whole(1, 3), d.whole(3, 7), d.whole(3, 7)
    x = d.same("Div", d.input(c, h, w), d.constant(np.float32(2)))
    x = d.same("Sub", x, d.constant(d.normal(1, c, 1, 1)))
    x = d.same("Div", x, d.constant(0.5 + d.rng.random((1, c, 1, 1)).astype(np.float32)))
    return d.conv(x, 3, [3, 3], pads=d.pick([[0] * 4, [1] * 4]))


@spelling("map", "start")
def preprocessing_with_channels_last(d: Draft) -> Tensor:
    c, h, w = d.whole(1, 3), d.whole(3, 7), d.whole(3, 7)
    x = d.same("Mul", d.input(h, w, c), d.constant(np.float32(1 / 4)))
    x = d.same("Sub", x, d.constant(d.normal(c)))
    x = d.same("Mul", x, d.constant(0.5 + d.rng.random(c).astype(np.float32)))
    return d.conv(first(d, x.name, c, h, w), 3, [3, 3], pads=d.pick([[0] * 4, [1] * 4]))


@spelling("sequence", "start")
def sequence_input(d: Draft) -> Tensor:
    return d.input(d.whole(1, 3), d.whole(3, 8))


@spelling("features", "start")
def features_input(d: Draft) -> Tensor:
    return d.input(d.whole(2, 8))


@spelling("map", "start", since=8)
def initializers_as_inputs(d: Draft) -> Tensor:
    d.weights_are_inputs = True
    return conv(d, channels_first_input(d))


# -- at the end -------------------------------------------------------------------------------------------------------


@spelling("features", "end")
def plain_end(d: Draft, x: Tensor) -> Tensor:
    return x


@spelling("features", "end")
def Softmax(d: Draft, x: Tensor) -> Tensor:
    return d.same("Softmax", gemm(d, x), axis=d.pick([1, -1]) if d.opset >= 11 else 1)


@spelling("features", "end")
def LogSoftmax(d: Draft, x: Tensor) -> Tensor:
    return d.same("LogSoftmax", gemm(d, x), axis=1)


@spelling("features", "end")
def ArgMax(d: Draft, x: Tensor) -> Tensor:
    keep = d.pick([0, 1])
    return Tensor(d.one("ArgMax", [gemm(d, x).name], axis=1, keepdims=keep), (1,) if keep else ())


@spelling("features", "end")
def Sigmoid_at_the_end(d: Draft, x: Tensor) -> Tensor:
    return d.same("Sigmoid", gemm(d, x))


@spelling("features", "end")
def logits_beside_Softmax(d: Draft, x: Tensor) -> Tensor:
    y = gemm(d, x)
    d.returned.append(y.name)
    return d.same("Softmax", y, axis=1)
