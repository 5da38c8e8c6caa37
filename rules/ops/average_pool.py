"""AveragePool whose windows count different numbers of elements: padding that is not part of the mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from onnxdiana import graph, numerics
from onnxdiana.forms import Forms
from onnxdiana.graph import Emitter
from onnxdiana.numerics import Rounding
from onnxdiana.rules.ops.base import Array, Codes, HalfUp, T, window

BITS = 16
"""The factors are whole multiples of ``2**-16``."""


class AveragePool(HalfUp):
    """``acc[p] = (sum of q_x under the window) * rint(2**16 / n_p) + offset`` at exponent ``e_x - 16``.

    ``n_p`` is the number of elements of the map under the window at position p.
    """

    op_type = "AveragePool"

    def obstacles(self, node: ir.Node) -> Iterator[str]:
        """Explicit pads; the other forms are convolutions."""
        if graph.attribute(node, "auto_pad", "NOTSET") != "NOTSET":
            yield "auto_pad could not be resolved; export with explicit pads"
        elif graph.attribute(node, "ceil_mode", 0):
            yield "ceil_mode makes a window of which less than a kernel lies on the map; use ceil_mode=False"
        elif graph.attribute(node, "count_include_pad", 0):
            yield ("its window is too large, the size of the map is not known, or it has more than three axes; use a "
                   "smaller window, and static shapes")

    def scale_bits(self, node: ir.Node) -> int:
        """Those of the factors."""
        return BITS

    def macs(self, node: ir.Node) -> int:
        """One an element under a window."""
        return int(math.prod(graph.attribute(node, "kernel_shape"))) * math.prod(graph.sample_shape(node.outputs[0]))

    def bound(self, node: ir.Node, inputs: Sequence[Codes]) -> int:
        """The largest sum times factor of any position, and the offset."""
        count, factor = _windows(node)
        return int((count * factor).max()) * super().bound(node, inputs) + self.offset(node)

    def evaluate(self, node: ir.Node, inputs: Sequence[Array], rounding: Rounding) -> Array:
        """Exact sums in int64, times the factors; the offset belongs to the floor alone."""
        channels, kernel = inputs[0].shape[1], graph.attribute(node, "kernel_shape")
        ones = np.ones((channels, 1, *kernel), np.int8)
        total = numerics.convolve(inputs[0], ones, bound=128 * ones[0].size, group=channels,
                                  **window(node, len(kernel)))
        return np.asarray(total * _windows(node)[1] + self.offset(node, rounding))

    def emit_integer(self, node: ir.Node, inputs: Sequence[T], output: str, emitter: Emitter[T]) -> T:
        """ConvInteger with ones, one group a channel; Mul by the int32 factors, Add of the offset."""
        channels = graph.sample_shape(self.codes(node)[0])[0]
        kernel = graph.attribute(node, "kernel_shape")
        ones = emitter.constant(f"{output}.ones", np.ones((channels, 1, *kernel), np.int8))
        total = emitter.add("ConvInteger", [inputs[0], ones], f"{output}.sum", kernel_shape=kernel, group=channels,
                            **window(node, len(kernel)))
        factor = emitter.constant(f"{output}.factor", _windows(node)[1].astype(np.int32))
        return self.emit_product(node, [total, factor], output, emitter)

    def htvm_obstacles(self, node: ir.Node, forms: Forms) -> Iterator[str]:
        """HTVM's AveragePool sums in int8, and the dialect has no factor a position."""
        yield ("windows that count only what lies on the map have a factor each, which HTVM's dialect has not; use "
               "padding=0, or count_include_pad=True (a convolution then)")


def _windows(node: ir.Node) -> tuple[Array, Array]:
    """Number of elements under every window, and the factor it gives: (1, 1, *out), int64."""
    kernel, size = graph.attribute(node, "kernel_shape"), graph.sample_shape(node.inputs[0])[1:]  # type: ignore[arg-type]
    form, n, count = window(node, len(kernel)), len(kernel), np.ones((), np.int64)
    for i in range(n):  # of an axis by itself: the number of a window's places on the map
        last = size[i] + form["pads"][i] + form["pads"][n + i] - (kernel[i] - 1) * form["dilations"][i] - 1
        starts = np.arange(0, last + 1, form["strides"][i]) - form["pads"][i]
        first, behind = (np.clip(-((starts - edge) // form["dilations"][i]), 0, kernel[i]) for edge in (0, size[i]))
        count = np.multiply.outer(count, behind - first)
    count = count[None, None]
    return count, np.rint(2.0**BITS / np.maximum(count, 1)).astype(np.int64)


OPERATOR = AveragePool()
