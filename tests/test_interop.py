"""To onnx-graphsurgeon and back: what survives, and that nothing is shared or loaded early."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnx_ir as ir
import pytest
import small_networks
import tiny

import onnxdiana
from onnxdiana import from_graphsurgeon, loading, to_graphsurgeon
from onnxdiana.runtime import Runner
from onnxdiana.shapes import infer_shapes


def plain(proto: onnx.ModelProto) -> tuple[list[str], dict[str, tuple], list[str], dict[str, int]]:
    """Nodes, weights, declared values and opsets, in an order of their own where it says nothing."""
    weights = {t.name: (t.data_type, tuple(t.dims), onnx.numpy_helper.to_array(t).tobytes())
               for t in proto.graph.initializer}
    nodes = [str(node) for node in proto.graph.node]
    graph = proto.graph
    declared = [str(v) for v in (*graph.input, *graph.output, *sorted(graph.value_info, key=lambda v: v.name))
                if v.name not in weights]
    return nodes, weights, declared, {entry.domain: entry.version for entry in proto.opset_import}


MODELS = {
    "convolution": tiny.model(),
    "older opset": tiny.model(opset=13, ir_version=8),
    "custom operators": tiny.model(
        "(float[N,4] x) => (float[N,4] y) { a = my.Foo<k = 2, s = \"text\", f = [1.5, 2.0]>(x) y = other.Bar(a, x) }",
        more='"other" : 3, "my" : 2'),
    "empty input": tiny.model("""(float[N,4] x) => (float[N,4] y) <float c = {6}> { y = Clip(x, , c) }"""),
    "two outputs": tiny.model("""(float[N,4] x, float[2,M] z) => (float[N,2] a, float[2,M] c) {
        a, b = Split<axis = 1, num_outputs = 2>(x)  c = Relu(z) }"""),
    "rank 0 and open axes": tiny.model("(float[?,4] x) => (float[?,4] y) <float s = {2}> { y = Mul(x, s) }"),
    "residual": small_networks.model("residual"),
}


@pytest.mark.parametrize("proto", MODELS.values(), ids=MODELS)
def test_a_round_trip_keeps_everything(proto: onnx.ModelProto) -> None:
    expected = ir.to_proto(ir.from_proto(proto))  # as onnx_ir writes it
    found = ir.to_proto(from_graphsurgeon(to_graphsurgeon(proto)))
    assert plain(found) == plain(expected)
    assert found.ir_version == proto.ir_version
    assert plain(ir.to_proto(from_graphsurgeon(to_graphsurgeon(ir.from_proto(proto))))) == plain(expected)


def test_a_round_trip_keeps_inferred_shapes() -> None:
    model = loading.load(tiny.model()).model
    infer_shapes(model)
    found = from_graphsurgeon(to_graphsurgeon(model))
    shapes = [[(v.name, v.dtype, str(v.shape)) for node in m.graph for v in node.outputs] for m in (model, found)]
    assert shapes[0] == shapes[1]
    assert [str(v.shape) for v in found.graph.inputs] == ["[N,3,8,8]"]


def test_nothing_is_shared() -> None:
    proto = tiny.model()
    model = ir.from_proto(proto)
    before = proto.SerializeToString(deterministic=True)
    for source in (proto, model):
        graph = to_graphsurgeon(source)
        back = from_graphsurgeon(graph)
        for node in graph.nodes:
            node.op = node.name = "changed"
        for tensor in graph.tensors().values():
            tensor.name = f"{tensor.name}_changed"
            if isinstance(tensor, gs.Constant):
                tensor.values = tensor.values * 0
        graph.opset = 1
        from_graphsurgeon(graph)
        assert [node.op_type for node in back.graph] == ["Conv", "Relu", "Flatten", "Gemm"]
        assert back.graph.initializers["w"].const_value.numpy().any()
        assert proto.SerializeToString(deterministic=True) == before
        assert plain(ir.to_proto(model)) == plain(ir.to_proto(ir.from_proto(proto)))


def test_a_graph_from_scratch() -> None:
    x, y = gs.Variable("x", np.float32, ("N", 4)), gs.Variable("y", np.float32, ("N", 4))
    middle = gs.Variable("m")
    nodes = [gs.Node("Foo", domain="zeta", inputs=[middle], outputs=[y]),  # in the wrong order
             gs.Node("Bar", domain="alpha", inputs=[x], outputs=[middle])]
    model = from_graphsurgeon(gs.Graph(nodes, [x], [y], opset=20))
    assert model.ir_version == 10
    assert list(model.graph.opset_imports.items()) == [("", 20), ("zeta", 1), ("alpha", 1)]
    assert [node.op_type for node in model.graph] == ["Bar", "Foo"]


def test_default_domain_in_its_long_form() -> None:
    proto = tiny.model()
    proto.opset_import[0].domain = "ai.onnx"
    assert dict(from_graphsurgeon(to_graphsurgeon(proto)).graph.opset_imports) == {"": 20}


def test_cycle() -> None:
    graph = to_graphsurgeon(tiny.model("(float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Add(a, x) }"))
    graph.nodes[0].inputs = [graph.nodes[1].outputs[0]]
    with pytest.raises(ValueError, match="cycle"):
        from_graphsurgeon(graph)


def test_an_edit_runs() -> None:
    graph = to_graphsurgeon(tiny.model("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }"))
    graph.nodes[0].op = "Neg"
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(Runner(from_graphsurgeon(graph)).run({"x": x})["y"], -x, strict=True)


def test_public_and_loaded_when_used() -> None:
    assert {"to_graphsurgeon", "from_graphsurgeon"} <= set(onnxdiana.__all__)
    code = "import sys, onnxdiana; print({'onnx_ir', 'onnx_graphsurgeon'} & set(sys.modules)); " \
           "onnxdiana.to_graphsurgeon; print('onnx_graphsurgeon' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.splitlines() == ["set()", "True"]
