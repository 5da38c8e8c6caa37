"""A graph under construction at some opset: nodes in that opset's own spelling, and every tensor's shape."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]

NEWEST = onnx.defs.onnx_opset_version()
IR_VERSIONS = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9}
"""The IR version that came with an opset; newer ones have the newest that onnxruntime reads."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph."""

    name: str
    shape: tuple[int, ...]
    """Of one sample: (K,) features, (C, L) sequences, (C, H, W) maps."""


class Draft:
    """Collects nodes; every method that adds some returns the resulting tensor."""

    def __init__(self, draw: Draw, opset: int, salt: str) -> None:
        """Args: salt: what makes equal draws of two strategies different graphs."""
        self.draw, self.opset = draw, opset
        self.rng = np.random.default_rng([draw(st.integers(0, 2**32 - 1)), zlib.crc32(salt.encode())])
        self.batch: int | None = draw(st.sampled_from([None, None, 1, 3]))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.returned: list[str] = []
        self.uses: Counter[str] = Counter()
        self.weights_are_inputs = False
        self._number = 0

    # -- choices ------------------------------------------------------------------------------------------------------

    def pick(self, options: Sequence[T]) -> T:
        """One of some values."""
        found: T = self.draw(st.sampled_from(list(options)))
        return found

    def uniform(self, options: Sequence[T]) -> T:
        """One of some values, each as likely as the others: hypothesis prefers the first ones."""
        return options[int(self.rng.integers(len(options)))]

    def whole(self, lo: int, hi: int) -> int:
        """A whole number, both ends included."""
        return int(self.draw(st.integers(lo, hi)))

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        """Random floats."""
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    # -- parts --------------------------------------------------------------------------------------------------------

    def name(self, role: str) -> str:
        """A free name."""
        self._number += 1
        return f"{role}_{self._number}"

    def input(self, *shape: int) -> Tensor:
        """A graph input."""
        name = self.name("input")
        first = self.batch if self.batch is not None else "N"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [first, *shape]))
        return Tensor(name, shape)

    def constant(self, array: Array, role: str = "constant") -> str:
        """An initializer."""
        name = self.name(role)
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *values: int) -> str:
        """A constant vector of int64."""
        return self.constant(np.array(values, np.int64), "ints")

    def add(
        self, op_type: str, inputs: Sequence[str], outputs: int = 1, domain: str = "", **attributes: Any
    ) -> list[str]:
        """A node; the names of its outputs."""
        names = [self.name(op_type.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, domain=domain, **attributes))
        return names

    def one(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node with one output."""
        return self.add(op_type, inputs, **attributes)[0]

    def same(self, op_type: str, x: Tensor, *others: str, **attributes: Any) -> Tensor:
        """A node that keeps its first input's shape."""
        return Tensor(self.one(op_type, [x.name, *others], **attributes), x.shape)

    def model(self) -> onnx.ModelProto:
        """What has been drawn."""
        outputs = [helper.make_empty_tensor_value_info(name) for name in self.returned]
        inputs = list(self.inputs)
        if self.weights_are_inputs or IR_VERSIONS.get(self.opset, 10) < 4:
            inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.initializers]
        g = helper.make_graph(self.nodes, "generated", inputs, outputs, self.initializers)
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(d, 1) for d in sorted({f.domain for f in self.functions})]
        ir_version = max(IR_VERSIONS.get(self.opset, 10), 8 if self.functions else 0)
        proto = helper.make_model(g, opset_imports=imports, ir_version=ir_version, functions=self.functions)
        shaped = onnx.shape_inference.infer_shapes(proto)
        kinds = {v.name: v for v in (*shaped.graph.value_info, *shaped.graph.output)}
        for value in proto.graph.output:
            value.CopyFrom(kinds[value.name])
        return proto

    # -- operators whose form depends on the opset --------------------------------------------------------------------

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """To another sample shape; the batch is copied, or what is left, or written out."""
        firsts = [0, -1] if self.batch is None else [0, -1, self.batch]
        return Tensor(self.one("Reshape", [x.name, self.ints(self.pick(firsts), *shape)]), shape)

    def axes(self, op_type: str, x: str, axes: Sequence[int], since: int, **attributes: Any) -> str:
        """An operator whose axes are an attribute before an opset, an input from it on."""
        if self.opset < since:
            return self.one(op_type, [x], axes=list(axes), **attributes)
        return self.one(op_type, [x, self.ints(*axes)], **attributes)

    def mean(self, x: str, axes: Sequence[int], keepdims: int) -> str:
        """ReduceMean."""
        return self.axes("ReduceMean", x, axes, 18, keepdims=keepdims)

    def squeeze(self, x: Tensor, axis: int) -> Tensor:
        """Without a sample axis of size 1."""
        shape = tuple(d for i, d in enumerate(x.shape) if i != axis - 1)
        return Tensor(self.axes("Squeeze", x.name, [axis], 13), shape)

    def unsqueeze(self, x: Tensor, axis: int) -> Tensor:
        """With an axis of size 1 more."""
        shape = (*x.shape[:axis - 1], 1, *x.shape[axis - 1:])
        return Tensor(self.axes("Unsqueeze", x.name, [axis], 13), shape)

    def clip(self, x: Tensor, lo: float | None, hi: float | None) -> Tensor:
        """Clip."""
        if self.opset < 11:
            bounds = {k: v for k, v in (("min", lo), ("max", hi)) if v is not None}
            return self.same("Clip", x, **bounds)
        given = ["" if v is None else self.constant(np.array(v, np.float32), "bound") for v in (lo, hi)]
        return self.same("Clip", x, *(given if hi is not None else given[:1]))

    def pad(self, x: Tensor, pads: Sequence[int], mode: str = "constant") -> Tensor:
        """Pad the sample axes: begins, then ends."""
        half = len(pads) // 2
        full = [0, *pads[:half], 0, *pads[half:]]
        shape = tuple(d + pads[i] + pads[half + i] for i, d in enumerate(x.shape))
        if self.opset < 11:
            return Tensor(self.one("Pad", [x.name], pads=full, mode=mode), shape)
        return Tensor(self.one("Pad", [x.name, self.ints(*full)], mode=mode), shape)

    def slice(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        """A contiguous part along an axis."""
        shape = tuple(stop - start if i == axis - 1 else d for i, d in enumerate(x.shape))
        if self.opset < 10:
            return Tensor(self.one("Slice", [x.name], starts=[start], ends=[stop], axes=[axis]), shape)
        return Tensor(self.one("Slice", [x.name, self.ints(start), self.ints(stop), self.ints(axis)]), shape)

    def split(self, x: Tensor, axis: int, sizes: Sequence[int]) -> list[Tensor]:
        """Parts along an axis."""
        inputs, attributes = [x.name], dict[str, Any]()
        if self.opset < 13:
            attributes["split"] = list(sizes)
        else:
            inputs.append(self.ints(*sizes))
        names = self.add("Split", inputs, outputs=len(sizes), axis=axis, **attributes)
        return [Tensor(name, tuple(size if i == axis - 1 else d for i, d in enumerate(x.shape)))
                for name, size in zip(names, sizes, strict=True)]

    def nearest(self, x: Tensor, factor: int) -> Tensor:
        """A map made larger by repeating."""
        shape, scales = (x.shape[0], x.shape[1] * factor, x.shape[2] * factor), [1.0, 1.0, factor, factor]
        constant = np.array(scales, np.float32)
        if self.opset < 9:
            return Tensor(self.one("Upsample", [x.name], mode="nearest", scales=[float(s) for s in scales]), shape)
        if self.opset < 11:
            op_type = "Upsample" if self.opset == 9 else "Resize"
            return Tensor(self.one(op_type, [x.name, self.constant(constant)], mode="nearest"), shape)
        roi = "" if self.opset > 12 else self.constant(np.zeros(0, np.float32), "roi")
        coordinates, rounding = self.pick([("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")])
        name = self.one("Resize", [x.name, roi, self.constant(constant)], mode="nearest",
                        coordinate_transformation_mode=coordinates, nearest_mode=rounding)
        return Tensor(name, shape)

    def transpose(self, x: str, *perm: int) -> str:
        """Transpose; the batch stays first."""
        return self.one("Transpose", [x], perm=list(perm))

    def conv(self, x: Tensor, channels: int, kernel: Sequence[int], *, bias: bool = True, group: int = 1,
             strides: Sequence[int] | None = None, pads: Sequence[int] | None = None,
             dilations: Sequence[int] | None = None, auto_pad: str | None = None, weight: str | None = None,
             offset: str | None = None) -> Tensor:
        """Conv over sequences or maps."""
        rank = len(kernel)
        strides, dilations = list(strides or [1] * rank), list(dilations or [1] * rank)
        inputs, attributes = [x.name], dict[str, Any]()
        fan_in = x.shape[0] // group * math.prod(kernel)
        inputs.append(weight or self.constant(
            self.normal(channels, x.shape[0] // group, *kernel, scale=fan_in**-0.5), "weight"))
        if bias or offset:
            inputs.append(offset or self.constant(self.normal(channels, scale=0.3), "bias"))
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            sizes = [-(-d // s) for d, s in zip(x.shape[1:], strides, strict=True)]
            attributes["auto_pad"] = auto_pad
        else:
            pads = list(pads or [0] * 2 * rank)
            sizes = [(d + pads[i] + pads[rank + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
                     for i, d in enumerate(x.shape[1:])]
            attributes |= {"auto_pad": auto_pad} if auto_pad else {"pads": pads}
        name = self.one("Conv", inputs, kernel_shape=list(kernel), strides=strides, dilations=dilations, group=group,
                        **attributes)
        return Tensor(name, (channels, *sizes))

    def batch_norm(self, x: Tensor) -> Tensor:
        """BatchNormalization in inference form."""
        c = x.shape[0]
        parameters = [1 + self.normal(c, scale=0.2), self.normal(c, scale=0.2), self.normal(c, scale=0.2),
                      0.5 + self.rng.random(c).astype(np.float32)]
        return self.same("BatchNormalization", x, *(self.constant(p, "norm") for p in parameters))
