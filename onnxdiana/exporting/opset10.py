"""The hand-over graph at opset 10, which the original toolkit writes: Pad and Resize have other forms there."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from onnxdiana.errors import ConfigError, HandoffError
from onnxdiana.exporting.htvm import HTVM_OPSET
from onnxdiana.exporting.variants import copied, drop_unread

OPSETS = (10, HTVM_OPSET)
"""At which a hand-over graph can be written."""
_UNCHANGED = frozenset({
    "Add", "Cast", "Conv", "Div", "Flatten", "Floor", "GlobalAveragePool", "Identity", "Max", "MaxPool", "Min", "Mul",
    "Relu", "Reshape", "Slice", "Transpose",
})
"""From opset 10 to 13 these got element types, and axes counted from behind, which are not written."""
_RESIZE = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}


class _Graph:
    """The graph being changed, and what its tensors are."""

    def __init__(self, model: onnx.ModelProto, before: onnx.ModelProto) -> None:
        """Args: model: to be changed; before: what it is a copy of."""
        self._before = before
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}

    def numbers(self, node: NodeProto, index: int) -> list[float]:
        """The values of a constant input; none where there is no such input or it is computed."""
        tensor = self._initializers.get(node.input[index]) if index < len(node.input) else None
        return [] if tensor is None else [float(number) for number in numpy_helper.to_array(tensor).reshape(-1)]

    def replace(self, name: str, array: NDArray[Any]) -> None:
        """Give an initializer other values."""
        self._initializers[name].CopyFrom(numpy_helper.from_array(array, name))

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """Of every tensor, at the opset that the graph had."""
        inferred = onnx.shape_inference.infer_shapes(self._before, data_prop=True).graph
        return {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
                for value in (*inferred.input, *inferred.value_info, *inferred.output)}


def at_opset(htvm: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The same graph at another opset.

    Args:
        htvm: written at opset 13; not changed.
        opset: 10 or 13.

    Raises:
        ConfigError: another opset was asked for.
        HandoffError: a node has no form at this opset; says which.
    """
    if opset not in OPSETS:
        raise ConfigError(f"handoff_opset: {opset!r}; it takes {' or '.join(map(str, OPSETS))}")
    model = copied(htvm)
    if opset == HTVM_OPSET:
        return model
    graph = _Graph(model, htvm)
    for node in model.graph.node:
        if node.op_type in _UNCHANGED:
            continue
        form = _FORMS.get(node.op_type)
        if form is None or not form(node, graph):
            raise HandoffError(f"{node.op_type} -> '{node.output[0]}': it has no form at opset {opset}; write the "
                               f"hand-over graph at opset {HTVM_OPSET}")
    drop_unread(model.graph)
    model.opset_import[0].version = opset
    onnx.checker.check_model(model)
    return model


def _pad(node: NodeProto, graph: _Graph) -> bool:
    """Pads and value were attributes."""
    pads, value = graph.numbers(node, 1), graph.numbers(node, 2)
    if not pads or len(node.input) != 2 + len(value):
        return False
    node.attribute.append(helper.make_attribute("pads", [int(pad) for pad in pads]))
    node.attribute.extend(helper.make_attribute("value", number) for number in value)
    del node.input[1:]
    return True


def _resize(node: NodeProto, graph: _Graph) -> bool:
    """It took scales alone; nearest was asymmetric then, and took the floor where a map grows."""
    form = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    sizes, before = graph.numbers(node, 3), graph.shapes.get(node.input[0], [])
    if form != _RESIZE or not sizes or len(sizes) != len(before) or 0 in before:
        return False
    scales = [size / old for size, old in zip(sizes, before, strict=True)]
    if not all(scale.is_integer() for scale in scales):
        return False
    name = node.input[2]
    graph.replace(name, np.array(scales, np.float32))
    del node.input[1:], node.attribute[:]
    node.input.append(name)
    node.attribute.append(helper.make_attribute("mode", "nearest"))
    return True


def _gemm(node: NodeProto, graph: _Graph) -> bool:
    """Its bias was no option."""
    return len(node.input) == 3


def _concat(node: NodeProto, graph: _Graph) -> bool:
    """Its axis was not counted from behind."""
    for attribute in node.attribute:
        if attribute.name == "axis" and attribute.i < 0:
            attribute.i += len(graph.shapes[node.output[0]])
    return True


_FORMS: dict[str, Callable[[NodeProto, _Graph], bool]] = {
    "Concat": _concat, "Gemm": _gemm, "Pad": _pad, "Resize": _resize,
}
"""What makes a node that changed the older one; False where there is none."""
