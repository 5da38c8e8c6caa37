"""``Resize(x, nearest) -> Resize(x)`` that repeats every element, or Slice, or Gather: what takes the same elements.

Which ones, the node's own rule says for every place of the result, in float32 as onnxruntime computes it. Canonical are
``asymmetric``, ``floor`` and whole scales of the map's axes: ``y[i] = x[i // s]``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxdiana import graph
from onnxdiana.rules.canonicalize.base import Array, is_constant, is_operator
from onnxdiana.rules.canonicalize.edits import Edits
from onnxdiana.rules.canonicalize.gather import strided, taken
from onnxdiana.rules.canonicalize.layout import Shape, static
from onnxdiana.rules.ops.resize import FORM as CANONICAL

_TIE = 1e-6


class NormalizeResize:
    """A plain loop; static sizes."""

    name = "resize"

    def apply(self, model: ir.Model) -> int:
        """Rewrite in place."""
        edits = Edits(model.graph)
        return sum(_rewrite(node, edits) for node in list(model.graph) if is_operator(node, "Resize"))


def _scales(node: ir.Node, shape: Shape, result: Shape) -> list[np.float32] | None:
    """Of every axis; None where they are not known, or follow another rule."""
    if graph.attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    scales, sizes = [*node.inputs, None, None][2:4]
    if sizes is not None:
        return [np.float32(after) / np.float32(before) for before, after in zip(shape, result, strict=True)]
    axes = graph.attribute(node, "axes", list(range(len(shape))))
    if not is_constant(scales) or graph.required_constant(scales).shape != (len(axes),):
        return None
    found = np.ones(len(shape), np.float32)
    found[axes] = graph.required_constant(scales)
    return list(found)


def places(before: int, after: int, scale: np.float32, mode: str, rounding: str) -> Array | None:
    """Index of the element that every place of the result is, along one axis; None for an unknown mode."""
    if scale == 1.0 and before == after:
        return np.arange(after)
    x, half = np.arange(after, dtype=np.float32), np.float32(0.5)
    if mode == "asymmetric":
        x = x / scale
    elif mode == "half_pixel" or (mode == "pytorch_half_pixel" and after > 1):
        x = (x + half) / scale - half
    elif mode == "pytorch_half_pixel" or (mode == "align_corners" and after == 1):
        x = x * np.float32(0.0)
    elif mode == "align_corners":
        x = x * np.float32(before - 1) / np.float32(after - 1)
    elif mode == "half_pixel_symmetric":
        adjustment = np.float32(after) / (scale * np.float32(before))
        offset = np.float32(before) / np.float32(2.0) * (np.float32(1.0) - adjustment)
        x = (np.float64(offset) + (x.astype(np.float64) + 0.5) / np.float64(scale) - 0.5).astype(np.float32)
    else:
        return None
    tie = np.rint(2 * x.astype(np.float64)) / 2
    near = np.where(np.abs(x - tie) < _TIE, tie, x)  # onnxruntime takes it for a tie that float32 missed
    rounded = {"round_prefer_floor": np.ceil(near - 0.5), "round_prefer_ceil": np.floor(near + 0.5),
               "floor": np.floor(x), "ceil": np.ceil(x)}.get(rounding)
    return None if rounded is None else np.clip(rounded, 0, before - 1).astype(np.int64)


def _rewrite(node: ir.Node, edits: Edits) -> bool:
    x, shape, result = node.inputs[0], static(node.inputs[0]), static(node.outputs[0])
    if x is None or shape is None or result is None or len(shape) != len(result):
        return False
    scales = _scales(node, shape, result)
    mode = graph.attribute(node, "coordinate_transformation_mode", "half_pixel")
    if scales is None or mode == "tf_crop_and_resize":
        return False
    if shape == result:  # onnxruntime copies, whatever the scales
        edits.become(node, "Identity", [x])
        return True
    if graph.attribute(node, "mode", "nearest") != "nearest" or shape[0] != result[0] or scales[0] != 1.0:
        return False
    found = [places(*sizes, mode, graph.attribute(node, "nearest_mode", "round_prefer_floor"))
             for sizes in zip(shape, result, scales, strict=True)]
    if None in [None if f is None else 0 for f in found]:
        return False
    own = {axis: indices for axis, indices in enumerate(found)
           if indices is not None and not np.array_equal(indices, np.arange(shape[axis]))}
    return _spell(node, x, own, shape, edits)


def _spell(node: ir.Node, x: ir.Value, own: dict[int, Array], shape: Shape, edits: Edits) -> bool:
    """Slices first, which make the tensor smaller, then what repeats, then the rest."""
    factors = {axis: len(indices) // shape[axis] for axis, indices in own.items() if axis > 1 and np.array_equal(
        indices, np.arange(len(indices)) // max(len(indices) // shape[axis], 1)) and len(indices) % shape[axis] == 0}
    slices = [axis for axis, indices in own.items() if axis not in factors and strided(indices) is not None]
    rest = [axis for axis in own if axis not in factors and axis not in slices]
    if factors.keys() == own.keys() and _is_canonical(node):
        return False
    if not own:
        edits.become(node, "Identity", [x])
        return True
    steps: list[Any] = [*slices, *([factors] if factors else []), *rest]
    for step in steps:
        role = None if step is steps[-1] else "resized"
        if isinstance(step, int):
            value = taken(node, x, step, own[step], role, edits)
        else:
            value = _repeated(node, x, step, role, edits)
        x = x if value is None else value
    return True


def _is_canonical(node: ir.Node) -> bool:
    absent = len(node.inputs) == 3 and node.inputs[1] is None and is_constant(node.inputs[2])
    return absent and graph.attributes(node) == CANONICAL


def _repeated(node: ir.Node, x: ir.Value, factors: dict[int, int], role: str | None, edits: Edits) -> ir.Value | None:
    shape = static(x)
    assert shape is not None
    scales = np.array([factors.get(axis, 1) for axis in range(len(shape))], np.float32)
    inputs = [x, None, edits.constant(f"{node.outputs[0].name}.scales", scales)]
    if role is None:
        edits.become(node, "Resize", inputs, **CANONICAL)
        return None
    sizes = [factors.get(axis, 1) * size for axis, size in enumerate(shape)]
    return edits.in_front(node, "Resize", inputs, role, sizes, **CANONICAL)


RULE = NormalizeResize()
