"""Every model of one quantized network, as it goes to disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir

from onnxdiana import padding
from onnxdiana.choices import Plan
from onnxdiana.exporting.files import serialize, sha256
from onnxdiana.exporting.htvm import HTVM_OPSET, arrange, handed_names, handoff_obstacles, htvm_model
from onnxdiana.exporting.integer import INTEGER_OPSET, integer_model
from onnxdiana.exporting.opset10 import at_opset
from onnxdiana.exporting.qdq import fake_quantize
from onnxdiana.integers import Parameters
from onnxdiana.layers import Network
from onnxdiana.scales import ScaleTable
from onnxdiana.tail import Tail


@dataclass(frozen=True)
class Spellings:
    """The models of one quantized network, as they go to disk."""

    model_float: bytes
    table: ScaleTable
    fake: onnx.ModelProto
    integer: onnx.ModelProto
    htvm: onnx.ModelProto | None
    """With a float input, whatever the one on disk has."""
    handed: tuple[str, ...]
    """Tensors with codes that it shares with the integer graph, in execution order, the input's first."""
    obstacles: tuple[str, ...]
    own: Mapping[str, int] = field(default_factory=dict)
    """Of tensors with rows that were added, how many are the network's own."""


def spell(
    view: Network, tail: Tail, table: ScaleTable, integer: ir.Model, parameters: Mapping[str, Parameters],
    fake: Mapping[str, Parameters], metadata: dict[str, str], plan: Plan, opset: int = HTVM_OPSET,
) -> Spellings:
    """Write every model: a function of the canonical graph, the table, the parameters and the choices alone.

    Args:
        view, tail, table, integer, parameters, fake: the quantized network.
        metadata: string properties of the two models for onnxruntime.
        plan: of the hand-over graph.
        opset: of the hand-over graph.
    """
    model_float = serialize(ir.to_proto(tail.behind(view.model)))
    obstacles = tuple(handoff_obstacles(integer, plan.forms))
    arranged = None if obstacles else arrange(integer, plan.forms)
    htvm = None if arranged is None else at_opset(htvm_model(arranged), opset)
    return Spellings(
        model_float, table.replace(model_sha256=sha256(model_float)),
        ir.to_proto(tail.behind(fake_quantize(view, table, fake, metadata))),
        ir.to_proto(tail.behind(integer_model(integer, metadata, tail.opset(INTEGER_OPSET)))),
        htvm, () if arranged is None else tuple(handed_names(integer, arranged)), obstacles,
        padding.own_rows(view, plan.own),
    )
