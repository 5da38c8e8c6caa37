"""Works with the shapes that a test wants to say."""

from __future__ import annotations

from onnxdiana.costs import Work


def conv(inputs: int, outputs: int, size: tuple[int, int], kernel: tuple[int, int] = (3, 3), stride: int = 1,
         groups: int = 1) -> Work:
    """A 'same'-padded convolution; ``size`` of its input."""
    rows, columns = (k // 2 for k in kernel)
    return Work("conv", inputs, outputs, size, (-(-size[0] // stride), -(-size[1] // stride)), kernel,
                (stride, stride), (rows, columns, rows, columns), groups)


def dense(inputs: int, outputs: int) -> Work:
    """A linear layer."""
    return Work("dense", inputs, outputs)


def add(channels: int, height: int, width: int = 16) -> Work:
    """A sum of two maps."""
    return Work("add", channels, channels, (height, width), (height, width))
