"""Small torch modules, one a feature of the layers that are quantized, and what the hand-over makes of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from networks import Shape, conv_bn, settle
from torch import Tensor, nn

IMAGE: Shape = (4, 9, 7)
"""Odd sizes, so that strides, ceil_mode and asymmetric padding show."""


@dataclass(frozen=True)
class Convolution:
    """Arguments of one Conv2d on :data:`IMAGE`."""

    kernel: int | tuple[int, int]
    stride: int
    padding: int | tuple[int, int] | str
    dilation: int
    groups: int
    mode: str
    bias: bool

    def build(self) -> nn.Module:
        """The convolution in front of a ReLU; as many outputs as inputs where every channel is a group."""
        outputs = 4 if self.groups == 4 else 8
        with torch.random.fork_rng():
            torch.manual_seed(0)
            conv = nn.Conv2d(4, outputs, self.kernel, self.stride, self.padding, self.dilation, self.groups, self.bias,
                             self.mode)
        return nn.Sequential(conv, nn.ReLU()).eval()

    @property
    def pad_mode(self) -> str | None:
        """ONNX's mode of the explicit Pad in front of the convolution, or None where there is none."""
        nothing = self.padding == 0 or (self.padding == "same" and self.kernel == 1)
        modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        return None if nothing else modes.get(self.mode)

    @property
    def accelerated(self) -> bool:
        """Whether DIANA's digital core takes it, with zero taps where need be: dense or depthwise, as many outputs as
        'same' padding gives, and an odd kernel of at most 7 that holds the taps."""
        kernel = self.kernel if isinstance(self.kernel, tuple) else (self.kernel, self.kernel)
        if self.stride not in (1, 2) or self.groups not in (1, 4) or self.pad_mode is not None:
            return False
        for k, size, axis in zip(kernel, IMAGE[1:], (0, 1), strict=True):
            span = (k - 1) * self.dilation + 1
            begin = self.padding[axis] if isinstance(self.padding, tuple) else self.padding
            before, after = ((span - 1) // 2, span // 2) if begin == "same" else (begin, begin)
            outputs = (size + before + after - span) // self.stride + 1
            if outputs != -(-size // self.stride) or max(2 * before + 1, 2 * (span - before) - 1) > 7:
                return False
        return True

    def __str__(self) -> str:
        """An identifier for pytest."""
        parts = (f"k{self.kernel}", f"s{self.stride}", f"p{self.padding}", f"d{self.dilation}", f"g{self.groups}",
                 self.mode, "bias" if self.bias else "no_bias")
        return "-".join(parts).replace(" ", "")


VALUES: dict[str, tuple[Any, ...]] = {
    "kernel": (1, 3, (4, 2)),
    "stride": (1, 2, 3),
    "padding": (0, 1, (2, 1), "same"),
    "dilation": (1, 2),
    "groups": (1, 2, 4),
    "mode": ("zeros", "reflect", "replicate", "circular"),
    "bias": (True, False),
}
"""Every value of every argument of :class:`Convolution`."""

CONVOLUTIONS = (
    Convolution((4, 2), 3, 0, 1, 2, "replicate", False),
    Convolution(1, 1, 1, 1, 1, "circular", True),
    Convolution(3, 2, 0, 2, 4, "reflect", True),
    Convolution(1, 1, "same", 2, 2, "zeros", False),
    Convolution(3, 3, (2, 1), 2, 1, "circular", False),
    Convolution((4, 2), 2, (2, 1), 1, 4, "zeros", False),
    Convolution(3, 2, 1, 2, 2, "replicate", True),
    Convolution((4, 2), 1, 1, 2, 1, "reflect", False),
    Convolution(3, 1, "same", 1, 4, "replicate", True),
    Convolution(1, 3, (2, 1), 1, 2, "reflect", True),
    Convolution((4, 2), 3, 1, 2, 4, "zeros", True),
    Convolution(1, 2, 0, 2, 4, "circular", False),
    Convolution(3, 2, 0, 1, 1, "zeros", False),
    Convolution(1, 1, (2, 1), 2, 1, "replicate", False),
    Convolution((4, 2), 1, "same", 2, 2, "circular", False),
    Convolution((4, 2), 1, "same", 2, 1, "reflect", True),
    Convolution(3, 1, 0, 1, 2, "replicate", True),
    # uneven zero padding, and what the accelerator takes
    Convolution((4, 2), 1, "same", 1, 1, "zeros", True),
    Convolution(3, 1, "same", 2, 1, "zeros", True),
    Convolution(3, 1, 1, 1, 1, "zeros", False),
    Convolution(3, 2, 1, 1, 4, "zeros", True),
    Convolution(1, 2, 0, 1, 1, "zeros", True),
)
"""Every pair of argument values that torch allows together occurs in one of these (a test counts)."""


def allowed_pairs() -> set[tuple[str, Any, str, Any]]:
    """Pairs of argument values to cover: torch has no 'same' padding with strides."""
    pairs = {(a, x, b, y) for a, b in itertools.combinations(VALUES, 2) for x in VALUES[a] for y in VALUES[b]}
    return {p for p in pairs if not (p[0] == "stride" and p[2] == "padding" and p[3] == "same" and p[1] != 1)}


class Function(nn.Module):
    """Layers by name, and how they are put together."""

    def __init__(self, function: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        """As given."""
        return self.function(self.layers, x)


class FunctionOfTwo(Function):
    """The same with two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Any:
        """As given."""
        return self.function(self.layers, x, y)


@dataclass(frozen=True)
class Feature:
    """A module and what is expected of it."""

    build: Callable[[], nn.Module]
    shapes: tuple[Shape, ...] = (IMAGE,)
    """One sample of every input."""
    obstacle: str | None = None
    """What the only reason against a hand-over says; None where it is written."""

    def module(self) -> nn.Module:
        """Built with fixed weights, BatchNorms settled, in ``eval`` mode."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = self.build()
            return settle(module, self.shapes[0]) if len(self.shapes) == 1 else module.eval()


def conv(inputs: int = 4, outputs: int = 8, gain: float = 1.0) -> nn.Module:
    """A 3x3 convolution that keeps the map; ``gain`` scales what comes out."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.normal_(layer.weight, 0.0, gain / (9 * inputs) ** 0.5)
    return layer


def chain(*layers: nn.Module) -> nn.Module:
    """One after the other."""
    return nn.Sequential(*layers)


def flat(layers: nn.ModuleDict, x: Tensor) -> Tensor:
    """Average over the map, then the classifier."""
    return layers["head"](layers["pool"](x).flatten(1))


def join(layers: nn.ModuleDict, x: Tensor) -> Tensor:
    """A sum of three, one of which reads another."""
    first, second = layers["a"](x), layers["b"](x)
    return torch.relu(first + second + layers["c"](first))


def stack(layers: nn.ModuleDict, x: Tensor) -> Tensor:
    """Adds behind adds, every sum read twice."""
    first = layers["a"](x)
    second = first + layers["b"](first)
    third = second + layers["c"](torch.relu(second))
    return third + first


def norm_beside(layers: nn.ModuleDict, x: Tensor) -> Tensor:
    """A convolution that its BatchNorm is not alone to read."""
    y = layers["a"](x)
    return torch.relu(layers["norm"](y)) + y


def two_heads(layers: nn.ModuleDict, x: Tensor) -> tuple[Tensor, Tensor]:
    """The second output is computed from the first."""
    y = torch.relu(layers["a"](x))
    return y, layers["b"](y)


FEATURES: dict[str, Feature] = {
    # BatchNorm
    "bn1d_behind_linear": Feature(
        lambda: chain(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5)), ((12,),)),
    "bn1d_behind_relu": Feature(
        lambda: chain(nn.Linear(12, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 5)), ((12,),)),
    "bn1d_on_the_input": Feature(lambda: chain(nn.BatchNorm1d(12), nn.Linear(12, 5)), ((12,),)),
    "bn1d_at_the_end": Feature(lambda: chain(nn.Linear(12, 8), nn.ReLU(), nn.BatchNorm1d(8)), ((12,),)),
    "bn1d_on_sequences": Feature(
        lambda: chain(nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(44, 5)), ((4, 11),)),
    "bn2d_behind_conv": Feature(lambda: chain(*conv_bn(4, 8), nn.ReLU(), conv(8, 4))),
    "bn2d_behind_biased_conv": Feature(lambda: chain(conv(), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 4))),
    "bn2d_behind_grouped_conv": Feature(lambda: chain(*conv_bn(4, 8, groups=2), nn.ReLU())),
    "bn2d_without_affine_part": Feature(lambda: chain(conv(), nn.BatchNorm2d(8, affine=False), nn.ReLU())),
    "bn2d_on_the_input": Feature(lambda: chain(nn.BatchNorm2d(4), conv())),
    "bn2d_behind_relu": Feature(lambda: chain(conv(), nn.ReLU(), nn.BatchNorm2d(8), conv(8, 4))),
    "bn2d_behind_add": Feature(lambda: Function(
        lambda f, x: torch.relu(f["norm"](f["a"](x) + f["b"](x))), a=conv(), b=conv(), norm=nn.BatchNorm2d(8))),
    "bn2d_twice": Feature(lambda: chain(conv(), nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.ReLU())),
    "bn2d_beside_another_reader": Feature(lambda: Function(norm_beside, a=conv(), norm=nn.BatchNorm2d(8))),
    # ReLU and ReLU6
    "relu_on_the_input": Feature(lambda: chain(nn.ReLU(), conv())),
    "relu_twice": Feature(lambda: chain(conv(), nn.ReLU(), nn.ReLU(), conv(8, 4))),
    "relu6": Feature(lambda: chain(conv(gain=6.0), nn.ReLU6(), conv(8, 4))),
    "relu6_never_reached": Feature(lambda: chain(conv(gain=0.2), nn.ReLU6(), conv(8, 4))),
    "relu6_on_an_add": Feature(lambda: Function(
        lambda f, x: f["out"](f["a"](x) + f["b"](x)), a=conv(gain=4.0), b=conv(gain=4.0), out=nn.ReLU6())),
    "relu6_behind_a_pool": Feature(
        lambda: chain(conv(gain=6.0), nn.MaxPool2d(2), nn.ReLU6(), conv(8, 4)), obstacle="an upper bound"),
    "hardtanh": Feature(lambda: chain(conv(gain=2.0), nn.Hardtanh(-1.5, 2.0), conv(8, 4))),
    # residual adds
    "add": Feature(lambda: Function(lambda f, x: f["a"](x) + f["b"](x), a=conv(gain=4.0), b=conv())),
    "add_with_the_input": Feature(lambda: Function(lambda f, x: torch.relu(f["a"](x) + x), a=conv(4, 4))),
    "add_to_itself": Feature(lambda: Function(lambda f, x: f["b"](f["a"](x) + f["a"](x)), a=conv(), b=conv(8, 4))),
    "add_same_tensor": Feature(lambda: Function(lambda f, x: (y := f["a"](x)) + y, a=conv())),
    "add_three": Feature(lambda: Function(join, a=conv(), b=conv(), c=conv(8, 8))),
    "add_chain": Feature(lambda: Function(stack, a=conv(), b=conv(8, 8), c=conv(8, 8))),
    "add_of_features": Feature(
        lambda: Function(lambda f, x: f["a"](x) + f["b"](x), a=nn.Linear(12, 8), b=nn.Linear(12, 8)), ((12,),)),
    "add_constant_per_channel": Feature(lambda: Function(
        lambda f, x: torch.relu(f["a"](x) + torch.linspace(-1, 1, 8).reshape(8, 1, 1)), a=conv())),
    # pooling
    "average_positive": Feature(lambda: Function(
        flat, pool=chain(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), head=nn.Linear(8, 5))),
    "average_signed": Feature(lambda: Function(
        flat, pool=chain(conv(), nn.AdaptiveAvgPool2d(1)), head=nn.Linear(8, 5))),
    "average_of_the_input": Feature(lambda: Function(flat, pool=nn.AdaptiveAvgPool2d(1), head=nn.Linear(4, 5))),
    "average_at_the_end": Feature(lambda: chain(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(1))),
    "average_into_a_conv": Feature(
        lambda: chain(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)), nn.Conv2d(8, 5, 1), nn.Flatten())),
    "average_pool_of_the_whole_map": Feature(lambda: Function(
        flat, pool=chain(conv(), nn.ReLU(), nn.AvgPool2d(IMAGE[1:])), head=nn.Linear(8, 5))),
    "mean": Feature(lambda: Function(
        lambda f, x: f["head"](torch.mean(torch.relu(f["a"](x)), (2, 3))), a=conv(), head=nn.Linear(8, 5))),
    "mean_negative_axes": Feature(lambda: Function(
        lambda f, x: f["head"](torch.relu(f["a"](x)).mean((-1, -2))), a=conv(), head=nn.Linear(8, 5))),
    "mean_keeping_axes": Feature(lambda: Function(
        lambda f, x: f["b"](f["a"](x).mean((2, 3), keepdim=True)), a=conv(), b=nn.Conv2d(8, 5, 1))),
    "max_pool": Feature(lambda: chain(conv(), nn.MaxPool2d(2), conv(8, 4))),
    "max_pool_padded": Feature(lambda: chain(conv(), nn.ReLU(), nn.MaxPool2d(3, 2, 1), conv(8, 4))),
    "max_pool_overlapping": Feature(lambda: chain(conv(), nn.MaxPool2d((3, 2), (2, 1)), conv(8, 4))),
    "max_pool_ceil_mode": Feature(lambda: chain(conv(), nn.MaxPool2d(2, ceil_mode=True), conv(8, 4))),
    "max_pool_padded_ceil_mode": Feature(lambda: chain(conv(), nn.MaxPool2d(3, 3, 1, ceil_mode=True), conv(8, 4))),
    "max_pool_dilated": Feature(lambda: chain(conv(), nn.MaxPool2d(3, 1, 1, dilation=2), conv(8, 4))),
    "max_pool_on_the_input": Feature(lambda: chain(nn.MaxPool2d(2), conv())),
    # shapes
    "flatten": Feature(lambda: chain(conv(), nn.ReLU(), nn.Flatten(), nn.Linear(504, 5))),
    "reshape": Feature(lambda: Function(
        lambda f, x: f["b"](torch.relu(f["a"](x)).reshape(x.shape[0], -1)), a=conv(), b=nn.Linear(504, 5))),
    "view": Feature(lambda: Function(
        lambda f, x: f["b"]((y := torch.relu(f["a"](x))).view(y.size(0), -1)), a=conv(), b=nn.Linear(504, 5))),
    "view_open_batch": Feature(lambda: Function(
        lambda f, x: f["b"](torch.relu(f["a"](x)).view(-1, 504)), a=conv(), b=nn.Linear(504, 5))),
    "flatten_start_dim": Feature(lambda: Function(
        lambda f, x: f["b"](torch.flatten(torch.relu(f["a"](x)), start_dim=1)), a=conv(), b=nn.Linear(504, 5))),
    "flatten_the_map": Feature(lambda: Function(
        lambda f, x: f["b"](f["a"](x).flatten(2).flatten(1)), a=conv(), b=nn.Linear(504, 5))),
    "flatten_the_map_at_the_end": Feature(lambda: chain(conv(), nn.ReLU(), nn.Flatten(2))),
    "flatten_the_input": Feature(lambda: chain(nn.Flatten(), nn.Linear(252, 5))),
    "unflatten": Feature(lambda: Function(
        lambda f, x: f["b"](torch.relu(f["a"](x)).view(x.shape[0], 4, 3, 3)), a=nn.Linear(12, 36), b=conv()), ((12,),)),
    "squeeze": Feature(lambda: Function(
        lambda f, x: f["b"](f["a"](x).mean((2, 3), keepdim=True).squeeze(3).squeeze(2)), a=conv(), b=nn.Linear(8, 5))),
    # layers that are nothing when the network is used, and other forms of linear ones
    "dropout": Feature(lambda: chain(conv(), nn.Dropout2d(), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(504, 5))),
    "identity": Feature(lambda: chain(nn.Identity(), conv(), nn.Identity(), nn.ReLU(), nn.Identity())),
    "linear_without_bias": Feature(lambda: chain(nn.Linear(12, 8, bias=False), nn.ReLU(), nn.Linear(8, 5)), ((12,),)),
    "linear_by_hand": Feature(lambda: Function(
        lambda f, x: x @ f["a"].weight.T + f["a"].bias, a=nn.Linear(12, 8)), ((12,),)),
    "shared_layer": Feature(lambda: Function(lambda f, x: f["a"](torch.relu(f["a"](x))), a=conv(4, 4))),
    "shared_layer_two_norms": Feature(lambda: Function(
        lambda f, x: f["m"](f["a"](torch.relu(f["n"](f["a"](x))))),
        a=conv(4, 4), n=nn.BatchNorm2d(4), m=nn.BatchNorm2d(4))),
    "depthwise_with_multiplier": Feature(lambda: chain(nn.Conv2d(4, 8, 3, padding=1, groups=4), nn.ReLU())),
    "explicit_zero_pad": Feature(lambda: chain(nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(4, 8, 3))),
    "zero_pad_and_padding": Feature(lambda: chain(nn.ZeroPad2d(1), nn.Conv2d(4, 8, 3, padding=1), nn.ReLU())),
    "conv1d": Feature(
        lambda: chain(nn.Conv1d(4, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU()), ((4, 11),)),
    # interfaces
    "two_outputs": Feature(lambda: Function(two_heads, a=conv(), b=conv(8, 4)), obstacle="2 outputs"),
    "two_inputs": Feature(lambda: FunctionOfTwo(
        lambda f, x, y: torch.relu(f["a"](x) + f["b"](y)), a=conv(), b=conv()), (IMAGE, IMAGE), "2 inputs"),
    "two_inputs_of_two_shapes": Feature(lambda: FunctionOfTwo(
        lambda f, x, y: f["b"](torch.relu(f["a"](x)).flatten(1)) + f["c"](y),
        a=conv(), b=nn.Linear(504, 8), c=nn.Linear(12, 8)), (IMAGE, (12,)), "2 inputs"),
}
"""By name."""
