"""The seven networks as torch modules with settled BatchNorms, and both torch exporters, in memory and quiet."""

from __future__ import annotations

import functools
import io
import itertools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Shape = tuple[int, ...]

torch.set_num_threads(1)  # the same sums on every machine


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A 'same'-padded convolution without bias, and its BatchNorm."""
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_bn(inputs, outputs, stride=stride), nn.ReLU(), *conv_bn(outputs, outputs))
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Sequential(*conv_bn(inputs, outputs, 1, stride)) if changes else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
    """The ResNets of CIFAR-10: three stages of ``blocks`` blocks on 16, 32 and 64 channels."""

    def __init__(self, blocks: int, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(channels, 16), nn.ReLU())
        stages, width = [], 16
        for outputs, stride in ((16, 1), (32, 2), (64, 2)):
            for index in range(blocks):
                stages.append(ResidualBlock(width, outputs, stride if index == 0 else 1))
                width = outputs
        self.blocks = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(self.blocks(self.stem(x)))
        return self.classifier(pooled.view(pooled.size(0), -1))


class MobileNetV1(nn.Module):
    """Depthwise separable convolutions; ``width`` scales every channel count."""

    LAYOUT = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        inputs = int(32 * width)
        layers = [*conv_bn(3, inputs, stride=2), nn.ReLU()]
        for channels, stride in self.LAYOUT:
            outputs = int(channels * width)
            layers += [*conv_bn(inputs, inputs, 3, stride, groups=inputs), nn.ReLU(),
                       *conv_bn(inputs, outputs, 1), nn.ReLU()]
            inputs = outputs
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.reshape(x.shape[0], -1))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project without activation; the shortcut joins two such linear bottlenecks."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [*conv_bn(inputs, hidden, 1), nn.ReLU6()] if expansion != 1 else []
        self.body = nn.Sequential(
            *expand, *conv_bn(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(), *conv_bn(hidden, outputs, 1))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


class MobileNetV2(nn.Module):
    """Width 0.35, with the strides of a small input and at most two blocks a stage."""

    LAYOUT = ((1, 8, 1, 1), (6, 8, 2, 1), (6, 16, 2, 2), (6, 24, 2, 2), (6, 32, 2, 1), (6, 56, 2, 2), (6, 112, 1, 1))
    """Expansion, channels, blocks, stride of the first one."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers, inputs = [*conv_bn(3, 16, stride=2), nn.ReLU6()], 16
        for expansion, outputs, blocks, stride in self.LAYOUT:
            for index in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, stride if index == 0 else 1, expansion))
                inputs = outputs
        self.features = nn.Sequential(*layers, *conv_bn(inputs, 256, 1), nn.ReLU6())
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(256, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def deep_autoencoder() -> nn.Module:
    """DAE of MLPerf Tiny: 640 features through a bottleneck of 8."""
    widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 640))


def ds_cnn() -> nn.Module:
    """Keyword spotting on (1, 49, 10) features: a 10x4 kernel, then depthwise separable convolutions."""
    layers = [nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.Dropout(0.2)]
    for _ in range(4):
        layers += [*conv_bn(64, 64, 3, groups=64), nn.ReLU(), *conv_bn(64, 64, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(0.4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Shape, float]] = {
    "digits": (lambda: ResNet(1, 1, 10), (1, 8, 8), 0.0),
    "dae": (deep_autoencoder, (640,), 0.3),
    "resnet8": (lambda: ResNet(1, 3, 12), (3, 32, 32), 0.0),
    "resnet20": (lambda: ResNet(3, 3, 12), (3, 32, 32), 0.0),
    "mobilenetv1": (lambda: MobileNetV1(0.25, 2), (3, 48, 48), 1.0),
    "mobilenetv2": (lambda: MobileNetV2(10), (3, 32, 32), 1.0),
    "dscnn": (ds_cnn, (1, 49, 10), 0.0),
}
"""How to build each network, the shape of one sample, and the mean offset of its BatchNorms.

A deep network of random weights amplifies any error, which a trained one does not; where most ReLUs pass, it does less.
"""


def samples(shape: Shape, count: int, seed: int) -> NDArray[np.float32]:
    """Float32 (count, ...): a coarse random pattern, enlarged, under fine noise, each sample with its own contrast."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((count, *(-(-size // 4) for size in shape)))
    for axis, size in enumerate(shape, start=1):
        coarse = coarse.repeat(4, axis).take(range(size), axis)
    noise = 0.3 * rng.standard_normal((count, *shape))
    contrast = rng.uniform(0.5, 1.5, (count, *(1,) * len(shape)))
    return (contrast * (coarse + noise)).astype(np.float32)


def settle(module: nn.Module, shape: Shape, offset: float = 0.0, seed: int = 0) -> nn.Module:
    """Give every BatchNorm an affine part and the statistics that it sees in use; the module in ``eval`` mode."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, offset, 0.3)
        norm.momentum = None  # cumulative average over the passes
    module.train()
    with torch.no_grad():
        for index in range(4 if norms else 0):
            module(torch.from_numpy(samples(shape, 32, 1000 * seed + index)))
    return module.eval()


@functools.cache
def network(name: str) -> tuple[nn.Module, Shape, NDArray[np.float32]]:
    """A network by name, the shape of one sample, and calibration inputs (26, ...)."""
    build, shape, offset = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(sum(name.encode()))
        module = settle(build(), shape, offset, seed=1)
    return module, shape, samples(shape, 26, seed=2)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters warn of their own deprecations and log every version conversion."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def export(module: nn.Module, *shapes: Shape, dynamo: bool, opset: int | None = None, dynamic_batch: bool = False,
           keep_batch_norm: bool = False) -> onnx.ModelProto:
    """A module as an ONNX model.

    Args:
        module: in ``eval`` mode.
        shapes: of the inputs, batch included; they are called input, input_1, ...
        dynamo: by the exporter on ``torch.export``, else by the one on TorchScript.
        opset: to ask for; by default the exporter's own.
        dynamic_batch: leave the first axis open.
        keep_batch_norm: keep the exporter from folding BatchNorm into the layer in front.
    """
    names = ["input", *(f"input_{i}" for i in range(1, len(shapes)))]
    generator = torch.Generator().manual_seed(0)
    # a batch of one would be taken for a constant
    examples = tuple(torch.randn(max(2, s[0]) if dynamic_batch else s[0], *s[1:], generator=generator) for s in shapes)
    with _quiet(), torch.no_grad():
        if dynamo:
            open_axis = {0: torch.export.Dim("batch")} if dynamic_batch else None
            program = torch.onnx.export(
                module, examples, dynamo=True, verbose=False, input_names=names, opset_version=opset,
                optimize=not keep_batch_norm, dynamic_shapes=(open_axis,) * len(shapes) if dynamic_batch else None)
            assert program is not None
            return program.model_proto
        stream = io.BytesIO()
        mode = torch.onnx.TrainingMode.PRESERVE if keep_batch_norm else torch.onnx.TrainingMode.EVAL
        torch.onnx.export(
            module, examples, stream, dynamo=False, input_names=names, opset_version=opset, training=mode,
            dynamic_axes={name: {0: "batch"} for name in names} if dynamic_batch else None)
    return onnx.load_from_string(stream.getvalue())
