"""Bias correction, measured on the integer model that is exported (docs/accuracy.md).

Layer by layer, the inputs being the codes of the layers already corrected: per channel, the mean of the float tensor
(clipped to the code range) minus the mean of the quantized one, after the clip, divided by the unsaturated share::

    b += 2**s * sum(target - y) / max(#unsaturated, 0.1 * #all)

three times over. What floor takes from every Add, pooling and input is absorbed by the bias behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxdiana import graph, numerics
from onnxdiana.graph import IrEmitter, name_of
from onnxdiana.integers import code_name
from onnxdiana.layers import Network
from onnxdiana.loading import OPSET
from onnxdiana.numerics import Rounding
from onnxdiana.reference import Walk
from onnxdiana.rules.ops import operator
from onnxdiana.rules.ops.base import ACCUMULATOR
from onnxdiana.runtime import CHUNK, Runner, length, take
from onnxdiana.scales import ScaleTable

ITERATIONS = 3
_LEAST_SHARE = 0.1
_MARGIN = 2**20
"""Corrected accumulators stay this far inside the int32 range, whatever the input."""


def target_means(network: Network, table: ScaleTable, samples: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Per-channel mean, in codes, of what each linear layer's output should be: the float tensor clipped to the codes.

    Returns:
        (C,) float64 arrays by name of the codes.
    """
    layers = [layer for layer in network.layers if layer.operator.weight(layer.node) is not None]
    runner = Runner(network.model, [name_of(layer.output) for layer in layers])
    sums: dict[str, NDArray[Any]] = {}
    count = length(samples)
    for start in range(0, count, CHUNK):
        values = runner.run(take(samples, start, start + CHUNK))
        for layer in layers:
            scale = table.tensors[name_of(layer.output)]
            real = np.clip(np.ldexp(values[name_of(layer.output)], -scale.scalar), *scale.codes)
            axes = (0, *range(2, real.ndim))
            name = code_name(layer.output)
            sums[name] = sums.get(name, 0.0) + real.sum(axis=axes, dtype=np.float64)
    return {
        code_name(layer.output): sums[code_name(layer.output)] / (count * _positions(layer.output)) for layer in layers
    }


def _positions(value: ir.Value) -> int:
    return int(np.prod(graph.sample_shape(value)[1:]))


@dataclass
class Progress:
    """A correction under way: the codes that are live, the biases found, the nodes done."""

    walk: Walk
    measure: bool = True
    """False: walk with the biases as they are."""
    biases: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    """Corrected biases by layer name."""
    done: set[ir.Node] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    """Output names of the nodes done, which is how another graph with the same beginning knows them."""

    def fork(self, integer: ir.Model) -> Progress:
        """The same state at the start of another graph that has the same nodes so far."""
        walk = Walk(integer, self.walk.codes, self.walk.rounding)
        names = set(self.names)
        done = {node for node in integer.graph if name_of(node.outputs[0]) in names}
        return Progress(walk, self.measure, dict(self.biases), done, names)


def start(
    integer: ir.Model, samples: Mapping[str, NDArray[Any]], rounding: Rounding, *, measure: bool = True
) -> Progress:
    """A correction before its first node."""
    return Progress(Walk(integer, samples, rounding), measure)


def correct(
    integer: ir.Model, targets: Mapping[str, NDArray[Any]], progress: Progress, until: set[str] | None = None
) -> None:
    """Correct the biases of an integer graph, from where ``progress`` stands.

    Args:
        integer: the graph with uncorrected biases.
        targets: of :func:`target_means`.
        progress: holds the samples' codes, and the biases found; changed.
        until: stop before the first node whose output has one of these names.
    """
    for node in integer.graph:
        if node in progress.done:
            continue
        name = name_of(node.outputs[0])
        if until and name in until:
            return
        op = operator(node)
        if op.requantizes:
            requantize = next(iter(node.outputs[0].uses())).node
            value = _corrected(node, requantize, targets, progress)
            progress.walk.store(node, np.empty(0), progress.done)
            progress.walk.store(requantize, value, progress.done)
            progress.names |= {name, name_of(requantize.outputs[0])}
        else:
            progress.walk.store(node, progress.walk.evaluate(node), progress.done)
            progress.names.add(name)


def _corrected(
    node: ir.Node, requantize: ir.Node, targets: Mapping[str, NDArray[Any]], progress: Progress
) -> NDArray[np.int8]:
    """Codes of a layer after its correction; the corrected bias goes into ``progress``."""
    name = name_of(requantize.outputs[0])
    shift, lo, hi = (graph.attribute(requantize, key) for key in ("shift", "lo", "hi"))
    acc = _accumulators(node, progress.walk)
    shape = (1, -1, *(1,) * (acc.ndim - 2))

    def codes(change: NDArray[Any]) -> Iterator[NDArray[np.int8]]:
        """Of a few samples at a time, with a change to the bias: (C,)."""
        offset = change.astype(np.int64).astype(np.int32).reshape(shape)  # may wrap, and the sum then wraps back
        for start in range(0, len(acc), CHUNK):
            yield numerics.requantize(acc[start:start + CHUNK] + offset, shift, lo, hi, progress.walk.rounding)

    change: NDArray[Any] = np.zeros(acc.shape[1])
    if operator(node).weight(node) is not None and progress.measure:
        weight, bias = (graph.required_constant(v) for v in node.inputs[1:3])
        limit = numerics.INT32_BOUND - _MARGIN - numerics.weight_bound(weight, -128, 127)
        per_channel = acc.size // acc.shape[1]
        for _ in range(ITERATIONS):
            total, inside = _statistics(codes(np.rint(change)), lo, hi)
            missing = targets[name] * per_channel - total
            change += 2.0**shift * missing / np.maximum(inside, _LEAST_SHARE * per_channel)
            change = np.clip(change, -limit - bias, limit - bias)
        corrected = numerics.in_float32(bias + np.rint(change).astype(np.int64))
        progress.biases[name_of(node.outputs[0]).removesuffix(ACCUMULATOR)] = corrected.astype(np.int32)
        change = corrected - bias
    return np.concatenate(list(codes(change)))


def _statistics(codes: Iterable[NDArray[np.int8]], lo: int, hi: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Per channel, the sum of all codes and how many are not saturated."""
    total, inside = np.int64(0), np.int64(0)
    for part in codes:
        axes = (0, *range(2, part.ndim))
        total = total + part.sum(axis=axes, dtype=np.int64)
        inside = inside + np.count_nonzero((part > lo) & (part < hi), axis=axes)
    return np.asarray(total), np.asarray(inside)


def _accumulators(node: ir.Node, walk: Walk) -> NDArray[np.int32]:
    """Accumulators of a node for all samples, bias included.

    In float32 by onnxruntime where they are below 2**24 and so exact; else by the reference.
    """
    op, source = operator(node), operator(node).codes(node)[0]
    x = walk.codes[name_of(source)]
    acc = np.empty((len(x), *graph.sample_shape(node.outputs[0])), np.int32)
    chunks = [slice(i, i + CHUNK) for i in range(0, len(x), CHUNK)]
    if op.weight(node) is None or op.bound(node, [(-128, 127)]) >= numerics.FLOAT32_EXACT:
        for chunk in chunks:
            acc[chunk] = walk.evaluate(node, chunk)
        return acc
    entry = graph.typed_input("x", ir.DataType.FLOAT, [graph.BATCH, *x.shape[1:]])
    model = graph.new_model([entry], {"": OPSET}, "layer", 10)
    result = op.emit_htvm(node, [entry], "accumulator", IrEmitter(model.graph))
    result.type, result.shape = ir.TensorType(ir.DataType.FLOAT), node.outputs[0].shape
    model.graph.outputs.append(result)
    runner = Runner(model)
    for chunk in chunks:
        acc[chunk] = runner.run({"x": x[chunk].astype(np.float32)})["accumulator"]
    return acc
