"""Three networks quantized into folders, and devices that compute them with a fault, independently of the catalogue."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import small_networks
import tiny
from numpy.typing import NDArray

from onnxdiana import Config, graph, quantize
from onnxdiana.check.folder import read
from onnxdiana.check.parts import Parts, read_parts
from onnxdiana.exporting.bundle import vectors
from onnxdiana.graph import name_of
from onnxdiana.reference import Walk
from onnxdiana.rules.ops import operator

Array = NDArray[np.generic]

PLAIN = """(float[N,3,12,10] x) => (float[N,12] y)
    <float[8,3,3,3] w0, float[8] b0, float[20,8,3,3] w1, float[20] b1, float[12,600] w2, float[12] b2> {
    c0 = Conv<pads=[1,1,1,1]>(x, w0, b0)
    r0 = Relu(c0)
    c1 = Conv<pads=[1,1,1,1], strides=[2,2]>(r0, w1, b1)
    r1 = Relu(c1)
    f = Flatten(r1)
    y = Gemm<transB=1>(f, w2, b2)
}"""
"""Convolutions with ReLU and bias."""

RESIDUAL = """(float[N,3,8,8] x) => (float[N,8] y)
    <float[8,3,3,3] w0, float[8] b0, float[8,8,3,3] w1, float[8] b1, float[8,8,3,3] w2, float[8] b2,
     float[8,128] w3, float[8] b3> {
    c0 = Conv<pads=[1,1,1,1]>(x, w0, b0)
    r0 = Relu(c0)
    c1 = Conv<pads=[1,1,1,1]>(r0, w1, b1)
    r1 = Relu(c1)
    c2 = Conv<pads=[1,1,1,1]>(r1, w2, b2)
    s = Add(c2, r0)
    r2 = Relu(s)
    m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r2)
    f = Flatten(m)
    y = Gemm<transB=1>(f, w3, b3)
}"""
"""A residual add, max pool."""

DEPTHWISE = """(float[N,2,10,6] x) => (float[N,12] y)
    <float[12,2,3,3] w0, float[12] b0, float[12,1,3,3] w1, float[12] b1, float[24,12,1,1] w2, float[24] b2,
     float[12,24] w3, float[12] b3> {
    c0 = Conv<pads=[1,1,1,1]>(x, w0, b0)
    r0 = Relu(c0)
    c1 = Conv<pads=[1,1,1,1], group=12>(r0, w1, b1)
    r1 = Relu(c1)
    c2 = Conv(r1, w2, b2)
    r2 = Relu(c2)
    g = GlobalAveragePool(r2)
    f = Flatten(g)
    y = Gemm<transB=1>(f, w3, b3)
}"""
"""A depthwise convolution, a global average pool, a linear head."""

NETWORKS = {"plain": (PLAIN, (3, 12, 10)), "residual": (RESIDUAL, (3, 8, 8)), "depthwise": (DEPTHWISE, (2, 10, 6))}

EVERY = "every"
LOUD = 2
"""The sample at which layers saturate."""
Change = Callable[["Place"], Array]


@dataclass(frozen=True)
class Place:
    """A requantizer of a device, where a fault may sit."""

    accumulator: Array
    shift: int
    lo: int
    hi: int
    half: int
    bias: Array | None
    inputs: list[Array]
    node: ir.Node


def settled(name: str) -> small_networks.onnx.ModelProto:
    """A network whose activations keep their size."""
    proto = tiny.model(NETWORKS[name][0])
    rng = np.random.default_rng(3)
    arrays = {}
    for tensor in proto.graph.initializer:
        shape = tuple(tensor.dims)
        size = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.2
        values = size * rng.standard_normal(shape)
        if name == "residual" and tensor.name in ("w1", "w2"):  # nearly the identity, so that the sum needs a shift
            values *= 0.2
            values[range(8), range(8), 1, 1] += 1
        arrays[tensor.name] = values.astype(np.float32)
    return tiny.with_values(proto, **arrays)


def write(name: str, folder: Path, samples: int = 3) -> None:
    """A folder of a network, with the vectors of so many samples."""
    rng = np.random.default_rng(4)
    data = rng.standard_normal((24, *NETWORKS[name][1])).astype(np.float32)
    quantize(settled(name), data, folder, config=Config(vectors=samples))
    if samples > LOUD:
        _amplify(folder / "vectors" / str(LOUD), *_parts(folder))


def _parts(folder: Path) -> tuple[Parts, dict[str, str]]:
    """What is in a folder, and the stems of its intermediates by name."""
    parts, _ = read_parts(read(folder))
    assert parts is not None
    manifest = json.loads((folder / "htvm" / "manifest.json").read_text("utf-8"))
    return parts, {name: file.removesuffix(".npy") for file, name in manifest["intermediates"].items()}


def _amplify(place: Path, parts: Parts, stems: dict[str, str]) -> None:
    """Vectors of a sample at which layers saturate, which they hardly do on calibration data."""
    x = 4 * np.load(place / "input.npy")
    sample = {name_of(parts.integer.graph.inputs[0]): x}
    for file, data in vectors(parts.integer, list(stems), sample, "float").items():
        (place / file).write_bytes(data)


class Device:
    """Computes a folder's network on one of its samples; with a fault in one layer, all behind it is wrong, too."""

    def __init__(self, folder: Path, sample: int = 0) -> None:
        self.parts, self._stems = _parts(folder)
        self.names = list(self._stems)
        self.entry = name_of(self.parts.integer.graph.inputs[0])
        place = folder / "htvm" if sample == 0 else folder / "vectors" / str(sample)
        self.x = np.load(place / "input.npy")

    def run(self, at: str | None = None, change: Change | None = None,
            changes: Mapping[str, Change] | None = None) -> dict[str, Array]:
        """Codes of every tensor by the stem of its vector; the output as codes.

        Args:
            at: the tensor whose requantizer has the fault; all have it where it is ``every``.
            change: gives its codes.
            changes: of several.
        """
        if changes is None:
            changes = {} if change is None else dict.fromkeys(self.names[1:] if at == EVERY else [at], change)
        walk, found = Walk(self.parts.integer, {self.entry: self.x}), dict[str, Array]()
        halves = {f"{layer.name}.accumulator": 1 << self.parts.table.layers[layer.name].shift >> 1
                  if self.parts.table.layers[layer.name].rounding == "half_up" else 0
                  for layer in self.parts.view.layers}
        kept: dict[str, Array] = dict(walk.codes)
        for node in self.parts.integer.graph:
            name = name_of(node.outputs[0])
            if node.op_type == "Dequantize":
                found["output"] = walk.codes[name_of(node.inputs[0])].astype(np.int64)
                break
            if name in changes:
                maker = node.inputs[0].producer()
                biases = [graph.required_constant(v).astype(np.int64) for v in maker.inputs[2:3]]
                value = changes[name](Place(
                    walk.codes[name_of(node.inputs[0])].astype(np.int64), graph.attribute(node, "shift"),
                    graph.attribute(node, "lo"), graph.attribute(node, "hi"), halves[name_of(node.inputs[0])],
                    biases[0] if biases else None, [kept[name_of(v)] for v in operator(maker).codes(maker)], maker))
                value = value.astype(np.int64)
            else:
                value = walk.evaluate(node)
            walk.codes[name] = kept[name] = value if operator(node).requantizes else value.astype(np.int8)
            if name in self.names:
                found[self._stems[name]] = np.asarray(value).astype(np.int64)
        return found

    def stem(self, tensor: str) -> str:
        """Of a tensor's vector."""
        return self._stems[tensor]

    def _quantizer(self, tensor: str) -> ir.Node:
        return next(node for node in self.parts.integer.graph if name_of(node.outputs[0]) == tensor)

    def lower_bound(self, tensor: str) -> int:
        """Of its codes."""
        return int(graph.attribute(self._quantizer(tensor), "lo"))

    def shape(self, tensor: str) -> tuple[int, ...]:
        """With the batch."""
        return (1, *graph.sample_shape(self._quantizer(tensor).outputs[0]))

    def is_sum(self, tensor: str) -> bool:
        """Whether an Add makes it."""
        return bool(self._quantizer(tensor).inputs[0].producer().op_type == "Add")

    def has_border(self, tensor: str) -> bool:
        """Whether a convolution with padding makes it."""
        return any(graph.attribute(self._quantizer(tensor).inputs[0].producer(), "pads", []))


def save(folder: Path, tensors: Mapping[str, Array], form: str = "npy") -> Path:
    """A dump of codes, a file a tensor, in one of the forms that devices write."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, codes in tensors.items():
        write_one(folder / f"{stem}{SUFFIX[form]}", codes, form)
    return folder


SUFFIX = {"npy": ".npy", "float": ".npy", "unsigned": ".npy", "wide": ".npy", "raw": ".bin", "bare": "", "text": ".txt",
          "csv": ".csv", "hex": ".txt", "indexed": ".log", "named": ".txt", "c": ".h"}
"""Of a file in each form."""


def write_one(path: Path, codes: Array, form: str) -> Path:
    """One tensor."""
    flat, narrow = codes.reshape(-1), codes.astype(np.int8)
    numbers = narrow.reshape(-1).tolist()
    match form:
        case "npy":
            np.save(path, narrow)
        case "float":
            np.save(path, codes.astype(np.float32))
        case "wide":
            np.save(path, codes.astype(np.int32))
        case "unsigned":
            np.save(path, narrow.view(np.uint8))
        case "raw" | "bare":
            path.write_bytes(narrow.tobytes())
        case "text":
            path.write_text("\n".join(map(str, numbers)))
        case "csv":
            path.write_text("\n".join(",".join(map(str, row)) for row in narrow.reshape(flat.size // 4, 4)))
        case "hex":
            path.write_text(" ".join(f"0x{number & 255:02x}" for number in numbers))
        case "indexed":
            path.write_text("\n".join(f"[{i}]: {number}" for i, number in enumerate(numbers)))
        case "named":
            path.write_text(f"{path.stem}:\n" + " ".join(map(str, numbers)) + "\n")
        case "c":
            path.write_text(f"#include <stdint.h>\n/* codes */\nconst int8_t g_{path.stem}[{flat.size}] = {{\n"
                            + ",".join(map(str, numbers)) + "};\n")
    return path
