"""MLPerf Tiny's four networks, as torch and as a TensorFlow converter write them: the same integers from both.

The second spelling is channels last throughout, with a Transpose on either side of every convolution, SAME padding,
biases as Add, MatMul for dense layers, AveragePool or ReduceMean at the end of the maps, and Softmax.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from onnxdiana import reference
from onnxdiana.exporting.htvm import tensor_names
from onnxdiana.pipeline import export, fake_quantize, integerize, map_to_hardware, prepare

Array = NDArray[Any]
SAMPLES = 12


class Same(nn.Module):
    """Convolution with TensorFlow's SAME padding, batch normalization, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, *, depthwise: bool = False,
                 relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=inputs if depthwise else 1)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = relu

    def pads(self, size: tuple[int, int]) -> list[int]:
        """Before and behind, of height and width."""
        found = []
        for n, k in zip(size, self.conv.kernel_size, strict=True):
            total = max(0, (-(-n // self.conv.stride[0]) - 1) * self.conv.stride[0] + k - n)
            found += [total // 2, total - total // 2]
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W)."""
        top, bottom, left, right = self.pads((x.shape[2], x.shape[3]))
        y = self.norm(self.conv(nn.functional.pad(x, (left, right, top, bottom))))
        return torch.relu(y) if self.relu else y


class TensorFlow:
    """The second spelling under construction; names are tensors with channels last."""

    def __init__(self, *shape: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])

    def add(self, op_type: str, *inputs: str | Array, **attributes: Any) -> str:
        """A node; arrays become constants."""
        feed = []
        for value in inputs:
            if not isinstance(value, str):
                self.constants.append(numpy_helper.from_array(value, f"const_{len(self.constants)}"))
                value = self.constants[-1].name
            feed.append(value)
        self.nodes.append(helper.make_node(op_type, feed, [f"{op_type}_{len(self.nodes)}"], **attributes))
        return str(self.nodes[-1].output[0])

    def model(self, output: str) -> onnx.ModelProto:
        """Finished."""
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        g = helper.make_graph(self.nodes, "tensorflow", [self.input], [result], self.constants)
        proto = helper.make_model(g, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
        return onnx.shape_inference.infer_shapes(proto)

    def layer(self, x: str, same: Same) -> str:
        """Transpose, Conv, Transpose, Add of the bias; batch normalization between Transposes of its own."""
        y = self.add("Transpose", x, perm=[0, 3, 1, 2])
        y = self.add("Conv", y, array(same.conv.weight), kernel_shape=list(same.conv.kernel_size),
                     strides=list(same.conv.stride), group=same.conv.groups, auto_pad="SAME_UPPER")
        y = self.add("Add", self.add("Transpose", y, perm=[0, 2, 3, 1]), array(same.conv.bias))
        y = self.add("BatchNormalization", self.add("Transpose", y, perm=[0, 3, 1, 2]), *normalization(same.norm),
                     epsilon=same.norm.eps)
        y = self.add("Transpose", y, perm=[0, 2, 3, 1])
        return self.add("Relu", y) if same.relu else y

    def dense(self, x: str, linear: nn.Linear) -> str:
        """MatMul, Add."""
        return self.add("Add", self.add("MatMul", x, np.ascontiguousarray(array(linear.weight).T)), array(linear.bias))

    def pooled(self, x: str, kernel: tuple[int, int] | None, features: int) -> str:
        """AveragePool over the whole map between Transposes, or ReduceMean; then features."""
        if kernel is None:
            return self.add("ReduceMean", x, axes=[1, 2], keepdims=0)
        y = self.add("AveragePool", self.add("Transpose", x, perm=[0, 3, 1, 2]), kernel_shape=list(kernel),
                     auto_pad="VALID")
        return self.add("Reshape", self.add("Transpose", y, perm=[0, 2, 3, 1]), np.array([-1, features]))


def array(parameter: torch.Tensor | None) -> Array:
    """As numpy has it."""
    assert parameter is not None
    return parameter.detach().numpy()


def normalization(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> list[Array]:
    """gamma, beta, mean, variance."""
    return [array(v) for v in (norm.weight, norm.bias, norm.running_mean, norm.running_var)]


class ResNet8(nn.Module):
    """Image classification."""

    shape, kernel = (3, 16, 16), (4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.first = Same(3, 8, (3, 3))
        widths = [(8, 8, 1), (8, 12, 2), (12, 16, 2)]
        self.a = nn.ModuleList(Same(i, o, (3, 3), s) for i, o, s in widths)
        self.b = nn.ModuleList(Same(o, o, (3, 3), relu=False) for _, o, _ in widths)
        self.skip = nn.ModuleList(Same(i, o, (1, 1), s, relu=False) for i, o, s in widths[1:])
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities."""
        x = self.first(x)
        for i, (a, b) in enumerate(zip(self.a, self.b, strict=True)):
            x = torch.relu((self.skip[i - 1](x) if i else x) + b(a(x)))
        return torch.softmax(self.head(torch.flatten(nn.functional.avg_pool2d(x, 4), 1)), 1)

    def tensorflow(self, tf: TensorFlow) -> str:
        """The same."""
        x = tf.layer("x", self.first)
        for i, (a, b) in enumerate(zip(self.a, self.b, strict=True)):
            short = tf.layer(x, self.skip[i - 1]) if i else x
            x = tf.add("Relu", tf.add("Add", short, tf.layer(tf.layer(x, a), b)))
        return tf.add("Softmax", tf.dense(tf.pooled(x, (4, 4), 16), self.head), axis=-1)


class Separable(nn.Module):
    """Keyword spotting and person detection: a convolution, then depthwise and pointwise ones."""

    def __init__(self, shape: tuple[int, ...], first: Same, blocks: list[tuple[int, int, int]], classes: int) -> None:
        super().__init__()
        self.shape, self.first = shape, first
        self.blocks = nn.ModuleList(m for i, o, s in blocks
                                    for m in (Same(i, i, (3, 3), s, depthwise=True), Same(i, o, (1, 1))))
        self.head = nn.Linear(blocks[-1][1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities."""
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return torch.softmax(self.head(x.mean((2, 3))), 1)

    def tensorflow(self, tf: TensorFlow) -> str:
        """The same."""
        x = tf.layer("x", self.first)
        for block in self.blocks:
            x = tf.layer(x, block)
        return tf.add("Softmax", tf.dense(tf.pooled(x, None, self.head.in_features), self.head), axis=-1)


class AutoEncoder(nn.Module):
    """Anomaly detection."""

    shape = (64,)

    def __init__(self) -> None:
        super().__init__()
        widths = [64, 32, 32, 8, 32, 32]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(o) for o in widths[1:])
        self.last = nn.Linear(32, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input again."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x)))
        return self.last(x)

    def tensorflow(self, tf: TensorFlow) -> str:
        """The same."""
        x = "x"
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = tf.add("Relu", tf.add("BatchNormalization", tf.dense(x, layer), *normalization(norm), epsilon=norm.eps))
        return tf.dense(x, self.last)


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "image classification": ResNet8,
    "keyword spotting": lambda: Separable((1, 25, 10), Same(1, 8, (10, 4), 2), [(8, 8, 1)] * 4, 12),
    "person detection": lambda: Separable((3, 24, 24), Same(3, 8, (3, 3), 2),
                                          [(8, 16, 1), (16, 16, 2), (16, 24, 2)], 2),
    "anomaly detection": AutoEncoder,
}


def exported(network: nn.Module) -> onnx.ModelProto:
    """torch's exporter, which keeps batch normalization where it does not optimize."""
    program = torch.onnx.export(network, (torch.randn(2, *network.shape),), dynamo=True, optimize=False, verbose=False,
                                input_names=["x"], output_names=["y"], dynamic_shapes=({0: torch.export.Dim("n")},))
    assert program is not None
    stream = io.BytesIO()
    program.save(stream)
    return onnx.load_from_string(stream.getvalue())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_both_spellings_give_the_same_integers(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.3)
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.3, 1.5)
    network.eval()
    samples = np.random.default_rng(0).standard_normal((SAMPLES, *network.shape)).astype(np.float32)
    last = samples if samples.ndim == 2 else np.ascontiguousarray(samples.transpose(0, 2, 3, 1))
    tf = TensorFlow(*last.shape[1:])
    found = []
    for model, data in ((exported(network), samples), (tf.model(network.tensorflow(tf)), last)):
        prepared = prepare(model)
        operators = [node.op_type for node in prepared.body.graph]
        assert operators.count("Transpose") == (data is not samples and data.ndim == 4)
        integer = integerize(map_to_hardware(fake_quantize(prepared, data)))
        written = export(integer, None)
        names = tensor_names(integer.integer)
        codes = reference.run(integer.integer, {prepared.inputs[0].name: data}, names)
        vectors = [np.load(io.BytesIO(written.files[f"htvm/intermediate_{i}.npy"])) for i in range(len(names))]
        found.append(([codes[n] for n in names[1:]], vectors, json.loads(written.files["htvm/manifest.json"]),
                      [operator for operator in operators if operator != "Transpose"]))
    (first, first_vectors, manifest, graph), (second, second_vectors, permuted, same_graph) = found
    assert graph == same_graph
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(first_vectors, second_vectors, strict=True):
        np.testing.assert_array_equal(a, b)
    assert manifest["input_permutation"] is None
    assert permuted["input_permutation"] == (None if samples.ndim == 2 else [0, 3, 1, 2])
    assert manifest["tail"] == permuted["tail"] == ([] if samples.ndim == 2 else ["Softmax"])
