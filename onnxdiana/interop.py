"""Models to and from onnx-graphsurgeon: names, opsets, weights, types and open axes survive the round trip."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs
import onnx_ir as ir

from onnxdiana.graph import is_default_domain
from onnxdiana.loading.checks import IR_VERSION


def to_graphsurgeon(model: ir.Model | onnx.ModelProto) -> gs.Graph:
    """A graph for onnx-graphsurgeon that shares nothing with the model.

    Metadata, documentation strings of nodes, and attributes that hold types do not exist there.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(ir.to_proto(model) if isinstance(model, ir.Model) else model)
    return gs.import_onnx(proto)


def from_graphsurgeon(graph: gs.Graph) -> ir.Model:
    """The model of a graph, nodes in an order in which they can run; the graph is left as it is.

    Raises:
        ValueError: the nodes form a cycle.
    """
    imports = {"": graph.opset}
    for entry in graph.import_domains or ():
        if not is_default_domain(entry.domain):
            imports[entry.domain] = entry.version
    for node in graph.nodes:  # in order: onnx-graphsurgeon goes through a set
        if node.domain and not is_default_domain(node.domain):
            imports.setdefault(node.domain, 1)
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in imports.items()]
    proto = onnx.ModelProto()
    proto.CopyFrom(gs.export_onnx(graph, do_type_check=False, ir_version=IR_VERSION, opset_imports=opsets))
    model = ir.from_proto(proto)
    model.graph.sort()
    return model
