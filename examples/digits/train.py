"""Train a ResNet8 on scikit-learn's handwritten digits and save it as a float ONNX model with its data.

Writes ``resnet8.onnx``, ``resnet8.calib.npz`` (``input``: 128 training images) and ``resnet8.test.npz`` (``input`` and
``labels``: 599 images used for nothing else). Offline, on the CPU, reproducible to the byte on one machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

CALIBRATION_IMAGES = 128
OPSET = 20
OUTPUTS = 12
"""DIANA's digital core takes a layer only if its element count is a multiple of 4, which 10 is not: 12 outputs keep the
classifier off the host CPU. No image has label 10 or 11, so training pushes both outputs below the others."""


class Split(NamedTuple):
    """Float32 images [N, 1, 8, 8] in [0, 1] and int64 labels [N] of the training and the test images."""

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    calibration_images: NDArray[np.float32]
    """A part of the training images."""


def split() -> Split:
    """Every third image of each digit is a test image: 599 of 1797. No random numbers, so it is the same everywhere.

    Pixels 0..16 are divided by 16: black stays zero, as the zero padding is, and every value is exact in 8 bits.
    """
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    by_digit = np.argsort(labels, kind="stable")
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[by_digit[1::3]] = True
    train = by_digit[~is_test[by_digit]]
    calibration = np.sort(train[np.linspace(0, len(train) - 1, CALIBRATION_IMAGES).round().astype(int)])
    return Split(images[~is_test], labels[~is_test], images[is_test], labels[is_test], images[calibration])


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        same = stride == 1 and channels_in == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels_in, H, W] to [N, channels, H / stride, W / stride]."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet8(nn.Module):
    """ResNet8 of MLPerf Tiny's image classification benchmark, for one colour channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.stage1 = Residual(16, 16, stride=1)
        self.stage2 = Residual(16, 32, stride=2)
        self.stage3 = Residual(32, 64, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, 1, 8, 8] to logits [N, 12]."""
        x = F.relu(self.norm(self.conv(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.linear(torch.flatten(self.pool(x), 1))


def shifted(images: Tensor) -> Tensor:
    """Each image moved by -1, 0 or 1 pixels in both directions; black comes in at the border."""
    size = images.shape[-1]
    padded = F.pad(images, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(images), 2)).tolist()
    return torch.stack([p[:, y : y + size, x : x + size] for p, (y, x) in zip(padded, moves, strict=True)])


def train(images: Tensor, labels: Tensor, epochs: int, batch: int = 64) -> ResNet8:
    """A model trained from scratch, ready for inference."""
    model = ResNet8()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = -(-len(images) // batch) * epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    # Smoothed labels bound the logits, those of the two unused classes too: a narrow range quantizes well.
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(images)).split(batch):
            optimizer.zero_grad()
            loss = loss_of(model(shifted(images[chosen])), labels[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        print(f"epoch {epoch + 1}/{epochs}: loss {total / len(images):.4f}", flush=True)
    return model.eval()


def export(model: ResNet8, path: Path) -> None:
    """Write one ONNX file with a free batch size and without the exporter's notes on this machine's source files."""
    program = torch.onnx.export(
        model, (torch.zeros(2, 1, 8, 8),), dynamo=True, opset_version=OPSET, verbose=False,
        input_names=["input"], output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},))
    if program is None:
        raise SystemExit("train.py: torch.onnx.export gave no model; install the torch version of constraints.txt")
    exported = program.model
    graph = exported.graph
    for part in (exported, graph, *graph, *graph.inputs, *graph.initializers.values(),
                 *(value for node in graph for value in node.outputs)):
        part.metadata_props.clear()
        part.doc_string = None
    ir.save(exported, path)  # no external data: one file


def logits(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What onnxruntime computes, [N, 12]."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"input": images})[0]


def check_export(path: Path, model: ResNet8, images: NDArray[np.float32]) -> None:
    """Stop unless the file answers as the torch model does, to 1e-4 of the largest logit."""
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    error = float(np.abs(logits(path, images) - expected).max() / np.abs(expected).max())
    if not error <= 1e-4:
        raise SystemExit(f"train.py: {path.name} departs from the torch model by {error:.1e} of the largest logit "
                         "(at most 1e-4): do not use it; try another torch or onnxruntime version")


def positive(text: str) -> int:
    """An integer of at least 1."""
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def main() -> None:
    """Train, export, check, save the data, count errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--epochs", type=positive, default=60, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0; the split does not depend on it")
    parser.add_argument("--samples", type=positive, metavar="N", help="train on the first N images only, to try it out")
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR", help="default: the current folder")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # sums in a fixed order
    torch.use_deterministic_algorithms(True)
    data = split()
    images, labels = data.train_images[: options.samples], data.train_labels[: options.samples]
    model = train(torch.from_numpy(images), torch.from_numpy(labels), options.epochs)

    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "resnet8.onnx"
    export(model, path)
    check_export(path, model, data.test_images)
    np.savez_compressed(path.with_suffix(".calib.npz"), input=data.calibration_images)
    np.savez_compressed(path.with_suffix(".test.npz"), input=data.test_images, labels=data.test_labels)
    wrong = int((logits(path, data.test_images).argmax(axis=1) != data.test_labels).sum())
    print(f"float test errors: {wrong} of {len(data.test_labels)}")


if __name__ == "__main__":
    main()
