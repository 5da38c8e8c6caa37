"""Operators that onnx's version converter gets wrong or does not know, said in words that mean the same at ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxdiana.errors import ModelError
from onnxdiana.graph import Namer
from onnxdiana.loading.checks import NARROWED, OPSET
from onnxdiana.loading.walk import bodies, where

Body = GraphProto | FunctionProto
Array = NDArray[Any]

_FEW = 16
"""Elements of what may be scales."""
_SWISH = 24
"""The opset that brought it."""
_FLOATS = frozenset({0, TensorProto.FLOAT, *NARROWED})
_NEUTRAL: Mapping[tuple[str, str], frozenset[Any] | None] = {
    ("Cast", "round_mode"): None,  # says how to round to a type that is refused
    ("CastLike", "round_mode"): None,
    ("DequantizeLinear", "block_size"): frozenset({0}),
    ("DequantizeLinear", "output_dtype"): _FLOATS,  # all become float32
    ("QuantizeLinear", "block_size"): frozenset({0}),
    ("QuantizeLinear", "output_dtype"): frozenset({0}),
    ("QuantizeLinear", "precision"): _FLOATS,
    ("Range", "stash_type"): None,  # of types that become float32
    ("SpaceToDepth", "mode"): frozenset({b"DCR"}),
}
"""Attributes that operators got after our opset, and the values that mean what their absence does (None: all)."""
_OTHERWISE: Mapping[str, range] = {
    "GroupNormalization": range(OPSET + 1, 2**31),  # scale and bias count channels, not groups
    "Hardmax": range(13),  # over all axes from its own on
    "MeanVarianceNormalization": range(2**31),  # onnx's shape inference fails on it
}
"""Opsets at which an operator cannot be taken for ours, and why."""


def adapt(proto: ModelProto, opset: int) -> None:
    """Rewrite in place what can be said at any opset; :func:`foreign` tells what is left.

    Args:
        proto: changed in place.
        opset: that the model was made for.

    Raises:
        ModelError: a normalization is in training mode.
    """
    standard = {function.name for function in proto.functions if not function.domain}
    for body in list(bodies(proto)):
        version, unique, ranks = opset_of(body, opset), _namer(body), _ranks(body)
        nodes: list[NodeProto] = []
        for node in body.node:
            new = [node]
            if not node.domain and node.op_type not in standard:
                if node.op_type == "BatchNormalization" and version < 14:
                    new = _batch_norm(node, ranks, unique)
                elif node.op_type == "Swish" and version >= _SWISH and len(node.input) == len(node.output) == 1:
                    new = _swish(node, unique)
                elif version > OPSET:
                    _drop_neutral(node)
            nodes.extend(new)
        if len(nodes) > len(body.node):
            copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del body.node[:]
            body.node.extend(copies)


def foreign(node: NodeProto, version: int, known: Mapping[str, Array] | None) -> bool:
    """Whether an operator of ONNX means something at its opset that ours cannot say.

    Args:
        node: of ONNX's own domain.
        version: of that domain, where the node stands.
        known: the :func:`constants` around it; None in a function.
    """
    if version in _OTHERWISE.get(node.op_type, ()):
        return True
    if version > OPSET:
        return any((node.op_type, attribute.name) in _NEUTRAL for attribute in node.attribute)
    if node.op_type in ("Upsample", "Resize") and version < 11:
        return known is None or nearest_mode(node, known) is None
    return False


def opset_of(body: Body, opset: int) -> int:
    """The version of ONNX's own domain that a body is written in: a function may import another than its model."""
    if isinstance(body, FunctionProto):
        return next((entry.version for entry in body.opset_import if not entry.domain), opset)
    return opset


def constants(graph: GraphProto) -> dict[str, Array]:
    """Small initializers and Constant nodes that hold a tensor, by name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors |= {node.output[0]: a.t for node in graph.node if node.op_type == "Constant" and not node.domain
                for a in node.attribute if a.name == "value" and a.HasField("t") and node.output}
    return {name: numpy_helper.to_array(t) for name, t in tensors.items() if math.prod(t.dims) <= _FEW}


def nearest_mode(node: NodeProto, known: Mapping[str, Array]) -> str | None:
    """How Upsample, and Resize of opset 10, round when they take the nearest pixel: as onnxruntime does.

    Down where they enlarge, up where they reduce; None for both at once, which no later opset can say. Scales that are
    computed are taken to enlarge.
    """
    scales = known.get(node.input[1]) if len(node.input) > 1 else None
    linear = any(a.name == "mode" and a.s == b"linear" for a in node.attribute)
    if node.op_type == "Upsample" or linear or scales is None or (scales >= 1).all():
        return "floor"
    return None if (scales > 1).any() else "ceil"


def resizes(graph: GraphProto, opset: int) -> dict[str, str]:
    """Outputs of the Upsample and Resize nodes that the converter gets wrong, and how they round."""
    if opset >= 11:
        return {}
    known = constants(graph)
    return {node.output[0]: nearest_mode(node, known) or "floor" for node in graph.node
            if node.op_type in ("Upsample", "Resize") and not node.domain}


def repair_resizes(graph: GraphProto, rounding: Mapping[str, str]) -> None:
    """Before opset 11 pixels had no centers: the converter forgets to say so."""
    for node in graph.node:
        if node.op_type == "Resize" and node.output[0] in rounding:
            kept = [AttributeProto.FromString(a.SerializeToString()) for a in node.attribute if a.name == "mode"]
            del node.attribute[:]
            node.attribute.extend(kept)
            for name, value in (("coordinate_transformation_mode", "asymmetric"),
                                ("nearest_mode", rounding[node.output[0]])):
                node.attribute.append(helper.make_attribute(name, value))


def _drop_neutral(node: NodeProto) -> None:
    for attribute in [a for a in node.attribute if (node.op_type, a.name) in _NEUTRAL and not a.ref_attr_name]:
        values = _NEUTRAL[node.op_type, attribute.name]
        if values is None or (attribute.s or attribute.i) in values:
            node.attribute.remove(attribute)


def _swish(node: NodeProto, unique: Callable[[str], str]) -> list[NodeProto]:
    """``Swish(x) = x * Sigmoid(alpha * x)``."""
    x, y = node.input[0], node.output[0]
    inner, result = x, []
    if node.attribute:
        alpha, inner = unique(f"{y}.alpha"), unique(f"{y}.scaled")
        constant = helper.make_node("Constant", [], [alpha])
        constant.attribute.extend(node.attribute)  # perhaps a reference to a function's parameter
        constant.attribute[0].name = "value_float"
        result = [constant, helper.make_node("Mul", [x, alpha], [inner])]
    gate = unique(f"{y}.gate")
    return [*result, helper.make_node("Sigmoid", [inner], [gate]), helper.make_node("Mul", [x, gate], [y])]


def _batch_norm(node: NodeProto, ranks: Mapping[str, int], unique: Callable[[str], str]) -> list[NodeProto]:
    """``spatial=0``, of opsets 7 and 8: ``(x - mean) / sqrt(var + epsilon) * scale + bias``, each element by its own.

    Of parameters with one axis it says nothing.

    Raises:
        ModelError: it returns statistics, which is how it was told to compute them from the batch.
    """
    if any(node.output[1:]):
        raise ModelError(f"{where(node)} is in training mode, where answers depend on the batch: export the model for "
                         "inference, in PyTorch after model.eval()")
    spatial = next((a for a in node.attribute if a.name == "spatial" and a.type == AttributeProto.INT), None)
    if spatial is None or spatial.i != 0 or len(node.input) != 5 or len(node.output) != 1:
        return [node]
    x, scale, bias, mean, var = node.input
    if ranks.get(scale) == 1:
        node.attribute.remove(spatial)
        return [node]
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    y = node.output[0]
    small, sum_, root, centered, normal, scaled = (
        unique(f"{y}.{role}") for role in ("epsilon", "var", "deviation", "centered", "normalized", "scaled"))
    tensor = numpy_helper.from_array(np.array(epsilon, np.float32))
    return [
        helper.make_node("Constant", [], [small], value=tensor), helper.make_node("Add", [var, small], [sum_]),
        helper.make_node("Sqrt", [sum_], [root]), helper.make_node("Sub", [x, mean], [centered]),
        helper.make_node("Div", [centered, root], [normal]), helper.make_node("Mul", [normal, scale], [scaled]),
        helper.make_node("Add", [scaled, bias], [y]),
    ]


def _ranks(body: Body) -> dict[str, int]:
    """Numbers of axes of weights: large ones are inputs for now."""
    if isinstance(body, FunctionProto):
        return {}
    return {value.name: len(value.type.tensor_type.shape.dim) for value in body.input} | {
        tensor.name: len(tensor.dims) for tensor in body.initializer}


def _namer(body: Body) -> Callable[[str], str]:
    """Gives names that are free in a body."""
    names = [name for node in body.node for name in (*node.input, *node.output)]
    if isinstance(body, GraphProto):
        names += [value.name for value in (*body.input, *body.value_info)] + [t.name for t in body.initializer]
    else:
        names += body.input
    return Namer(names)
