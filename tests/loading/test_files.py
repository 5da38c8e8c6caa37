"""What is not an ONNX file is refused with the reason, without waiting for it and without reading it whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from tiny import model, outside, values

from onnxdiana.errors import ModelError
from onnxdiana.loading import load


def refused(source: object, *parts: str) -> None:
    """Loading fails, and the message has all parts."""
    with pytest.raises(ModelError) as caught:
        load(source)  # type: ignore[arg-type]
    for part in parts:
        assert part in str(caught.value)


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    proto = model(opset=17)
    proto.producer_name, proto.producer_version = "pytorch", "2.6"
    data = proto.SerializeToString()
    (tmp_path / "net.onnx").write_bytes(data)
    for path in (tmp_path / "net.onnx", str(tmp_path / "net.onnx")):
        loaded = load(path)
        assert (loaded.name, loaded.opset, loaded.producer) == ("net.onnx", 17, "pytorch 2.6")
        assert loaded.sha256 == hashlib.sha256(data).hexdigest()


def test_a_file_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    proto = outside(model(), "w", "w.bin")
    (tmp_path / "w.bin").write_bytes(values(model(), "w").tobytes())
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(values(ir.to_proto(load("net.onnx").model), "w"), values(model(), "w"))


def test_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "resnet8.onnx").touch()
    refused(tmp_path / "resnet.onnx", "does not exist", f"did you mean '{tmp_path}/resnet8.onnx'?")
    refused(tmp_path / "other.onnx", "does not exist", f"look in '{tmp_path}'")
    refused(tmp_path / "none" / "x.onnx", "does not exist", f"there is no folder '{tmp_path}/none'")
    refused(tmp_path / "resnet8.onnx" / "x.onnx", "does not exist")
    refused(tmp_path / ("x" * 300), "cannot be read", "check the path")
    refused("a\0b.onnx", "cannot be read")
    refused("", "does not exist")


def test_what_is_not_a_regular_file(tmp_path: Path) -> None:
    """A pipe without a writer would never return, a device never end."""
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path, "is a folder", ".onnx file")
    refused(tmp_path / "pipe.onnx", "is not a regular file")
    refused("/dev/zero", "is not a regular file")
    (tmp_path / "loop.onnx").symlink_to(tmp_path / "loop.onnx")
    refused(tmp_path / "loop.onnx", "cannot be read")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "big.onnx", "wb") as stream:
        stream.truncate(2**31)  # sparse
    refused(tmp_path / "big.onnx", "has 2147483648 bytes", "2 GiB")


@pytest.mark.parametrize(("data", "message"), [
    (b"", "is empty: download or export it again"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    (b"PK\x03\x04rest of an archive", "perhaps a PyTorch checkpoint: export the model to ONNX first"),
    (b"<!DOCTYPE html><html>Not found</html>", "is not an ONNX model, or was cut short"),
    (bytes(1000), "is not an ONNX model, or was cut short"),
    (np.random.default_rng(0).bytes(1000), "is not an ONNX model, or was cut short"),
    (b"\x08\x0a", "it holds no graph"),
    (b":" + b"\x7f" * 100, "is not an ONNX model, or was cut short"),
])
def test_what_is_not_a_model(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "net.onnx").write_bytes(data)
    refused(tmp_path / "net.onnx", "'net.onnx'", message)


def test_every_truncation(tmp_path: Path) -> None:
    """Wherever the file was cut, also where what is left is a message again."""
    data = model().SerializeToString()
    for length in [*range(0, len(data), 53), *range(len(data) - 60, len(data))]:
        (tmp_path / "net.onnx").write_bytes(data[:length])
        refused(tmp_path / "net.onnx", "again")


def test_messages_nested_without_end(tmp_path: Path) -> None:
    """Graphs in attributes of nodes in graphs, deeper than protobuf follows."""
    data = b""
    for field in (6, 5, 1) * 1000 + (7,):  # AttributeProto.g, NodeProto.attribute, GraphProto.node, ModelProto.graph
        length = len(data)
        data = bytes([field << 3 | 2, length & 127 | 128, length >> 7 & 127 | 128, length >> 14]) + data
    (tmp_path / "net.onnx").write_bytes(data)
    refused(tmp_path / "net.onnx", "'net.onnx' is not an ONNX model, or was cut short")


@pytest.mark.parametrize(("old", "new"), [
    (b"Relu", b"\xff\xfe\xfd\xfc"), (b"\x01w", b"\x01\xff"), (b"\x01N", b"\x01\xff")])
def test_names_that_are_not_text(tmp_path: Path, old: bytes, new: bytes) -> None:
    data = model().SerializeToString()
    assert old in data
    (tmp_path / "net.onnx").write_bytes(data.replace(old, new))
    refused(tmp_path / "net.onnx", "'net.onnx' holds a name that is not UTF-8 text")


def test_a_file_name_that_is_not_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/n\xff.onnx"
    try:
        with open(path, "wb") as stream:
            stream.write(model().SerializeToString())
    except OSError:
        pytest.skip("the file system takes only text")
    assert load(os.fsdecode(path)).name == "n\N{REPLACEMENT CHARACTER}.onnx"


def test_a_model_in_memory_is_left_as_it_is() -> None:
    proto = model(opset=13)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4, 3, 3, 3]))
    before = proto.SerializeToString(deterministic=True)
    loaded = load(proto)
    assert proto.SerializeToString(deterministic=True) == before
    assert (loaded.name, loaded.sha256) == ("g", hashlib.sha256(before).hexdigest())


def test_an_ir_model_in_memory_is_left_as_it_is() -> None:
    source = ir.from_proto(model(opset=13))
    before = ir.to_proto(source).SerializeToString(deterministic=True)
    loaded = load(source)
    assert ir.to_proto(source).SerializeToString(deterministic=True) == before
    assert loaded.model is not source
    np.testing.assert_array_equal(values(ir.to_proto(loaded.model), "v"), values(model(), "v"))


@pytest.mark.parametrize("relative", [False, True])
def test_an_ir_model_with_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool) -> None:
    """onnx_ir knows their folder; the same checks apply there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.bin").write_bytes(values(model(), "w").tobytes())
    (tmp_path / "net.onnx").write_bytes(outside(model(), "w", "w.bin").SerializeToString())
    (tmp_path / "bad.onnx").write_bytes(outside(model(), "w", "../w.bin").SerializeToString())
    folder = "" if relative else f"{tmp_path}/"
    loaded = load(ir.load(f"{folder}net.onnx"))
    np.testing.assert_array_equal(values(ir.to_proto(loaded.model), "w"), values(model(), "w"))
    refused(ir.load(f"{folder}bad.onnx"), "'w' lies in '../w.bin', outside the model's folder")


def test_external_data_of_a_model_in_memory() -> None:
    refused(outside(model(), "w", "w.bin"), "initializer 'w' lies in an external file", "give its path")


def test_an_ir_model_with_data_in_several_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "net.onnx").write_bytes(outside(outside(model(), "w", "w"), "v", "v").SerializeToString())
    source = ir.load(tmp_path / "a" / "net.onnx")
    tensor = source.graph.initializers["v"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    tensor.base_dir = tmp_path / "b"
    refused(source, f"several folders, {tmp_path}/a, {tmp_path}/b: save it with its data in one file")


def test_an_ir_model_that_cannot_be_serialized() -> None:
    def fail() -> ir.Tensor:
        raise OSError("the server is down")

    source = ir.from_proto(model())
    source.graph.initializers["w"].const_value = ir.LazyTensor(
        fail, dtype=ir.DataType.FLOAT, shape=ir.Shape([4, 3, 3, 3]), name="w")
    refused(source, "cannot be serialized: the server is down; save it and give its path")
    source.graph.initializers["w"].const_value = None
    refused(source, "Conv -> 'a' reads 'w', which no node computes and no initializer holds")
