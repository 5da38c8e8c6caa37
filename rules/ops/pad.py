"""Pad in front of a layer: zeros that no Conv could take in, reflection, edge and wrap; runs on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Codes, Operator, T

_NUMPY_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def full_pads(node: ir.Node) -> list[int] | None:
    """Pads of every axis, begins then ends, or None where they are not constant."""
    pads = graph.constant(node.inputs[1])
    shape = graph.dims(node.inputs[0])
    if pads is None or shape is None:
        return None
    rank = len(shape)
    axes_input = node.inputs[3] if len(node.inputs) > 3 else None
    given = graph.constant(axes_input)
    if axes_input is not None and given is None:
        return None
    axes = list(range(rank)) if given is None else [int(a) % rank for a in given]
    if pads.ndim != 1 or pads.size != 2 * len(axes):
        return None
    full = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        full[axis], full[rank + axis] = int(pads[i]), int(pads[len(axes) + i])
    return full


class Pad(Operator):
    """Every mode of ONNX; zeros are code 0, since every exponent has zero point 0."""

    op_type = "Pad"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Constant, non-negative pads off the batch axis; constant mode pads with zero."""
        pads = full_pads(node)
        if pads is None:
            yield "the pads or their axes are computed in the graph; make them constants"
            return
        if min(pads) < 0:
            yield f"negative pads {pads} crop; use a slice"
        if pads[0] or pads[len(pads) // 2]:
            yield "the batch axis is padded; pad only the others"
        if graph.attribute(node, "mode", "constant") == "constant" and len(node.inputs) > 2:
            value = graph.constant(node.inputs[2])
            if node.inputs[2] is not None and (value is None or value.size != 1 or value.item() != 0.0):
                yield "pads with a value other than 0; only zero, reflect, edge and wrap padding are quantized"

    def code_range(self, node: ir.Node, inputs: Sequence[Codes]) -> Codes:
        """Zero joins the range in constant mode; the others repeat codes."""
        (lo, hi), = inputs
        return (min(lo, 0), max(hi, 0)) if graph.attribute(node, "mode", "constant") == "constant" else (lo, hi)

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """numpy's padding of the same name."""
        pads = full_pads(node)
        assert pads is not None
        rank = inputs[0].ndim
        widths = list(zip(pads[:rank], pads[rank:], strict=True))
        return np.pad(inputs[0], widths, mode=_NUMPY_MODES[graph.attribute(node, "mode", "constant")])  # type: ignore[call-overload,no-any-return]

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Pad on int8; wrap, which opset 18 has not, as a Gather an axis."""
        pads = full_pads(node)
        assert pads is not None
        mode = graph.attribute(node, "mode", "constant")
        if mode != "wrap":
            return emitter.add("Pad", [inputs[0], emitter.constant(f"{output}.pads", np.array(pads, np.int64))],
                               output, mode=mode)
        rank = len(pads) // 2
        size = (1, *graph.sample_shape(self.codes(node)[0]))
        value = inputs[0]
        axes = [a for a in range(1, rank) if pads[a] or pads[rank + a]]
        for axis in axes:
            positions = np.arange(-pads[axis], size[axis] + pads[rank + axis], dtype=np.int64) % size[axis]
            value = emitter.add("Gather", [value, emitter.constant(f"{output}.positions", positions)],
                                output if axis == axes[-1] else f"{output}.wrapped", axis=axis)
        return value if axes else emitter.add("Identity", [value], output)

    def emit_htvm(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """Pad of opset 13: a CPU operator, exact; the layer behind it stays on the CPU too."""
        pads = emitter.constant(f"{output}.pads", np.array(full_pads(node), np.int64))
        mode = graph.attribute(node, "mode", "constant")
        value = [emitter.constant(f"{output}.value", np.array(0, np.float32))] if mode == "constant" else []
        return emitter.add("Pad", [inputs[0], pads, *value], output, mode=mode)

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """TVM's importer has no wrap."""
        if graph.attribute(node, "mode", "constant") == "wrap":
            yield "circular padding, which HTVM's importer does not know; use zero, reflect or replicate padding"


OPERATOR = Pad()
