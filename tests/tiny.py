"""Tiny models written as ONNX text, with random weights where the text gives no numbers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import ModelProto, numpy_helper

CONV = """(float[N,3,8,8] x) => (float[N,5] y) <float[4,3,3,3] w, float[4] b, float[5,64] v, float[5] u> {
    a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b)  r = Relu(a)  f = Flatten(r)  y = Gemm<transB=1>(f, v, u) }"""
"""Convolution, ReLU, linear layer; 5 answers for images of (3, 8, 8)."""


def model(text: str = CONV, opset: int = 20, ir_version: int = 10, more: str = "", seed: int = 0) -> ModelProto:
    """The model of a text.

    Args:
        text: from ``(inputs) => (outputs)`` to the end; float values declared between angle brackets without numbers
            become random weights.
        opset: of the default domain.
        ir_version: of the file.
        more: domains to import besides, such as ``"custom" : 1``.
        seed: of the weights.
    """
    imports = ", ".join([f'"" : {opset}', *([more] if more else [])])
    proto = onnx.parser.parse_model(f"<ir_version: {ir_version}, opset_import: [{imports}]> g {text}")
    rng = np.random.default_rng(seed)
    computed = {name for node in proto.graph.node for name in node.output}
    for value in [v for v in proto.graph.value_info if v.name not in computed]:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        array = np.asarray(rng.standard_normal(shape), onnx.helper.tensor_dtype_to_np_dtype(
            value.type.tensor_type.elem_type))
        array = np.abs(array) if value.name.startswith("var") else array
        proto.graph.initializer.append(numpy_helper.from_array(array, value.name))
        proto.graph.value_info.remove(value)
    return proto


def initializer(proto: ModelProto, name: str) -> onnx.TensorProto:
    """An initializer, to be changed."""
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def with_values(proto: ModelProto, **arrays: np.ndarray) -> ModelProto:
    """The model with other values in some initializers."""
    for name, array in arrays.items():
        initializer(proto, name).CopyFrom(numpy_helper.from_array(np.asarray(array, order="C"), name))
    return proto


def values(proto: ModelProto, name: str) -> np.ndarray:
    """The values of an initializer."""
    return numpy_helper.to_array(initializer(proto, name))


def outside(proto: ModelProto, name: str, location: str, **entries: object) -> ModelProto:
    """The model with an initializer's data said to lie in another file."""
    tensor = initializer(proto, name)
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return proto


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}
