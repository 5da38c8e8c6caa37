"""Tensors: sizes are compared before anything is made, external data stay in the model's folder, values are finite."""

from __future__ import annotations

import hashlib
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import ModelProto, TensorProto, numpy_helper
from tiny import CONV, initializer, model, outside, values, with_values

from onnxdiana.errors import ModelError
from onnxdiana.loading import load


def refused(source: object, *parts: str) -> None:
    """Loading fails, and the message has all parts."""
    with pytest.raises(ModelError) as caught:
        load(source)  # type: ignore[arg-type]
    for part in parts:
        assert part in str(caught.value)


def changed(name: str = "w", **fields: object) -> ModelProto:
    """The model with other fields in one initializer."""
    proto = model()
    tensor = initializer(proto, name)
    for field, value in fields.items():
        if field == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)  # type: ignore[arg-type]
        else:
            setattr(tensor, field, value)
    return proto


HUGE = 2**40


@pytest.mark.parametrize(("proto", "parts"), [
    (changed(raw_data=bytes(12)), ("needs 432 bytes and has 12", "damaged")),
    (changed(raw_data=bytes(433)), ("needs 432 bytes and has 433",)),
    (changed(raw_data=b""), ("needs 432 bytes and has 0",)),
    (changed(dims=[HUGE]), (f"shape [{HUGE}]", "beyond 2 GiB", "smaller model")),
    (changed(dims=[2**62, 2**62]), ("beyond 2 GiB",)),
    (changed(dims=[0, HUGE]), ("needs 0 bytes and has 432",)),
    (changed(dims=[-4, -27]), ("impossible shape [-4, -27]",)),
    (changed(data_type=0), ("is undefined", "float32 weights")),
    (changed(data_type=TensorProto.STRING), ("is string", "float32 weights")),
    (changed(data_type=TensorProto.COMPLEX64), ("is complex64",)),
    (changed(data_type=TensorProto.INT4), ("is int4",)),
    (changed(data_type=TensorProto.FLOAT8E4M3FN), ("is float8e4m3fn",)),
    (changed(data_type=12345), ("is of the unknown type 12345",)),
])
def test_damaged_initializers(proto: ModelProto, parts: tuple[str, ...]) -> None:
    refused(proto, "initializer 'w'", *parts)


def test_what_is_held_in_memory_must_fit_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors in the file, and copies of those that become float32."""
    for limit, message in ((432 + 16 + 1280 + 20, None), (432 + 16 + 1280 + 19, "beyond 2 GiB")):
        monkeypatch.setattr("onnxdiana.loading.tensors.LIMIT", limit)
        load(model()) if message is None else refused(model(), "initializer 'u'", message)
    half = model(CONV.replace("float[", "float16["))
    for limit, message in ((3 * 874, None), (3 * 874 - 1, "beyond 2 GiB")):
        monkeypatch.setattr("onnxdiana.loading.tensors.LIMIT", limit)
        load(half) if message is None else refused(half, "initializer 'u'", message)


def test_typed_values() -> None:
    proto = model()
    for name in "wbvu":
        array = values(proto, name)
        initializer(proto, name).CopyFrom(onnx.helper.make_tensor(name, 1, array.shape, array.ravel().tolist()))
    found = ir.to_proto(load(proto).model)
    for name in "wbvu":
        np.testing.assert_array_equal(values(found, name), values(model(), name))
    del initializer(proto, "w").float_data[5:]
    refused(proto, "initializer 'w' of shape [4, 3, 3, 3] holds too few or too many values")


@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_values_that_are_not_finite(value: float, text: str) -> None:
    array = values(model(), "w").copy()
    array[2, 1, 0, 2] = value
    refused(with_values(model(), w=array), f"initializer 'w' holds {text} at [2, 1, 0, 2]", "finite float32")


def test_values_beyond_float32() -> None:
    proto = model(CONV.replace("float[", "double["))
    array = values(proto, "v").copy()
    array[4, 63] = 1e300
    refused(with_values(proto, v=array), "initializer 'v' holds 1e+300 at [4, 63]")


def test_lone_nan() -> None:
    proto = model("(float[N,4] x) => (float[N,4] y) <float lo = {0}> { y = Clip(x, lo) }")
    refused(with_values(proto, lo=np.array(np.nan, np.float32)), "initializer 'lo' holds nan at []")


def test_tensors_in_nodes_and_subgraphs_are_checked() -> None:
    tensor = numpy_helper.from_array(np.full(3, np.nan, np.float32))
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    proto = model("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    proto.graph.node.insert(0, constant)
    refused(proto, "Constant -> 'c', attribute 'value' holds nan at [0]")
    inner = onnx.helper.make_graph([constant], "t", [], [onnx.helper.make_tensor_value_info("c", 1, [3])])
    proto = model("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    proto.graph.node.append(onnx.helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner))
    refused(proto, "Constant -> 'c', attribute 'value' holds nan at [0]")
    inner.node[0].CopyFrom(onnx.helper.make_node("Relu", ["i"], ["c"]))
    inner.initializer.append(numpy_helper.from_array(np.full(3, np.nan, np.float32), "i"))
    proto.graph.node[-1].CopyFrom(onnx.helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner))
    refused(proto, "initializer 'i' holds nan at [0]")


def test_names_of_initializers() -> None:
    proto = model()
    proto.graph.initializer.append(initializer(proto, "w"))
    refused(proto, "two initializers are called 'w'")
    proto = model()
    initializer(proto, "w").name = ""
    refused(proto, "one has no name")


def test_what_exporters_note_on_tensors_is_forgotten() -> None:
    """The same weights give the same files, whoever wrote them."""
    proto = model("(float[N,4] x) => (float[N,4] y) <float[4] w> { c = Constant<value=float[4] {1,2,3,4}>() "
                  "a = Add(x, c) y = Add(a, w) }")
    plain = ir.to_proto(load(proto).model).SerializeToString(deterministic=True)
    for tensor in (initializer(proto, "w"), proto.graph.node[0].attribute[0].t):
        tensor.doc_string = "of yesterday"
        tensor.metadata_props.add(key="a", value="b")
    assert ir.to_proto(load(proto).model).SerializeToString(deterministic=True) == plain


def test_sparse_tensors() -> None:
    proto = model()
    proto.graph.sparse_initializer.add().values.name = "w"
    refused(proto, "initializer 'w' is sparse: store it as a dense tensor")
    proto = model("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    proto.graph.node.append(onnx.helper.make_node("Constant", [], ["s"]))
    proto.graph.node[-1].attribute.add(name="sparse_value").sparse_tensor.SetInParent()
    refused(proto, "Constant -> 's' holds a sparse tensor")


# External data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the model, with the weight's bytes around and in it, at offset 16."""
    data = bytes(16) + values(model(), "w").tobytes() + bytes(5)
    (tmp_path / "secret.bin").write_bytes(data)
    inner = tmp_path / "model"
    (inner / "sub").mkdir(parents=True)
    for path in (inner / "w.bin", inner / "sub" / "w.bin", inner / "..w.bin", inner / "w..bin"):
        path.write_bytes(data)
    (inner / "link.bin").symlink_to("w.bin")
    (inner / "out.bin").symlink_to(tmp_path / "secret.bin")
    (inner / "up").symlink_to(tmp_path)
    os.mkfifo(inner / "pipe.bin")
    return inner


def saved(folder: Path, location: str, **entries: object) -> Path:
    """A model whose weight lies in another file."""
    path = folder / "net.onnx"
    path.write_bytes(outside(model(), "w", location, **({"offset": 16} | entries)).SerializeToString())
    return path


@pytest.mark.parametrize("location", ["w.bin", "./w.bin", "sub/w.bin", "sub/../w.bin", "..w.bin", "w..bin", "link.bin"])
@pytest.mark.parametrize("entries", [{}, {"length": 432}, {"length": 432, "checksum": "00"}])
def test_external_data_are_read(folder: Path, location: str, entries: dict[str, object]) -> None:
    loaded = load(saved(folder, location, **entries))
    np.testing.assert_array_equal(values(ir.to_proto(loaded.model), "w"), values(model(), "w"))


def test_external_files_are_identified(folder: Path) -> None:
    digest = hashlib.sha256((folder / "w.bin").read_bytes()).hexdigest()
    for location, name in (("w.bin", "w.bin"), ("./sub/../w.bin", "w.bin"), ("sub/w.bin", "sub/w.bin"),
                           ("link.bin", "w.bin")):
        loaded = load(saved(folder, location))
        assert loaded.external == {name: digest}
        assert loaded.sha256 == hashlib.sha256((folder / "net.onnx").read_bytes()).hexdigest()
    assert load(model()).external == {}


def test_the_model_may_be_reached_through_a_link(folder: Path, tmp_path: Path) -> None:
    saved(folder, "w.bin")
    (tmp_path / "alias").symlink_to(folder)
    load(tmp_path / "alias" / "net.onnx")


def test_external_integers(folder: Path) -> None:
    text = "(float[N,4] x) => (float[N,2,2] y) <int64[3] s = {0, 2, 2}> { y = Reshape(x, s) }"
    (folder / "s.bin").write_bytes(np.array([0, 2, 2], "<i8").tobytes())
    proto = outside(model(text), "s", "s.bin")
    (folder / "net.onnx").write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(values(ir.to_proto(load(folder / "net.onnx").model), "s"), [0, 2, 2])


@pytest.mark.parametrize("location", [
    "../secret.bin", "sub/../../secret.bin", "./../secret.bin", "up/secret.bin", "out.bin", "..", "/etc/passwd",
    "//etc/passwd", "..\\secret.bin", "sub\\..\\..\\secret.bin", "C:\\secret.bin", "C:secret.bin", "c:/secret.bin",
    "\\\\server\\share\\secret.bin", "\\secret.bin", "//server/share/secret.bin", "\\\\?\\C:\\secret.bin", "",
    "w.bin\0", "../model2/w.bin",
])
def test_external_data_outside_the_folder(folder: Path, tmp_path: Path, location: str) -> None:
    """On any system: what is a path elsewhere on one of them is refused on all."""
    (tmp_path / "model2").mkdir()  # its path begins as the folder's does
    (tmp_path / "model2" / "w.bin").write_bytes((folder / "w.bin").read_bytes())
    refused(saved(folder, location), f"initializer 'w' lies in '{location}'", "outside the model's folder",
            "move the file there")


def test_absolute_paths_into_the_folder_are_refused_too(folder: Path) -> None:
    refused(saved(folder, f"{folder}/w.bin"), "outside the model's folder")


@pytest.mark.parametrize(("location", "reason"), [
    ("missing.bin", "no such file"), ("nowhere/w.bin", "no such file"), ("sub", "not a regular file"),
    (".", "not a regular file"), ("pipe.bin", "not a regular file"), ("x" * 300, "no such file"),
])
def test_external_data_that_are_not_there(folder: Path, location: str, reason: str) -> None:
    """A pipe would wait for a writer."""
    refused(saved(folder, location), f"'w' lies in '{location}', which cannot be read ({reason})", "beside the model")


@pytest.mark.parametrize(("entries", "message"), [
    ({"offset": 22}, "needs 432 bytes at 22 of 'w.bin', which is shorter"),
    ({"offset": 10**30}, "which is shorter"),
    ({"offset": -1}, "its entry says 432 bytes at -1"),
    ({"length": 431}, "needs 432 bytes, its entry says 431 bytes"),
    ({"length": 10**30}, "needs 432 bytes, its entry says"),
    ({"offset": "x"}, "external offset or length that is no number"),
    ({"length": ""}, "external offset or length that is no number"),
    ({"offset": "9" * 5000}, "external offset or length that is no number"),
])
def test_external_entries(folder: Path, entries: dict[str, object], message: str) -> None:
    refused(saved(folder, "w.bin", **entries), "initializer 'w'", message)


def test_external_data_of_a_huge_shape(folder: Path) -> None:
    """Nothing is made of that size."""
    path = saved(folder, "w.bin")
    proto = onnx.load(path, load_external_data=False)
    initializer(proto, "w").dims[:] = [HUGE]
    path.write_bytes(proto.SerializeToString())
    refused(path, "initializer 'w'", f"needs {4 * HUGE} bytes at 16 of 'w.bin', which is shorter")


def test_external_files_of_a_huge_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All together, however little of them is used."""
    path = saved(folder, "w.bin")
    monkeypatch.setattr("onnxdiana.loading.tensors._FILE_BYTES", 452)
    refused(path, "initializer 'w' lies in 'w.bin', which takes the model's external files beyond 0 GiB")
    monkeypatch.setattr("onnxdiana.loading.tensors._FILE_BYTES", 453)
    load(path)


def test_external_data_beyond_what_is_read_are_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the file; what is small, not aligned or of another type is held in memory all the same."""
    proto = model("(float[N,300] x) => (float[N,300] y) <float[300] a, float[300] b, float[300] c, float[4] d> "
                  "{ s = Add(x, a) t = Add(s, b) u = Add(t, c) e = Concat<axis=0>(d) y = Identity(u) }")
    arrays = {name: values(proto, name) for name in "abcd"}
    (folder / "w.bin").write_bytes(b"".join(arrays[name].tobytes() for name in "abcd"))
    for name, offset in zip("abcd", (0, 1200, 2400, 3600), strict=True):
        outside(proto, name, "w.bin", offset=offset)
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    for readable, expected in ((10**6, ""), (1200, "bc"), (0, "abc")):
        monkeypatch.setattr("onnxdiana.loading.tensors._READ_BYTES", readable)
        weights = load(path).model.graph.initializers
        for name, array in arrays.items():
            tensor = weights[name].const_value
            assert tensor is not None
            np.testing.assert_array_equal(tensor.numpy(), array)
            assert mapped(tensor.numpy()) == (name in expected)


def mapped(array: np.ndarray) -> bool:
    """Whether an array's memory is a file's."""
    base: object = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    return base is not None


@pytest.mark.parametrize(("word", "offset", "held"), [
    ("float", 16, False), ("float", 17, True), ("double", 16, True), ("float16", 16, True), ("bfloat16", 16, True)])
def test_what_cannot_be_used_where_it_lies_is_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch, word: str, offset: int, held: bool
) -> None:
    monkeypatch.setattr("onnxdiana.loading.tensors._READ_BYTES", 0)
    kind = onnx.helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(word.upper()))
    array = np.random.default_rng(0).standard_normal(700).astype(kind)
    (folder / "w.bin").write_bytes(bytes(offset) + array.tobytes())
    text = f"({word}[N,700] x) => ({word}[N,700] y) <{word}[700] w> {{ y = Add(x, w) }}"
    (folder / "net.onnx").write_bytes(outside(model(text), "w", "w.bin", offset=offset).SerializeToString())
    tensor = load(folder / "net.onnx").model.graph.initializers["w"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), array.astype(np.float32))
    assert mapped(tensor.numpy()) != held


def test_values_of_mapped_tensors_are_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Piece by piece, to the last one."""
    monkeypatch.setattr("onnxdiana.loading.tensors._READ_BYTES", 0)
    monkeypatch.setattr("onnxdiana.loading.tensors._CHUNK", 64)
    array = np.zeros((3, 100), np.float32)
    array[2, 99] = np.nan
    (folder / "w.bin").write_bytes(array.tobytes())
    proto = outside(model("(float[N,3] x) => (float[N,100] y) <float[3,100] w> { y = MatMul(x, w) }"), "w", "w.bin")
    (folder / "net.onnx").write_bytes(proto.SerializeToString())
    refused(folder / "net.onnx", "initializer 'w' holds nan at [2, 99]")


def test_tensors_that_claim_the_same_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few may, many would be a bomb."""
    text = "(float[N,3,3] x) => (float[N,3,3] y) <float[3,3] a, float[3,3] b> { s = Add(x, a) y = Add(s, b) }"
    (folder / "w.bin").write_bytes(bytes(36))
    (folder / "net.onnx").write_bytes(outside(outside(model(text), "a", "w.bin"), "b", "w.bin").SerializeToString())
    load(folder / "net.onnx")
    monkeypatch.setattr("onnxdiana.loading.tensors._SHARED_BYTES", 71)
    refused(folder / "net.onnx", "initializer 'b' shares its bytes in 'w.bin' with other tensors", "the 36 bytes")


SCRIPT = """
import sys
from onnxdiana.loading import load

def held():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) // 1024

before = held()
weight = load(sys.argv[1]).model.graph.initializers["w"].const_value.numpy()
print(weight.nbytes, weight.dtype, weight[0, 0], held() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory that no file backs cannot be told here")
def test_a_weight_of_more_than_2_gib(tmp_path: Path) -> None:
    """In a sparse file, and not copied into memory."""
    with open(tmp_path / "w.bin", "wb") as stream:
        stream.truncate(4 * 32768 * 16640)
    if os.stat(tmp_path / "w.bin").st_blocks > 2048:
        pytest.skip("the file system has no sparse files")
    proto = model("(float[N,32768] x) => (float[N,16640] y) <float[1] w> { y = MatMul(x, w) }")
    initializer(proto, "w").dims[:] = [32768, 16640]
    (tmp_path / "net.onnx").write_bytes(outside(proto, "w", "w.bin").SerializeToString())
    result = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "net.onnx"], capture_output=True, text=True,
                            check=False)
    assert not result.stderr
    size, kind, value, megabytes = result.stdout.split()
    assert (int(size), kind, float(value)) == (4 * 32768 * 16640, "float32", 0)
    assert int(megabytes) < 300
    os.truncate(tmp_path / "w.bin", 4 * 32768 * 16640 - 1)
    refused(tmp_path / "net.onnx", "needs 2181038080 bytes at 0 of 'w.bin', which is shorter")
