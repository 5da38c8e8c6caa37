"""``BatchNormalization(x) -> Conv(x, k, offset)``, one group of size 1 a channel."""

from __future__ import annotations

import pytest

from onnxdiana.rules.canonicalize import batch_norm_alone

from .graphs import applied, attributes, declined

N3 = "float[3] g, float[3] o, float[3] m, float[3] var"
CONV = "y = Conv(x, y.weight, y.bias)"

FIRES = {
    "on the input": (f"(float[2,3,5,7] x) => (y) <{N3}> {{ y = BatchNormalization(x, g, o, m, var) }}", [CONV], 2),
    "epsilon": (
        f"(float[2,3,5,7] x) => (y) <{N3}> {{ y = BatchNormalization<epsilon = 0.5>(x, g, o, m, var) }}", [CONV], 2),
    "one channel": (
        "(float[2,1,5,7] x) => (y) <float[1] g, float[1] o, float[1] m, float[1] var> "
        "{ y = BatchNormalization(x, g, o, m, var) }", [CONV], 2),
    "1-d": (f"(float[2,3,5] x) => (y) <{N3}> {{ y = BatchNormalization(x, g, o, m, var) }}", [CONV], 1),
    "3-d": (f"(float[2,3,5,2,4] x) => (y) <{N3}> {{ y = BatchNormalization(x, g, o, m, var) }}", [CONV], 3),
    "between other operators": (
        f"(float[2,3,5,7] x) => (z, a) <{N3}> {{ a = Relu(x) y = BatchNormalization(a, g, o, m, var) z = Relu(y) }}",
        ["a = Relu(x)", "y = Conv(a, y.weight, y.bias)", "z = Relu(y)"], 2),
    "behind a sum": (
        f"(float[2,3,5,7] x) => (y) <{N3}> {{ a = Add(x, x) y = BatchNormalization(a, g, o, m, var) }}",
        ["a = Add(x, x)", "y = Conv(a, y.weight, y.bias)"], 2),
    "features become a map of one point": (
        f"(float[2,3] x) => (y) <{N3}> {{ y = BatchNormalization(x, g, o, m, var) }}",
        ["y.point = Reshape(x, y.shape)", "y.normalized = Conv(y.point, y.weight, y.bias)",
         "y = Flatten(y.normalized)"],
        2),
    "names that exist": (
        f'(float[2,3,5,7] x) => (z) <{N3}, float[1,3,1,1] "y.bias"> '
        '{ "y.weight" = Relu(x) y = BatchNormalization("y.weight", g, o, m, var) z = Add(y, "y.bias") }',
        ["y.weight = Relu(x)", "y = Conv(y.weight, y.weight_2, y.bias_2)", "z = Add(y, y.bias)"], 2),
}

DECLINES = {
    "training mode":
        f"(float[2,3,5,7] x) => (y) <{N3}> {{ y = BatchNormalization<training_mode = 1>(x, g, o, m, var) }}",
    "statistics read": f"(float[2,3,5,7] x) => (y, s) <{N3}> {{ y, s, t = BatchNormalization(x, g, o, m, var) }}",
    "four spatial axes": f"(float[2,3,1,1,1,1] x) => (y) <{N3}> {{ y = BatchNormalization(x, g, o, m, var) }}",
    "unknown rank": f"(x) => (y) <{N3}> {{ a = custom.F(x) y = BatchNormalization(a, g, o, m, var) }}",
    "scale can be fed": "(float[2,3,5,7] x, float[3] g = {1,2,3}) => (y) <float[3] var> "
                        "{ y = BatchNormalization(x, g, var, var, var) }",
    "mean computed": "(float[2,3,5,7] x, float[3] v) => (y) <float[3] var> "
                     "{ m = Relu(v) y = BatchNormalization(x, var, var, m, var) }",
    "another domain": f"(float[2,3,5,7] x) => (y) <{N3}> {{ y = custom.BatchNormalization(x, g, o, m, var) }}",
}


@pytest.mark.parametrize(("text", "after", "axes"), FIRES.values(), ids=FIRES)
def test_fires(text: str, after: list[str], axes: int) -> None:
    model = applied(batch_norm_alone.RULE, text, after)
    output = next(line.split(" = ")[0] for line in after if "Conv" in line)
    assert attributes(model, output) == {"group": 1 if "[2,1,5,7]" in text else 3, "kernel_shape": [1] * axes,
                                      "strides": [1] * axes, "pads": [0] * 2 * axes, "dilations": [1] * axes}


@pytest.mark.parametrize("text", DECLINES.values(), ids=DECLINES)
def test_declines(text: str) -> None:
    declined(batch_norm_alone.RULE, text)
