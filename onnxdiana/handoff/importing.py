"""A file's graph as HTVM's importer sees it: constants folded, nodes that no output needs left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnxdiana.handoff.nodes import Graph, Node
from onnxdiana.handoff.operators import DOMAINS

Array = NDArray[Any]

_FOLDED = {"Identity": 1, "Reshape": 2, "Transpose": 1}
"""Inputs of the operators that are folded here; HTVM folds every one whose inputs are constants."""
_MOST_BYTES = 2**26
"""Of folded constants: a file may read one many times. All weights for a chip with 512 kB take far less."""
_MOST_NAMED = 4


def importable(graph: Graph) -> tuple[Graph, list[str]]:
    """The graph as HTVM's importer sees it, and a note on what it leaves out.

    ``Constant`` nodes are initializers, as are Identity, Reshape and Transpose of constants; inputs that have an
    initializer are no inputs; nodes that no output needs are not there. The argument is not changed.
    """
    live = _live(graph)
    dead = [node for node in graph.nodes if node.index not in live]
    if not live:  # a finding says so
        live, dead = {node.index for node in graph.nodes}, []
    constants = [node for node in graph.nodes if _is_tensor(node)]
    folded = _fold(graph)
    if not dead and not constants and not folded and len(graph.inputs) == len(graph.model.graph.input):
        return graph, []
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.node[:], model.graph.input[:]
    model.graph.input.extend(graph.inputs)
    for node in constants:
        model.graph.initializer.add().CopyFrom(node.attributes["value"])
        model.graph.initializer[-1].name = node.output
    live -= {node.index for node in constants}
    live -= {graph.producers[name].index for name in folded}
    model.graph.node.extend(graph.model.graph.node[index] for index in sorted(live))
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in folded.items()
                                   if name in read)
    return Graph(model), [_note(dead)] if dead else []


def _note(dead: list[Node]) -> str:
    if len(dead) == 1:
        return f"a node that no output needs, {dead[0].where}; HTVM leaves it out"
    rest = f" and {len(dead) - _MOST_NAMED} more" if len(dead) > _MOST_NAMED else ""
    named = ", ".join(node.where for node in dead[:_MOST_NAMED])
    return f"{len(dead)} nodes that no output needs, {named}{rest}; HTVM leaves them out"


def _is_tensor(node: Node) -> bool:
    return node.op_type == "Constant" and len(node.outputs) == 1 and isinstance(
        node.attributes.get("value"), onnx.TensorProto)


def _live(graph: Graph) -> set[int]:
    """Indices of the nodes that an output needs; all of one name, should there be several."""
    makers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for output in node.outputs:
            makers.setdefault(output, []).append(node)
    live: set[int] = set()
    names = list(graph.outputs)
    while names:
        for node in makers.pop(names.pop(), ()):
            if node.index not in live:
                live.add(node.index)
                names += node.inputs
    return live


def _fold(graph: Graph) -> dict[str, Array]:
    """Outputs of nodes on constants alone, where they have a form that is known; of the others findings tell."""
    owners = Counter([*(name for node in graph.nodes for name in node.outputs),
                      *(tensor.name for tensor in graph.model.graph.initializer),
                      *(value.name for value in graph.inputs), *graph.outputs])
    known, folded, size = dict(graph.constants), dict[str, Array](), 0
    for node in graph.nodes:
        if len(node.inputs) != _FOLDED.get(node.op_type) or node.domain not in DOMAINS \
                or len(node.outputs) != 1 or owners[node.output] > 1 or any(name not in known for name in node.inputs):
            continue
        array = _folded(node, known)
        if array is not None and (size := size + array.nbytes) <= _MOST_BYTES:
            known[node.output] = folded[node.output] = array
    return folded


def _folded(node: Node, known: Mapping[str, Array]) -> Array | None:
    """What a node makes of constants, or None."""
    x, form = known[node.inputs[0]], dict(node.attributes)
    perm = form.pop("perm", None) if node.op_type == "Transpose" else None
    if form or x.dtype.kind not in "fiub":
        return None
    try:
        if node.op_type == "Transpose":
            return x.transpose(perm)
        if node.op_type == "Identity":
            return x
        target = known[node.inputs[1]]
        if target.dtype != np.int64 or target.ndim != 1:
            return None
        return x.reshape([x.shape[i] if size == 0 else int(size) for i, size in enumerate(target)])
    except (IndexError, TypeError, ValueError):
        return None
