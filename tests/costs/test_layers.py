"""The work of a layer, the activations of a network, and the published sums for four known networks."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import onnx_ir as ir
import pytest
from tiny import model

from onnxdiana import canonical, costs, inspect, targets
from onnxdiana.costs.layers import activation_bytes, work_of
from onnxdiana.costs.work import Work
from onnxdiana.layers import Layer, Network, network
from onnxdiana.shapes import infer_shapes

TOOLS = Path(__file__).parents[2] / "tools"
CONTRACT = {
    "resnet8": (12.50, 81.5, 87.1, 31.4), "ds_cnn": (2.62, 103.8, 105.2, 71.9),
    "mobilenet_v1": (7.49, 208.6, 295.0, 144.5), "autoencoder": (0.264, 17.0, 6.1, 13.5)}
"""Millions of multiply-accumulates; thousands of cycles: ODiMO digital, MATCH digital without transfers, ODiMO analog
with depthwise layers on the digital core. Some are given to a tenth, or in three digits."""
EXACT = {
    "resnet8": (12_501_760, 81_545.5, 87_115), "ds_cnn": (2_616_768, 103_789.125, 105_185),
    "mobilenet_v1": (7_489_664, 208_608.25, 295_028), "autoencoder": (264_192, 16_994.0, 6_060)}


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/estimates.py, which builds the four networks."""
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.delitem(sys.modules, "estimates", raising=False)
    return importlib.import_module("estimates")


def view_of(text: str) -> Network:
    graph = ir.from_proto(model(text))
    infer_shapes(graph)
    return network(graph)


def last(text: str) -> Layer:
    return view_of(text).layers[-1]


WORKS = {
    "conv": ("(float[1,3,9,12] x) => (y) <float[8,3,5,3] w> "
             "{ a = Conv<pads = [2,1,2,1], strides = [2,2]>(x, w)  y = Relu(a) }",
             Work("conv", 3, 8, (9, 12), (5, 6), (5, 3), (2, 2), (2, 1, 2, 1), 1)),
    "depthwise": ("(float[1,8,6,6] x) => (y) <float[8,1,3,3] w> { y = Conv<group = 8, pads = [0,0,1,1]>(x, w) }",
                  Work("conv", 8, 8, (6, 6), (5, 5), (3, 3), (1, 1), (0, 0, 1, 1), 8)),
    "linear": ("(float[1,64] x) => (y) <float[12,64] w> { y = Gemm<transB = 1>(x, w) }", Work("dense", 64, 12)),
    "add": ("(float[1,4,5,7] x, float[1,4,5,7] z) => (y) { a = Add(x, z)  y = Relu(a) }",
            Work("add", 4, 4, (5, 7), (5, 7))),
    "add of vectors": ("(float[1,20] x, float[1,20] z) => (y) { y = Add(x, z) }", Work("add", 20, 20)),
    "add of volumes": ("(float[1,4,2,5,7] x, float[1,4,2,5,7] z) => (y) { y = Add(x, z) }",
                       Work("add", 4, 4, (10, 7), (10, 7))),
    "add of numbers": ("(float[1] x, float[1] z) => (y) { y = Add(x, z) }", Work("add", 1, 1)),
    "mean": ("(float[1,8,6,6] x) => (y) { y = GlobalAveragePool(x) }", None),
    "1-d": ("(float[1,8,6] x) => (y) <float[4,8,3] w> { y = Conv<pads = [1,1]>(x, w) }", None),
    "table": ("(float[1,8] x) => (y) { y = Sigmoid(x) }", None),
}


@pytest.mark.parametrize(("text", "work"), WORKS.values(), ids=WORKS)
def test_work_of(text: str, work: Work | None) -> None:
    layer = last(text)
    assert work_of(layer) == work
    assert work is None or work.macs == layer.operator.macs(layer.node)


@pytest.mark.parametrize("text", [text for text, _ in WORKS.values()], ids=WORKS)
@pytest.mark.parametrize("core", ["digital", "analog", "cpu"])
def test_the_target_estimates(text: str, core: str) -> None:
    layer = last(text)
    work = work_of(layer)
    assert targets.load("diana").estimated(layer, core) == (None if work is None else costs.estimate(work, core))


def test_activation_bytes() -> None:
    """A residual block: its input stays while the convolution runs; a pool and a Flatten write buffers of their own."""
    view = view_of("""(float[1,4,6,6] x) => (y) <float[4,4,3,3] w, float[5,36] v> {
        a = Conv<pads = [1,1,1,1]>(x, w)  r = Relu(a)  s = Add(x, r)
        m = MaxPool<kernel_shape = [2,2], strides = [2,2]>(s)  f = Flatten(m)  y = Gemm<transB = 1>(f, v) }""")
    assert activation_bytes(view) == 3 * 144
    view = view_of("(float[1,9] x) => (y) <float[5,9] v> { a = Gemm<transB = 1>(x, v)  y = Relu(a) }")
    assert activation_bytes(view) == 14  # the ReLU is the requantizer's


@pytest.mark.parametrize("name", CONTRACT)
def test_the_published_sums(name: str, tool: ModuleType) -> None:
    """Within 2 %; and to the cycle as they were when they came out so."""
    works = tool.works(tool.NETWORKS[name]())
    sums = [sum(column) for column in zip(*map(tool.cycles, works), strict=True)]
    macs = sum(work.macs for work in works)
    assert macs / 1e6 == pytest.approx(CONTRACT[name][0], rel=0.02)
    for ours, theirs in zip(sums, CONTRACT[name][1:], strict=True):
        assert ours / 1e3 == pytest.approx(theirs, rel=0.02)
    assert (macs, *sums[:2]) == EXACT[name]
    assert tool.PUBLISHED[name] == CONTRACT[name][1:]


def test_the_layers_of_the_known_networks(tool: ModuleType) -> None:
    kinds = {name: [(work.kind, work.depthwise) for work in tool.works(build())]
             for name, build in tool.NETWORKS.items()}
    counts = {name: (found.count(("conv", False)), found.count(("conv", True)), found.count(("dense", False)))
              for name, found in kinds.items()}
    assert counts == {"resnet8": (9, 0, 1), "ds_cnn": (5, 4, 1), "mobilenet_v1": (14, 13, 1), "autoencoder": (0, 0, 10)}


def test_a_network_that_runs_whole_on_the_core_has_the_sums(tool: ModuleType) -> None:
    """What ``inspect`` tells of the residual network is what its layers add up to."""
    proto = tool.resnet8()
    found = costs.totals(line.estimate for line in inspect(proto).lines)
    view = network(canonical.rewritten(ir.from_proto(proto))[0])
    moved = sum(costs.match.transfers(work) for layer in view.layers if (work := work_of(layer)) is not None)
    assert found["ODiMO"]["cycles"] == round(81_545.5)
    assert found["MATCH"]["cycles"] == 87_115 + moved
    assert found["MATCH"]["transfer_cycles"] == moved


def test_the_tool_prints_them(tool: ModuleType, capsys: pytest.CaptureFixture[str],
                              monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(tool.autoencoder().SerializeToString())
    monkeypatch.setenv("ONNXDIANA_ZOO", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["estimates.py"])
    assert tool.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["resnet8", "12,502", "81.5", "81.5", "87.1", "87.1", "31.4", "31.4"]
    assert lines[5].endswith("(limit 2%) ok")
    assert lines[-1].split()[:4] == ["net", "100%", "0", "16,994"]
    monkeypatch.setitem(tool.PUBLISHED, "resnet8", (80.0, 85.0, 31.0))
    monkeypatch.delenv("ONNXDIANA_ZOO")
    assert tool.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "furthest from the published sum: 2.5% (limit 2%) MISSED"
