"""The checker on files: what it takes for a hand-over file, the vectors beside it, and what the command says."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
import small_networks
import test_errors
from command_line import run
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper, helper

from onnxdiana import pipeline
from onnxdiana.errors import HandoffError
from onnxdiana.handoff import check as checker
from onnxdiana.handoff.check import check, check_model
from onnxdiana.handoff.findings import Finding, Handoff
from onnxdiana.report import handoff as report

ROOT = Path(__file__).parents[2]
ZOO = os.environ.get("ONNXDIANA_ZOO")
CODES = ["entry", "a", "b", "sum", "mean", "y"]
"""Requantized tensors of the network, in execution order."""


def npy(array: NDArray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def network() -> onnx.ModelProto:
    return test_errors.base(test_errors.NETWORK)


def arrays(model: onnx.ModelProto, names: list[str], seed: int = 1) -> dict[str, NDArray]:
    """One sample's vectors, by onnxruntime: float32 is exact for sums this small."""
    sample = np.random.default_rng(seed).normal(0, 30, (1, 2, 6, 6)).astype(np.float32)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    output, *codes = session.run(["output", *names], {"input": sample})
    return {"input": sample, "output": output, **{f"intermediate_{i}": array for i, array in enumerate(codes)}}


@pytest.fixture(scope="module")
def vectors() -> dict[str, NDArray]:
    return arrays(network(), CODES)


def files(vectors: Mapping[str, NDArray]) -> dict[str, bytes]:
    return {f"{name}.npy": npy(array) for name, array in vectors.items()}


def found(verdict: Handoff) -> list[tuple[str, str]]:
    return [(finding.code, finding.node) for finding in verdict.errors]


# -- vectors ----------------------------------------------------------------------------------------------------------


def test_exact_vectors_are_right(vectors):
    verdict = check_model(network(), files(vectors))
    assert found(verdict) == []
    assert verdict.notes == ()


def test_int8_vectors_are_right(vectors):
    codes = {name: array.astype(np.int8) for name, array in vectors.items() if name.startswith("intermediate")}
    assert found(check_model(network(), files(vectors | codes))) == []


def test_flat_vectors_are_right(vectors):
    """HTVM counts elements and looks at no shape."""
    assert found(check_model(network(), files({name: array.reshape(-1) for name, array in vectors.items()}))) == []


def shifted(array: NDArray, by: float = 1.0) -> NDArray:
    changed = array.copy()
    element = changed.reshape(-1)[3:4] if changed.size > 3 else changed.reshape(-1)[:1]
    element += by if element[0] < 100 else -by
    return changed


def huge_header() -> bytes:
    """A header that promises 4 TiB."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 8


SPOILT: dict[str, tuple[Callable[[dict[str, NDArray]], dict[str, bytes]], list[tuple[str, str]]]] = {
    "float64 input": (lambda v: {"input.npy": npy(v["input"].astype(np.float64))}, [("E14", "input.npy")]),
    "float64 output": (lambda v: {"output.npy": npy(v["output"].astype(np.float64))}, [("E14", "output.npy")]),
    "int32 codes": (lambda v: {"intermediate_2.npy": npy(v["intermediate_2"].astype(np.int32))},
                    [("E14", "intermediate_2.npy")]),
    "big endian": (lambda v: {"output.npy": npy(v["output"].astype(">f4"))}, [("E14", "output.npy")]),
    "another file": (lambda v: {"labels.npy": npy(np.arange(3))}, [("E14", "labels.npy")]),
    "another file of the right type": (lambda v: {"weights.npy": npy(np.float32([0.5]))}, []),
    "pickle": (lambda v: {"labels.npy": npy(np.array([{}]))}, [("E14", "labels.npy")]),
    "no npy": (lambda v: {"input.npy": b"not an array"}, [("E14", "input.npy")]),
    "empty file": (lambda v: {"intermediate_1.npy": b""}, [("E14", "intermediate_1.npy")]),
    "header that never ends": (lambda v: {"input.npy": npy(v["input"]).replace(b", }", b"'''")},
                               [("E14", "input.npy")]),
    "half a file": (lambda v: {"output.npy": npy(v["output"])[:-3]}, [("E14", "output.npy")]),
    "promises too much": (lambda v: {"intermediate_0.npy": huge_header()}, [("E14", "intermediate_0.npy")]),
    "too few inputs": (lambda v: {"input.npy": npy(v["input"][..., 1:])}, [("E14", "input.npy")]),
    "two samples": (lambda v: {"input.npy": npy(v["input"].repeat(2, 0))}, [("E14", "input.npy")]),
    "input that is no number": (lambda v: {"input.npy": npy(shifted(v["input"], np.nan))}, [("E14", "input.npy")]),
    "fractional codes": (lambda v: {"intermediate_1.npy": npy(shifted(v["intermediate_1"], 0.5))},
                         [("E14", "intermediate_1.npy")]),
    "codes beyond int8": (lambda v: {"intermediate_1.npy": npy(shifted(v["intermediate_1"], -300))},
                          [("E14", "intermediate_1.npy")]),
    "output between two codes": (lambda v: {"output.npy": npy(shifted(v["output"], 0.125))}, [("E14", "output.npy")]),
    "output a code apart": (lambda v: {"output.npy": npy(shifted(v["output"], 0.25))}, [("E16", "output.npy")]),
    "output of another size": (lambda v: {"output.npy": npy(v["output"][:, 1:])}, [("E16", "output.npy")]),
    "a code apart": (lambda v: {"intermediate_1.npy": npy(shifted(v["intermediate_1"]))},
                     [("E16", "intermediate_1.npy")]),
    "all of another sample": (lambda v: {"input.npy": npy(-v["input"])}, [("E16", "intermediate_0.npy")]),
}


@pytest.mark.parametrize(("spoil", "expected"), SPOILT.values(), ids=SPOILT)
def test_spoilt_vectors(vectors, spoil, expected):
    assert found(check_model(network(), files(vectors) | spoil(vectors))) == expected


def test_vectors_without_a_dequantizer(vectors):
    model = network()
    test_errors.MUTATIONS["no dequantizer"][1](model)
    assert found(check_model(model, files(vectors))) == [("E11", "y")]


def test_an_output_with_a_scale_of_each_channel_is_not_judged(vectors):
    model = network()
    test_errors.constant("output", 1, [1, 2, 4])(model)
    assert found(check_model(model, files(vectors | {"output": np.float32([[0.1, 0.2, 0.3]])}))) == []


@pytest.mark.parametrize("name", ["input.npy", "output.npy"])
def test_one_vector_alone_is_not_compared(vectors, name):
    given = files(vectors)
    del given[name]
    assert found(check_model(network(), given)) == [("E14", name)]


def test_without_vectors_nothing_is_compared():
    verdict = check_model(network())
    assert verdict.ok
    assert any("no vectors" in note for note in verdict.notes)


def test_e16_names_the_element_and_both_values(vectors):
    wrong = vectors["intermediate_1"].copy()
    wrong[0, 1, 2, 3] = exact = wrong[0, 1, 2, 3] + (1 if wrong[0, 1, 2, 3] < 127 else -1)
    finding, = check_model(network(), files(vectors | {"intermediate_1": wrong})).errors
    index = np.ravel_multi_index((0, 1, 2, 3), wrong.shape)
    assert f"{exact:g} at element {index} (1 of {wrong.size} differ)" == finding.found
    assert f"{vectors['intermediate_1'][0, 1, 2, 3]:g}, " in finding.needed
    assert "'a'" in finding.needed


def test_the_manifest_says_which_tensor_a_file_holds(vectors):
    relu = arrays(network(), ["relu"])["intermediate_0"]
    given = files(vectors | {"intermediate_3": relu})
    assert found(check_model(network(), given)) == [("E16", "intermediate_3.npy")]
    given["manifest.json"] = json.dumps({"intermediates": {"intermediate_3.npy": "relu"}}).encode()
    assert found(check_model(network(), given)) == []


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b'{"intermediates": 3}', b'{"intermediates": {"a": []}}',
                                      b"[" * 100_000, b'{"intermediates": {"intermediate_0.npy": "nowhere"}}'])
def test_a_broken_manifest_says_nothing(vectors, manifest):
    assert found(check_model(network(), files(vectors) | {"manifest.json": manifest})) == []


def test_files_of_other_sizes_are_no_intermediates(vectors):
    more = {"intermediate_2": np.zeros(5, np.float32), "intermediate_99": np.zeros(4, np.float32),
            "intermediate_x": np.zeros(4, np.float32)}
    assert found(check_model(network(), files(vectors | more))) == []


def test_an_accumulator_beyond_int32_is_told():
    model = test_errors.base(test_errors.MATMUL.replace("product = MatMul(entry, w)\nacc = Add(product, b)",
                                                        "acc = Gemm(entry, w, b)"))
    test_errors.constant("acc", 1, np.full((8, 4), 127))(model)
    node = test_errors.node_of(model, "acc")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(4, 2**31 - 128, np.float32), "large"))
    node.input[2] = "large"
    given = {"input": np.full((1, 8), 63, np.float32), "output": np.zeros((1, 4), np.float32)}
    assert found(check_model(model, files(given))) == [("E16", "Gemm -> 'acc'")]


@pytest.mark.parametrize("name", ["matmul", "analog"])
def test_other_layers_are_recomputed_too(name):
    model = test_errors.base(test_errors.BASES[name])
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    sample = np.random.default_rng(2).normal(0, 30, shape).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    output, = session.run(None, {"input": sample})
    verdict = check_model(model, files({"input": sample, "output": output}))
    assert (found(verdict), verdict.notes) == ([], ())
    step = float(onnx.numpy_helper.to_array(test_errors.tensor_of(model, model.graph.node[-1].input[1]))[0])
    wrong = files({"input": sample, "output": shifted(output, 1 / step)})
    assert found(check_model(model, wrong)) == [("E16", "output.npy")]


DIMS: dict[str, tuple[Callable[[onnx.ModelProto], object], set[tuple[str, str]]]] = {
    "negative width": (test_errors.entry_type(dim_value2=-1), {("E2", "input")}),
    "no shape": (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), {("E2", "input")}),
    "constant of a negative size": (lambda m: test_errors.tensor_of(m, "d128").dims.append(-1),
                                    {("E1", "Div -> 'y_div'")}),
    "constant that promises too much": (lambda m: test_errors.tensor_of(m, "ab").dims.append(2**40),
                                        {("E1", "Conv -> 'a_acc'")}),
    "unread constant of a negative size": (lambda m: m.graph.initializer.add(name="unread", data_type=1, dims=[-1]),
                                           {("E1", "unread")}),
    "pads without end": (test_errors.attribute("a_acc", pads=[1, 1, 2**40, 1], strides=[2**40, 1]),
                         {("E4", "Conv -> 'a_acc'")}),
}


@pytest.mark.parametrize(("mutate", "expected"), DIMS.values(), ids=DIMS)
def test_sizes_that_nothing_has(mutate, expected):
    model = network()
    mutate(model)
    assert set(found(check_model(model))) == expected


def test_a_tensor_too_large_to_compute_is_a_note():
    model = network()
    test_errors.entry_type(dim_value2=10**9)(model)
    verdict = check_model(model)
    assert any(re.fullmatch("not recomputed: a tensor of [0-9,]+ elements", note) for note in verdict.notes)


Mutation = test_errors.Mutation

def analog_gain(gain: object) -> onnx.ModelProto:
    model = test_errors.base(test_errors.ANALOG)
    test_errors.constant("code_div", 1, gain)(model)
    return model


BEYOND: dict[str, Mutation] = {
    "auto_pad": test_errors.attribute("b_acc", auto_pad="SAME_UPPER"),
    "auto_pad of MaxPool": test_errors.attribute("pool", auto_pad="VALID"),
    "beta": test_errors.attribute("y_acc", beta=2.0),
    "input scale per channel": test_errors.constant("entry_div", 1, [[[[2]], [[0.5]]]]),
    "rounding": test_errors.attribute("resized", coordinate_transformation_mode="half_pixel"),
    "factor": test_errors.constant("resized", 3, [1, 4, 7, 4], np.int64),
    "output scale": test_errors.constant("output", 1, [3]),
    "MaxPool of an accumulator": test_errors.ahead("a_div", "MaxPool", kernel_shape=[1, 1]),
    "ADC gain below 1": lambda m: m.CopyFrom(analog_gain(0.5)),
    "ADC gain per channel": lambda m: m.CopyFrom(analog_gain([[[[2]], [[1]], [[4]]]])),
    "operands that broadcast": lambda m: (test_errors.changed("bw", lambda w: w[:1])(m),
                                          test_errors.changed("bb", lambda b: b[:1])(m)),
}


@pytest.mark.parametrize("mutate", BEYOND.values(), ids=BEYOND)
def test_legal_forms_that_are_not_computed(mutate, vectors):
    model = network()
    mutate(model)
    verdict = check_model(model, files(vectors))
    assert [finding.code for finding in verdict.errors if finding.code != "E14"] == []
    assert any(note.startswith("not recomputed") for note in verdict.notes)


# -- legal variants ---------------------------------------------------------------------------------------------------


def at_opset_10(model: onnx.ModelProto) -> None:
    """Pad with attributes, Resize with scales."""
    model.opset_import[0].version = 10
    test_errors.operator("pad", "Pad", "pool", pads=[0, 0, 1, 1, 0, 0, 1, 1])(model)
    test_errors.operator("resized", "Resize", "reshaped", "factors", mode="nearest")(model)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([1, 1, 2, 1]), "factors"))


def old_style(model: onnx.ModelProto) -> None:
    """Initializers named among the inputs, as files before IR 4 do."""
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def constant_nodes(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]


LEGAL: dict[str, Mutation] = {
    "bound of shape (1,)": test_errors.constant("a_max", 1, [0]),
    "no Div where it divides by 1": test_errors.without("sum_div"),
    "no input scale": test_errors.without("entry_div"),
    "mean behind a Relu in front of its requantizer": lambda m: (
        test_errors.without("relu")(m), test_errors.ahead("sum_div", "Relu")(m)),
    "mean of a sum that is not negative": lambda m: (
        test_errors.without("relu")(m),
        *(test_errors.inputs(f"{name}_max", f"{name}_floor", "zero")(m) for name in "ab")),
    "Conv without bias": test_errors.inputs("a_acc", "entry", "aw"),
    "bound of ReLU6": test_errors.constant("a", 1, 96),
    "opset 10": at_opset_10,
    "further domains": lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
    "initializers among the inputs": old_style,
    "constants as nodes": constant_nodes,
    "a node that nothing needs": lambda m: m.graph.node.append(helper.make_node("Softmax", ["output"], ["unread"])),
    "floats moved at the end": lambda m: [
        m.graph.node.append(helper.make_node("Flatten", ["output"], ["end"])), test_errors.returned("end")(m)],
}


@pytest.mark.parametrize("mutate", LEGAL.values(), ids=LEGAL)
def test_legal_variants(mutate):
    model = network()
    mutate(model)
    assert found(check_model(model)) == []


def computed(name: str, *chain: tuple[str, tuple[int, ...]]) -> Mutation:
    """A constant that a chain of operators makes of another one, which is such that nothing changes.

    Args:
        name: of the constant.
        chain: operator types, each with its perm or its target shape.
    """
    def mutate(model: onnx.ModelProto) -> None:
        tensor = test_errors.tensor_of(model, name)
        array, last = onnx.numpy_helper.to_array(tensor), name
        model.graph.initializer.remove(tensor)
        for place, (op_type, sizes) in enumerate(reversed(chain)):
            source = f"{name}_{place}"
            attributes = {"perm": sizes} if op_type == "Transpose" else {}
            inputs = [source, f"{source}_shape"] if op_type == "Reshape" else [source]
            model.graph.node.insert(0, helper.make_node(op_type, inputs, [last], **attributes))
            if op_type == "Reshape":
                model.graph.initializer.append(onnx.numpy_helper.from_array(np.int64(sizes), inputs[1]))
                array = array.reshape(-1)
            elif op_type == "Transpose":
                array = array.transpose(np.argsort(sizes))
            last = source
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, last))
    return mutate


FOLDED: dict[str, Mutation] = {
    "Identity of a weight": computed("aw", ("Identity", ())),
    "Transpose of a weight": computed("bw", ("Transpose", (1, 0, 2, 3))),
    "Reshape of a weight": computed("yw", ("Reshape", (3, -1))),
    "several of a weight": computed("aw", ("Reshape", (4, 2, 3, 3)), ("Identity", ()), ("Identity", ())),
    "Identity of a divisor": computed("d512", ("Identity", ())),
    "Identity of a bias": computed("yb", ("Identity", ())),
    "Identity of a shape": computed("target", ("Identity", ())),
    "Identity of a Constant": lambda m: (
        computed("aw", ("Identity", ()))(m),
        m.graph.node.insert(0, helper.make_node("Constant", [], ["aw_0"], value=m.graph.initializer.pop()))),
}


@pytest.mark.parametrize("mutate", FOLDED.values(), ids=FOLDED)
def test_operators_on_constants_are_folded(mutate, vectors):
    """As HTVM folds them on import: nothing else changes."""
    model = network()
    mutate(model)
    onnx.checker.check_model(model)
    verdict, plain = check_model(model, files(vectors)), check_model(network(), files(vectors))
    assert verdict == plain
    assert verdict.offloaded == {"conv": 2, "add": 1}
    assert found(check_model(model, files(vectors | {"output": shifted(vectors["output"], 0.25)}))) != []


@pytest.mark.parametrize(("mutate", "code"), [
    (lambda m: computed("aw", ("Reshape", (4, 2, 3, 3)))(m) or m.graph.initializer[-1].CopyFrom(
        onnx.numpy_helper.from_array(np.float32([1, 2, 3]), "aw_0")), "E4"),
    (lambda m: computed("aw", ("Transpose", (0, 1, 2, 3)))(m) or m.graph.node[0].attribute[0].ints.pop(), "E4"),
    (lambda m: computed("aw", ("Identity", ()))(m) or m.graph.node[0].attribute.append(
        helper.make_attribute("weight_bits", 8)), "E13"),
    (lambda m: m.graph.node.insert(0, helper.make_node("Identity", ["ab"], ["aw"])), "E4"),
    (lambda m: computed("aw", ("Identity", ()))(m) or m.graph.initializer[-1].CopyFrom(
        onnx.numpy_helper.from_array(np.ones((4, 2, 3, 3)), "aw_0")), "E1"),
], ids=["sizes that do not fit", "axes that are missing", "an attribute", "a name that is taken", "float64"])
def test_operators_on_constants_that_are_wrong_are_told(mutate, code):
    model = network()
    mutate(model)
    assert code in [finding.code for finding in check_model(model).errors]


def test_folding_has_an_end(vectors):
    """A file of some kilobytes cannot ask for gigabytes."""
    model = network()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(2**22, np.float32), "large"))
    for place in range(64):  # 1 GiB
        model.graph.node.insert(0, helper.make_node("Identity", ["large"], [f"copy_{place}"]))
        model.graph.node.append(helper.make_node("Add", ["y", f"copy_{place}"], [f"read_{place}"]))
    model.graph.output.extend(onnx.ValueInfoProto(name=f"read_{place}") for place in range(64))
    told = [finding.node for finding in check_model(model).errors if finding.found == "the constant 'large' as input"]
    assert len(told) == 60


def test_nodes_that_no_output_needs_are_named():
    model = network()
    for place in range(6):
        if place in (1, 6):
            note = "a node that no output needs, Softmax -> 'unread_0'; HTVM leaves it out"
            assert note in check_model(model).notes
        model.graph.node.append(helper.make_node("Softmax", ["output"], [f"unread_{place}"]))
    named = ", ".join(f"Softmax -> 'unread_{place}'" for place in range(4))
    assert f"6 nodes that no output needs, {named} and 2 more; HTVM leaves them out" in check_model(model).notes


SIGNALLING = {np.dtype(np.float16): 0x7D00, np.dtype(np.float32): 0x7FA00000, np.dtype(np.float64): 0x7FF4 << 48}
"""Bits of a nan at whose conversion and comparison numpy warns."""


@pytest.mark.parametrize("dtype", SIGNALLING, ids=str)
@pytest.mark.parametrize("name", ["half", "lo", "aw", "ab", "d512", "d1", "yw", "d4"])
def test_signalling_nans_are_findings(name, dtype, vectors):
    """And no warnings, which pytest would make errors."""
    model = network()
    tensor = test_errors.tensor_of(model, name)
    shape = tuple(tensor.dims)
    bits = np.full(shape, SIGNALLING[dtype], f"u{dtype.itemsize}")
    tensor.CopyFrom(onnx.numpy_helper.from_array(bits.view(dtype), name))
    assert found(check_model(model, files(vectors))) != []


TWO_INPUTS = f"""{test_errors.HEAD} main (float[1,4] x, float[1,4] y) => (float[1,4] output)
<{test_errors.CONSTANTS}> {{
{test_errors.clip("p", "x", "half")}
{test_errors.clip("q", "y", "d4")}
sum_acc = Add(p, q)
{test_errors.clip("sum", "sum_acc", "d4")}
output = Div(sum, d4)
}}"""


def test_two_inputs_are_a_note():
    """Each has its vector."""
    model = test_errors.base(TWO_INPUTS)
    codes = np.float32([[1, -2, 3, 100]])
    given = {"x": codes / 2, "y": codes * 4, "output": np.floor(codes / 2) / 4}
    verdict = check_model(model, files(given))
    assert found(verdict) == []
    assert verdict.notes == ("2 inputs; HTVM was only seen with one",)
    del given["y"]
    assert found(check_model(model, files(given))) == [("E14", "y.npy")]


def test_the_argument_is_not_changed():
    model = network()
    old_style(model)
    before = model.SerializeToString(deterministic=True)
    check_model(model)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.skipif(ZOO is None, reason="ONNXDIANA_ZOO is unset: it names the zoo's folder")
def test_the_original_toolkits_file_passes_with_its_vectors():
    verdict = check(Path(ZOO or "") / "original_export" / "resnet8.onnx")
    assert verdict.errors == ()
    assert verdict.notes == ()
    assert verdict.offloaded == {"conv": 9, "add": 3, "dense": 1}


@pytest.mark.parametrize("name", small_networks.NETWORKS)
def test_what_the_exporter_writes_of_small_networks_passes(name, tmp_path):
    written = pipeline.quantize(small_networks.model(name), small_networks.samples(name), tmp_path / "out")
    assert written.summary["handoff"]["written"]
    verdict = check(tmp_path / "out")
    assert verdict.errors == ()
    assert verdict.notes == ()


@pytest.mark.parametrize("name", ["digits", "dae", "dscnn"])
def test_what_the_exporter_writes_of_networks_passes(name, tmp_path):
    module, shape, samples = networks.network(name)
    written = pipeline.quantize(networks.export(module, (1, *shape), dynamo=False), samples[:8], tmp_path / "out")
    assert written.summary["handoff"]["written"]
    assert check(tmp_path / "out").errors == ()


# -- what is taken for a hand-over file -------------------------------------------------------------------------------


def folder_of(tmp_path: Path, given: Mapping[str, bytes], name: str = "model.onnx") -> Path:
    folder = tmp_path / "out" / "htvm"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(network().SerializeToString())
    for file, data in given.items():
        (folder / file).write_bytes(data)
    return folder


def test_a_folder_of_ours_its_htvm_folder_and_a_file(tmp_path, vectors):
    folder = folder_of(tmp_path, files(vectors | {"intermediate_1": shifted(vectors["intermediate_1"])}))
    for path in (tmp_path / "out", folder, folder / "model.onnx", str(folder)):
        verdict = check(path)
        assert verdict.file == str(folder / "model.onnx")
        assert found(verdict) == [("E16", "intermediate_1.npy")]


def test_only_npy_files_beside_the_model_are_read(tmp_path, vectors):
    folder = folder_of(tmp_path, files(vectors) | {"notes.txt": b"\0", "npy": b"\0"})
    (folder / "folder.npy").mkdir()
    (folder / "deeper").mkdir()
    (folder / "deeper" / "x.npy").write_bytes(b"\0")
    assert check(folder).errors == ()


def test_a_file_of_another_name(tmp_path, vectors):
    folder = folder_of(tmp_path, files(vectors), "net_QL_NOANNOTATION.onnx")
    assert check(folder).ok
    (folder / "second.onnx").write_bytes(b"")
    with pytest.raises(HandoffError, match=r"net_QL_NOANNOTATION.onnx, second.onnx; give the .onnx file"):
        check(folder)
    assert check(folder / "net_QL_NOANNOTATION.onnx").ok


def test_paths_that_are_nothing(tmp_path):
    with pytest.raises(HandoffError, match="no such file or folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(HandoffError, match=r"no \.onnx file"):
        check(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(HandoffError, match=r"no htvm folder.*or --concat refuse left it out; summary.json"):
        check(tmp_path)
    with pytest.raises(HandoffError):
        check(str(tmp_path / "x") + "\0")


@pytest.mark.parametrize(("data", "message"), [
    (b"no protobuf at all", "no ONNX file"), (b"", "has no nodes"),
    (network().SerializeToString()[:99], "no ONNX file"),
])
def test_files_that_are_no_model(tmp_path, data, message):
    file = tmp_path / "m.onnx"
    file.write_bytes(data)
    with pytest.raises(HandoffError, match=message):
        check(file)


@pytest.mark.parametrize("name", [b"relu", b"d512", b"Relu", b"input", b"group", b"floor"])
def test_names_that_are_no_text(tmp_path, name):
    file = tmp_path / "m.onnx"
    file.write_bytes(network().SerializeToString().replace(name, b"\xff" + name[1:]))
    with pytest.raises(HandoffError, match="UTF-8"):
        check(file)


def outside(tmp_path: Path, location: str, **more: str) -> Path:
    """A model whose last bias lies in a file."""
    model = network()
    tensor = test_errors.tensor_of(model, "yb")
    data = onnx.numpy_helper.to_array(tensor).tobytes()
    external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in more.items():
        tensor.external_data.add(key=key, value=value)
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "bias.bin").write_bytes(b"\0" * 8 + data)
    (folder / "alone.bin").write_bytes(data)
    (tmp_path / "secret.bin").write_bytes(data)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


@pytest.mark.parametrize(("location", "more"), [
    ("bias.bin", {"offset": "8", "length": "12"}), ("bias.bin", {"offset": "8"}), ("alone.bin", {}),
])
def test_data_in_a_file_of_the_folder_are_read(tmp_path, location, more):
    assert check(outside(tmp_path, location, **more)).errors == ()


@pytest.mark.parametrize(("location", "more"), [
    ("../secret.bin", {}), ("/etc/passwd", {}), ("link.bin", {}), ("nowhere.bin", {}), ("", {}), ("bias.bin\0", {}),
    ("bias.bin", {"offset": "8", "length": "99999999999999"}), ("bias.bin", {"offset": "-1", "length": "4"}),
    ("bias.bin", {"offset": "x"}),
])
def test_data_that_are_nowhere_or_not_ours_to_read(tmp_path, location, more):
    with pytest.raises(HandoffError, match=r"tensor 'yb'.*save the model as one file"):
        check(outside(tmp_path, location, **more))


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_on_a_right_folder(tmp_path, vectors):
    folder_of(tmp_path, files(vectors))
    outcome = run("handoff", tmp_path / "out", "-q")
    assert outcome.status == 0
    assert outcome.err == ""
    *_, verdict = outcome.out.splitlines()
    assert verdict.startswith("ok: HTVM takes ")
    assert re.search(r"^tensor +layer +ODiMO +MATCH +core +because$", outcome.out, re.MULTILINE)
    assert re.search(r"^a +conv +[0-9,]+ +[0-9,]+ +digital$", outcome.out, re.MULTILINE)
    assert re.search(r"^relu +Relu +- +- +cpu$", outcome.out, re.MULTILINE)


def test_the_command_on_a_wrong_folder(tmp_path, vectors):
    folder_of(tmp_path, files(vectors | {"output": shifted(vectors["output"], 0.25)}))
    outcome = run("handoff", tmp_path / "out")
    assert outcome.status == 1
    assert "E16" in outcome.out
    assert outcome.out.splitlines()[-1].startswith("FAILED: 1 error: ")


def test_the_command_on_nothing(tmp_path):
    outcome = run("handoff", tmp_path / "nowhere.onnx")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("onnxdiana: error: ")
    assert "Traceback" not in outcome.err


def test_json_is_one_document(tmp_path, vectors):
    folder = folder_of(tmp_path, files(vectors | {"output": shifted(vectors["output"], 0.25)}))
    told = run("handoff", tmp_path / "out", "--json").json
    assert told["format"] == report.FORMAT
    assert told["version"] == report.VERSION
    assert (told["file"], told["ok"]) == (str(folder / "model.onnx"), False)
    verdict = check(tmp_path / "out")
    assert [entry["code"] for entry in told["findings"]] == [finding.code for finding in verdict.findings]
    assert told["offloaded"] == verdict.offloaded
    assert [entry["name"] for entry in told["regions"]] == [region.name for region in verdict.regions]


def test_many_findings_are_cut_on_a_terminal_and_not_in_json():
    findings = tuple(Finding("H1", f"Conv -> '{i}'", "a", "b", "c") for i in range(100))
    verdict = Handoff("f", findings)
    assert "and 60 more; --json tells all" in report.table(verdict)
    assert len(json.loads(report.as_json(verdict))["findings"]) == 100


def documented() -> str:
    return (ROOT / "docs" / "handoff.md").read_text("utf-8")


def test_every_code_and_key_is_documented(tmp_path, vectors):
    text = documented()
    codes = [f"E{i}" for i in range(1, 17)] + [f"W{i}" for i in range(1, 6)] + [f"H{i}" for i in range(1, 14)]
    assert [code for code in codes if f"| {code} |" not in text] == []
    folder_of(tmp_path, files(vectors | {"output": shifted(vectors["output"], 0.25)}))
    told = run("handoff", tmp_path / "out", "--json").json
    keys = [*told, *told["findings"][0], *told["regions"][0]]
    assert [key for key in keys if f"`{key}`" not in text] == []


# -- apart from the exporter ------------------------------------------------------------------------------------------

MODULES = sorted(Path(checker.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=[path.stem for path in MODULES])
def test_it_shares_no_code_with_the_exporter(path):
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in imported if name.split(".")[0] == "onnxdiana"}
    assert [name for name in sorted(ours)
            if not name.startswith(("onnxdiana.errors.", "onnxdiana.costs.", "onnxdiana.handoff."))] == []
    allowed = {"numpy", "onnx", "onnxdiana"}
    assert {name.split(".")[0] for name in imported} - allowed <= set(sys.stdlib_module_names)
