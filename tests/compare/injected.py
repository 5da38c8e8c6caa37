"""Device faults, each computed by itself in floating point or by index: no code of the catalogue is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from devices import Array, Change, Place

from onnxdiana import numerics
from onnxdiana.rules.ops import operator
from onnxdiana.rules.ops.base import Linear
from onnxdiana.rules.ops.conv import geometry


def _scaled(p: Place, accumulator: Array | None = None) -> Array:
    return np.floor((p.accumulator if accumulator is None else accumulator) / 2.0**p.shift)


def _bounded(p: Place, codes: Array, lo: int | None = None, hi: int | None = None) -> Array:
    return np.minimum(np.maximum(codes, p.lo if lo is None else lo), p.hi if hi is None else hi)


def right(p: Place) -> Array:
    return _bounded(p, _scaled(p))


def floor(p: Place) -> Array:
    return _bounded(p, _scaled(p, p.accumulator - p.half))


def half_up(p: Place) -> Array:
    return _bounded(p, np.floor(p.accumulator / 2.0**p.shift + 0.5))


def missing_relu(p: Place) -> Array:
    return _bounded(p, _scaled(p), lo=-128)


def extra_relu(p: Place) -> Array:
    return _bounded(p, _scaled(p), lo=0)


def wraps(p: Place) -> Array:
    return np.maximum(_scaled(p), p.lo).astype(np.int64).astype(np.int8)


def one_shift_too_few(p: Place) -> Array:
    return _bounded(p, np.floor(p.accumulator / 2.0**(p.shift - 1)))


def not_shifted(p: Place) -> Array:
    return _bounded(p, p.accumulator)


def without_bias(p: Place) -> Array:
    assert p.bias is not None
    return _bounded(p, _scaled(p, p.accumulator - p.bias.reshape(-1, *(1,) * (p.accumulator.ndim - 2))))


def one_operand(p: Place) -> Array:
    return _bounded(p, _scaled(p, p.inputs[1].astype(np.int64)))


def words_reversed(p: Place) -> Array:
    return np.frombuffer(right(p).astype(">i1").tobytes(), ">u4").astype("<u4").view(np.int8).reshape(right(p).shape)


def channels_last(p: Place) -> Array:
    codes = right(p)
    _, c, h, w = codes.shape
    flat = [codes[0, k, i, j] for i in range(h) for j in range(w) for k in range(c)]
    return np.array(flat).reshape(codes.shape)


def rows_for_columns(p: Place) -> Array:
    codes = right(p)
    return np.array([plane.T.reshape(-1) for plane in codes[0]]).reshape(codes.shape)


def zeros(p: Place) -> Array:
    return np.zeros(p.accumulator.shape)


def offset(p: Place) -> Array:
    return _bounded(p, _scaled(p) + 3)


def dirty_border(p: Place) -> Array:
    """The map's edges are repeated where zeros should be."""
    (_, weight), (_, bias) = Linear.parameters(p.node)
    x = np.pad(p.inputs[0], [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    accumulator = numerics.convolve(x, weight, bound=2**40, **{**geometry(p.node), "pads": [0, 0, 0, 0]})
    return _bounded(p, _scaled(p, accumulator + bias.reshape(1, -1, 1, 1)))


def misread(read: Callable[[Array], Array]) -> Change:
    """Its inputs read in another way."""
    def change(p: Place) -> Array:
        accumulator = operator(p.node).evaluate(p.node, [read(x).astype(np.int8) for x in p.inputs], "floor")
        return _bounded(p, _scaled(p, accumulator))
    return change


def noise(p: Place) -> Array:
    """Nothing that has a cause."""
    codes = right(p)
    return np.random.default_rng(0).permutation(codes.reshape(-1)).reshape(codes.shape)


def truncated(p: Place) -> Array:
    return _bounded(p, np.trunc(p.accumulator / 2.0**p.shift))


def unsigned_saturation(p: Place) -> Array:
    return _bounded(p, _scaled(p), hi=255)


def late(p: Place) -> Array:
    """Everything lies four elements too far behind, with something else in front."""
    codes = right(p).reshape(-1)
    return np.concatenate([[77, -77, 76, -76], codes[:-4]]).reshape(p.accumulator.shape)


def channels_reversed(p: Place) -> Array:
    return right(p)[:, ::-1]


def _with_bias(p: Place, other: Array) -> Array:
    change = (other - p.bias).reshape(-1, *(1,) * (p.accumulator.ndim - 2))
    return _bounded(p, _scaled(p, p.accumulator + change))


def biases_big_endian(p: Place) -> Array:
    assert p.bias is not None
    return _with_bias(p, np.frombuffer(p.bias.astype("<i4").tobytes(), ">i4").astype(np.int64))


def biases_in_planes(p: Place) -> Array:
    """Byte planes of all channels, read as if each had 16 bytes."""
    assert p.bias is not None
    packed = [int(b) >> 8 * byte & 255 for byte in range(4) for b in p.bias] + [0] * 64
    found = []
    for channel in range(len(p.bias)):
        data = bytes(packed[64 * (channel // 16) + 16 * byte + channel % 16] for byte in range(4))
        found.append(int.from_bytes(data, "little", signed=True))
    return _with_bias(p, np.array(found))


def half_written(p: Place) -> Array:
    codes = right(p).copy()
    codes[:, codes.shape[1] // 2:] = 0
    return codes


def noisy_border(p: Place) -> Array:
    """Where the window reaches beyond the map something was added."""
    codes, inner = right(p).copy(), np.zeros(p.accumulator.shape, bool)
    stride = p.inputs[0].shape[2] // codes.shape[2]
    inner[:, :, 1:-1, 1:-1] = True
    if stride == 2:  # an even map: the last window ends within
        inner[:, :, 1:, 1:] = True
    noise = np.random.default_rng(1).integers(1, 9, codes.shape)
    return np.where(inner, codes, np.where(codes > 64, codes - noise, codes + noise))


CHANGES: Mapping[str, tuple[Change, str]] = {
    "floor": (floor, "floor"), "half_up": (half_up, "half-up"), "missing_relu": (missing_relu, "missing-relu"),
    "extra_relu": (extra_relu, "extra-relu"), "wraps": (wraps, "saturation"),
    "one_shift_too_few": (one_shift_too_few, "shift"), "not_shifted": (not_shifted, "shift"),
    "without_bias": (without_bias, "bias"), "one_operand": (one_operand, "operand"),
    "words_reversed": (words_reversed, "byte-order"), "channels_last": (channels_last, "layout"),
    "rows_for_columns": (rows_for_columns, "layout"), "zeros": (zeros, "nothing-written"), "offset": (offset, "offset"),
    "dirty_border": (dirty_border, "border"), "truncated": (truncated, "rounding"),
    "unsigned_saturation": (unsigned_saturation, "saturation"), "late": (late, "misplaced"),
    "channels_reversed": (channels_reversed, "channel-order"), "biases_big_endian": (biases_big_endian, "bias"),
    "biases_in_planes": (biases_in_planes, "bias"),
    "half_written": (half_written, "unwritten"), "noisy_border": (noisy_border, "at-border"),
}
"""What a device computes, and the name that ``compare`` should give it."""
