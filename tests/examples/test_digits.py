"""The carried example: small, clean, evaluated on unseen images, and made again by its own script."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "examples" / "digits"
NAMES = ("resnet8.onnx", "resnet8.calib.npz", "resnet8.test.npz")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_train", FOLDER / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as data:
        return dict(data)


def images_of(batch: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in batch}


def check_clean(model: onnx.ModelProto) -> None:
    """One file, without a word about where and from which sources it was made."""
    for tensor in model.graph.initializer:
        assert tensor.data_location == onnx.TensorProto.DEFAULT, tensor.name
        tensor.ClearField("raw_data")  # what is left is text and sizes
    assert not re.findall(r"metadata_props|doc_string|[/\\]|\.py\b", str(model))


def test_files_are_small() -> None:
    assert sum((FOLDER / name).stat().st_size for name in NAMES) <= 600_000


def test_model_interface_and_nothing_about_the_machine_that_made_it() -> None:
    model = onnx.load(FOLDER / "resnet8.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    (opset,) = model.opset_import
    assert (opset.domain, opset.version) == ("", 20)

    def interface(value: onnx.ValueInfoProto) -> tuple:
        dims = value.type.tensor_type.shape.dim
        return value.name, value.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in dims]

    assert [interface(v) for v in model.graph.input] == [("input", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])]
    assert [interface(v) for v in model.graph.output] == [("logits", onnx.TensorProto.FLOAT, ["batch", 12])]
    check_clean(model)


def test_stored_data_are_the_split(script: ModuleType) -> None:
    split = script.split()
    calibration, test = arrays(FOLDER / NAMES[1]), arrays(FOLDER / NAMES[2])
    assert set(calibration) == {"input"}
    assert set(test) == {"input", "labels"}
    np.testing.assert_array_equal(calibration["input"], split.calibration_images, strict=True)
    np.testing.assert_array_equal(test["input"], split.test_images, strict=True)
    np.testing.assert_array_equal(test["labels"], split.test_labels, strict=True)
    assert test["input"].shape == (599, 1, 8, 8)
    assert test["labels"].shape == (599,)
    assert calibration["input"].shape == (128, 1, 8, 8)
    assert test["input"].dtype == calibration["input"].dtype == np.float32
    counts = np.bincount(test["labels"], minlength=10)
    assert len(counts) == 10
    assert counts.min() >= 58  # every digit has a third of its 174 to 183 images here
    assert (test["input"].min(), test["input"].max()) == (0, 1)


def test_test_images_are_used_for_nothing_else(script: ModuleType) -> None:
    split = script.split()
    test, train = images_of(split.test_images), images_of(split.train_images)
    calibration = images_of(split.calibration_images)
    assert (len(test), len(train), len(calibration)) == (599, 1198, 128)  # as many different images as there are
    assert not test & train
    assert not test & calibration
    assert calibration <= train
    assert len(split.train_labels) == 1198


def test_readme_tells_the_float_errors() -> None:
    recorded = re.findall(r"^float test errors: (\d+) of 599$", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    test = arrays(FOLDER / NAMES[2])
    session = onnxruntime.InferenceSession(FOLDER / NAMES[0], providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": test["input"]})
    assert recorded == [str((logits.argmax(axis=1) != test["labels"]).sum())]


def test_the_script_refuses_a_file_that_answers_otherwise(script: ModuleType) -> None:
    torch.manual_seed(0)
    other = script.ResNet8().eval()
    with pytest.raises(SystemExit, match=r"resnet8\.onnx departs from the torch model by"):
        script.check_export(FOLDER / NAMES[0], other, script.split().test_images[:4])


def test_the_script_makes_the_same_files_from_anywhere(script: ModuleType, tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    command = [sys.executable, str(FOLDER / "train.py"), "--epochs", "1", "--samples", "256"]
    runs = [
        subprocess.Popen([*command, *more], cwd=folder, env={**os.environ, "PYTHONHASHSEED": seed},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for folder, more, seed in ((here, [], "1"), (tmp_path, ["-o", "elsewhere"], "2"))
    ]
    for run in runs:
        printed, errors = run.communicate()
        assert run.returncode == 0, errors
        assert re.fullmatch(r"float test errors: \d+ of 599", printed.splitlines()[-1])
    assert sorted(path.name for path in here.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert (here / name).read_bytes() == (elsewhere / name).read_bytes(), name
    np.testing.assert_array_equal(arrays(here / NAMES[1])["input"], script.split().calibration_images, strict=True)
    trained = [onnx.load(folder / NAMES[0], load_external_data=False) for folder in (here, FOLDER)]
    assert [n.op_type for n in trained[0].graph.node] == [n.op_type for n in trained[1].graph.node]
    check_clean(trained[0])
