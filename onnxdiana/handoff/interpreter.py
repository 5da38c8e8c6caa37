"""An int32 interpreter of HTVM's dialect: what its compiler makes of ``htvm/model.onnx``, exact for every accumulator.

The file types every tensor float32; which integers a tensor holds follows from its place in a pattern
(docs/htvm-dialect.md, 2). Here each tensor carries that place as a :class:`Kind`, each operator says which kinds it
takes, and anything else is refused:

=============  ====================================================================================================
input          Div (optional) -> Floor -> Max -> Min, directly on the graph input, in float32; then int8
requantizer    the same behind Conv, Gemm, MatMul, Add: Div by 2**k is an arithmetic shift right of the int32
               accumulator, on which a Relu or Identity may work first
analog core    behind a requantizer Mul and Add of constants in int16, then a requantizer again
mean           GlobalAveragePool -> Flatten -> Floor -> Max -> Min: int32 sum, division that truncates as C's does
int8           MaxPool, Relu, Flatten, Reshape, Transpose, Pad, Slice, Resize, Identity, Concat
output         Div directly behind a Min: HTVM casts to float32 only there (``DianaOnnxCorrectDequant``)
float32        behind that Div, the operators on int8 again, Concat apart: they move values and keep them exact
=============  ====================================================================================================

This module judges the exporter and so shares no code with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from onnxdiana.errors import CalibrationError, HandoffError
from onnxdiana.handoff.interpreter_operators import bind
from onnxdiana.handoff.interpreter_values import SHARED, Array, Kind, Refusal, Value
from onnxdiana.handoff.operators import DOMAINS, IR_VERSION, OPSETS

__all__ = ["Refusal", "run"]


def run(model: onnx.ModelProto, feed: Mapping[str, NDArray[Any]], fetch: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Compute one sample as HTVM's program does.

    Args:
        model: the hand-over graph.
        feed: float32 arrays of the inputs' shapes (batch 1), by name.
        fetch: further tensors to return.

    Returns:
        The output (float32), and the fetched tensors as the integers that they are: int8 codes, int32 accumulators.

    Raises:
        HandoffError: the graph is outside the dialect, an accumulator leaves int32, or a fetched tensor is not in it.
        CalibrationError: the feed does not fit the inputs.
    """
    opset, graph = _opset(model), model.graph
    values = _constants(graph)
    values |= _inputs(graph, feed)
    if len(values) != len(graph.initializer) + len(graph.input):
        raise HandoffError("graph: an initializer and an input share a name; needed: one definition a name")
    readers = Counter([name for node in graph.node for name in node.input] + [v.name for v in graph.output])
    for proto in graph.node:
        node, operator = bind(proto, values, opset)
        try:
            value = operator.compute(node)
        except (IndexError, MemoryError, ValueError) as error:  # numpy's, about shapes and axes
            shapes = [None if v is None else v.array.shape for v in node.inputs]
            raise node.error(f"shapes {shapes} ({error})", "operands that fit each other") from error
        if value.array.shape[:1] != (1,) or not value.array.size:
            raise node.error(f"a result of shape {value.array.shape}", "batch 1 as first axis, at least one element",
                             "E2")
        if value.kind not in SHARED and readers[node.output] != 1:
            raise node.error(f"{readers[node.output]} readers of {value.kind.value}", "exactly one")
        values[node.output] = value
    for name in fetch:
        if name not in values:
            raise HandoffError(f"graph: tensor '{name}' was asked for but is not in it; ask for one that is")
    result = graph.output[0]
    value = values[_output(result, values)]
    return {result.name: value.array} | {name: values[name].array for name in fetch}


def _opset(model: onnx.ModelProto) -> int:
    """Opset as HTVM's importer finds it: that of the first import, whatever its domain."""
    if not model.opset_import or model.opset_import[0].domain not in DOMAINS:
        raise HandoffError(f"graph: found opset imports {[o.domain for o in model.opset_import]}; "
                           "needed: the default domain first, from which HTVM takes the version")
    version = model.opset_import[0].version
    if version not in OPSETS or model.ir_version > IR_VERSION:
        raise HandoffError(f"graph: found opset {version}, IR version {model.ir_version}; "
                           f"needed: opset {OPSETS[0]} to {OPSETS[-1]}, IR version at most {IR_VERSION}")
    if model.functions or model.graph.sparse_initializer or len(model.graph.output) != 1:
        raise HandoffError(f"graph: found {len(model.graph.output)} outputs, {len(model.functions)} functions, "
                           f"{len(model.graph.sparse_initializer)} sparse initializers; needed: one output, no others")
    return int(version)


def _constants(graph: onnx.GraphProto) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for tensor in graph.initializer:
        if tensor.name in values or tensor.data_location == TensorProto.EXTERNAL:
            raise HandoffError(f"graph: initializer '{tensor.name}' is defined twice or lies in another file; "
                               "needed: one definition, inside the file")
        try:
            values[tensor.name] = Value(Kind.CONSTANT, numpy_helper.to_array(tensor))
        except (KeyError, TypeError, ValueError) as error:
            raise HandoffError(f"graph: initializer '{tensor.name}' cannot be read: {error}; write it again") from error
    return values


def _inputs(graph: onnx.GraphProto, feed: Mapping[str, Array]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for entry in graph.input:
        form = entry.type.tensor_type
        shape = tuple(d.dim_value for d in form.shape.dim)
        if form.elem_type != TensorProto.FLOAT or shape[:1] != (1,) or min(shape) < 1:
            raise HandoffError(f"graph: input '{entry.name}' has element type {form.elem_type}, shape {shape}; "
                               "needed: float32, a static shape with batch 1")
        array = feed.get(entry.name)
        if array is None or array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
            found = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
            raise CalibrationError(f"input '{entry.name}': found {found}; give finite float32 of shape {shape}")
        values[entry.name] = Value(Kind.INPUT, array)
    if set(feed) != set(values):
        raise CalibrationError(f"the feed names {sorted(feed)}, the graph's inputs are {sorted(values)}; give these")
    return values


def _output(result: onnx.ValueInfoProto, values: Mapping[str, Value]) -> str:
    """Name of the output, which leaves through a dequantizer in the shape that it declares."""
    value, form = values.get(result.name), result.type.tensor_type
    shape = tuple(d.dim_value for d in form.shape.dim)
    if value is None or value.kind is not Kind.REAL:
        found = "nothing" if value is None else value.kind.value
        raise HandoffError(f"graph: output '{result.name}' is {found}; needed: a Div directly behind a Min, without "
                           "which HTVM does not compile the graph")
    if form.elem_type != TensorProto.FLOAT or shape != value.array.shape:
        raise Refusal("E2", "graph", f"that output '{result.name}' declares element type {form.elem_type}, "
                      f"shape {shape}", f"float32, shape {value.array.shape}")
    return result.name
