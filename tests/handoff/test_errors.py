"""Legal graphs, each spoilt in one place: the checker says exactly what is wrong there, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from onnxdiana.handoff.check import check_model

HEAD = '<ir_version: 8, opset_import: ["" : 13]>'


def clip(name: str, value: str, divisor: str | None, lo: str = "lo") -> str:
    """Div, Floor, Max, Min."""
    div = "" if divisor is None else f"{name}_div = Div({value}, {divisor})\n"
    return (f"{div}{name}_floor = Floor({value if divisor is None else f'{name}_div'})\n"
            f"{name}_max = Max({name}_floor, {lo})\n{name} = Min({name}_max, hi)\n")


CONSTANTS = """float lo = {-128}, float zero = {0}, float hi = {127}, float[1] half = {0.5}, float[1] d1 = {1},
    float[1] d4 = {4}, float[1] d128 = {128}, float[1] d512 = {512}"""

NETWORK = f"""{HEAD} main (float[1,2,6,6] input) => (float[1,3] output)
<{CONSTANTS}, float[4,2,3,3] aw, float[4] ab, float[4,4,3,3] bw, float[4] bb, float[3,4] yw, float[3] yb,
 int64[8] pads = {{0,0,1,1,0,0,1,1}}, int64[1] from = {{0}}, int64[1] to = {{4}}, int64[1] axis = {{2}},
 int64[4] target = {{1,4,5,4}}, float[0] roi, float[0] scales, int64[4] sizes = {{1,4,10,4}}>
{{
{clip("entry", "input", "half")}
a_acc = Conv<pads=[1,1,1,1]>(entry, aw, ab)
{clip("a", "a_acc", "d512")}
b_acc = Conv<pads=[1,1,1,1], strides=[1,1], dilations=[1,1], group=1, kernel_shape=[3,3]>(a, bw, bb)
{clip("b", "b_acc", "d512")}
sum_acc = Add(a, b)
{clip("sum", "sum_acc", "d1")}
relu = Relu(sum)
pool = MaxPool<kernel_shape=[2,2], strides=[2,2]>(relu)
pad = Pad(pool, pads)
turned = Transpose<perm=[0,1,3,2]>(pad)
part = Slice(turned, from, to, axis)
reshaped = Reshape(part, target)
resized = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">
    (reshaped, roi, scales, sizes)
same = Identity(resized)
pooled = GlobalAveragePool(same)
flat = Flatten<axis=1>(pooled)
{clip("mean", "flat", None)}
y_acc = Gemm<transB=1>(mean, yw, yb)
{clip("y", "y_acc", "d128")}
output = Div(y, d4)
}}"""
"""Every pattern of the digital core, and everything that moves codes."""

ANALOG = f"""{HEAD} main (float[1,2,6,6] input) => (float[1,3,6,6] output)
<{CONSTANTS}, float adc_lo = {{-32}}, float adc_hi = {{31}}, float[3,2,3,3] w, float[1,3,1,1] m, float[1,3,1,1] s>
{{
{clip("entry", "input", "half", "zero")}
acc = Conv<pads=[1,1,1,1]>(entry, w)
{clip("code", "acc", "d4", "adc_lo").replace("hi)", "adc_hi)").replace("adc_adc", "adc")}
scaled = Mul(code, m)
shifted = Add(scaled, s)
{clip("y", "shifted", "d4", "zero")}
output = Div(y, half)
}}"""

MATMUL = f"""{HEAD} main (float[1,8] input) => (float[1,4] output)
<{CONSTANTS}, float[8,4] w, float[4] b>
{{
{clip("entry", "input", "half")}
product = MatMul(entry, w)
acc = Add(product, b)
{clip("y", "acc", "d128")}
output = Div(y, d4)
}}"""

BASES = {"network": NETWORK, "analog": ANALOG, "matmul": MATMUL}


def base(text: str) -> onnx.ModelProto:
    """A model whose parameters are filled with integers; analog ones are ternary."""
    model = parser.parse_model(text)
    rng = np.random.default_rng(3)
    for value in model.graph.value_info:
        limit = 1 if text is ANALOG and value.name == "w" else 20 if value.name in ("m", "s") else 127
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        values = rng.integers(-limit, limit, shape, endpoint=True).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, value.name))
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return model


Mutation = Callable[[onnx.ModelProto], object]


def node_of(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if output in node.output)


def tensor_of(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def constant(output: str, index: int, array: object, dtype: type = np.float32) -> Mutation:
    """Another constant, for one input of one node."""
    def mutate(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array, dtype), "other"))
        node_of(model, output).input[index] = "other"
    return mutate


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Mutation:
    """A parameter computed from what it is."""
    def mutate(model: onnx.ModelProto) -> None:
        tensor = tensor_of(model, name)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    return mutate


def last(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.reshape(-1)[-1] = value
        return array
    return change


def inputs(output: str, *names: str) -> Mutation:
    return lambda model: node_of(model, output).input.__setitem__(slice(None), names)


def operator(output: str, op_type: str, *names: str, domain: str = "", **attributes: object) -> Mutation:
    """Another operator; its attributes are those given."""
    def mutate(model: onnx.ModelProto) -> None:
        node = node_of(model, output)
        node.CopyFrom(helper.make_node(op_type, names or node.input, node.output, domain=domain, **attributes))
    return mutate


def attribute(output: str, **values: object) -> Mutation:
    def mutate(model: onnx.ModelProto) -> None:
        node = node_of(model, output)
        kept = [a for a in node.attribute if a.name not in values]
        del node.attribute[:]
        node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])
    return mutate


def without(*outputs: str) -> Mutation:
    """Nodes taken out; what reads them reads their first inputs."""
    def mutate(model: onnx.ModelProto) -> None:
        for output in outputs:
            node = node_of(model, output)
            model.graph.node.remove(node)
            for other in model.graph.node:
                other.input[:] = [node.input[0] if name == output else name for name in other.input]
    return mutate


def ahead(output: str, op_type: str, *more: str, **attributes: object) -> Mutation:
    """A node ``new`` in front of the first input of another."""
    def mutate(model: onnx.ModelProto) -> None:
        node = node_of(model, output)
        position = list(model.graph.node).index(node)
        model.graph.node.insert(position, helper.make_node(op_type, [node.input[0], *more], ["new"], **attributes))
        node_of(model, output).input[0] = "new"
    return mutate


def exchanged(first: str, second: str) -> Mutation:
    """Two neighbours of a chain in the other order, each with its own constant."""
    def mutate(model: onnx.ModelProto) -> None:
        a, b = node_of(model, first), node_of(model, second)
        a.op_type, b.op_type = b.op_type, a.op_type
        rest = list(a.input[1:]), list(b.input[1:])
        a.input[1:], b.input[1:] = rest[1], rest[0]
    return mutate


def both(*mutations: Mutation) -> Mutation:
    return lambda model: [mutate(model) for mutate in mutations]


def opset(version: int, domain: str = "") -> Mutation:
    def mutate(model: onnx.ModelProto) -> None:
        model.opset_import[0].CopyFrom(helper.make_opsetid(domain, version))
    return mutate


def entry_type(**fields: object) -> Mutation:
    """Element type or a size of the input."""
    def mutate(model: onnx.ModelProto) -> None:
        form = model.graph.input[0].type.tensor_type
        for name, value in fields.items():
            if name == "elem_type":
                form.elem_type = value
            else:
                axis, field = int(name[-1]), name[:-1]
                setattr(form.shape.dim[axis], field, value)
    return mutate


def returned(name: str) -> Mutation:
    return lambda model: setattr(model.graph.output[0], "name", name)


def float16_bias(model: onnx.ModelProto) -> None:
    constant("b_acc", 2, [1, 2, 3, 4], np.float16)(model)


def two_outputs(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Div", ["y", "d4"], ["second"]))
    model.graph.output.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1, 3]))


def unreadable(model: onnx.ModelProto) -> None:
    tensor = tensor_of(model, "ab")
    tensor.ClearField("float_data")
    tensor.raw_data = b"\0"


MUTATIONS: dict[str, tuple[str, Mutation, set[tuple[str, str]]]] = {
    # E1: types
    "float64 divisor": ("network", constant("a_div", 1, [512], np.float64), {("E1", "Div -> 'a_div'")}),
    "int64 bound": ("network", constant("a_max", 1, 0, np.int64), {("E1", "Max -> 'a_max'")}),
    "int8 weight": ("network", changed("yw", lambda w: w.astype(np.int8)), {("E1", "Gemm -> 'y_acc'")}),
    "float16 bias": ("network", float16_bias, {("E1", "Conv -> 'b_acc'")}),
    "int32 pads": ("network", constant("pad", 1, [0, 0, 1, 1, 0, 0, 1, 1], np.int32), {("E1", "Pad -> 'pad'")}),
    "unreadable bias": ("network", unreadable, {("E1", "Conv -> 'a_acc'")}),
    "float64 input": ("network", entry_type(elem_type=TensorProto.DOUBLE), {("E1", "input")}),
    "int8 output": ("network", lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", TensorProto.INT8),
                    {("E1", "output")}),
    "int8 input with a Cast": (
        "network", both(entry_type(elem_type=TensorProto.INT8), without("entry_div", "entry_floor", "entry_max"),
                        operator("entry", "Cast", "input", to=TensorProto.FLOAT)), {("E1", "input")}),
    # E2: shapes
    "batch 2": ("network", entry_type(dim_value0=2), {("E2", "input")}),
    "open batch": ("network", entry_type(dim_param0="N"), {("E2", "input")}),
    "open width": ("network", entry_type(dim_param3="W"), {("E2", "input")}),
    "batch moved": ("network", attribute("turned", perm=[1, 0, 2, 3]), {("E2", "Transpose -> 'turned'")}),
    "output of another shape": (
        "network", lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 4),
        {("E2", "graph")}),
    "open output": ("network", lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[0], "dim_param", "N"),
                    {("E2", "output")}),
    # E3: versions
    "no opset": ("network", lambda m: m.ClearField("opset_import"), {("E3", "opset_import")}),
    "opset 9": ("matmul", opset(9), {("E3", "opset_import")}),
    "opset 14": ("network", opset(14), {("E3", "opset_import")}),
    "another domain first": ("network", lambda m: m.opset_import.insert(0, helper.make_opsetid("com.microsoft", 1)),
                             {("E3", "opset_import")}),
    "IR version 9": ("network", lambda m: setattr(m, "ir_version", 9), {("E3", "ir_version")}),
    # E4: operators and their forms
    "AveragePool": ("network", operator("pool", "AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
                    {("E4", "AveragePool -> 'pool'")}),
    "BatchNormalization": ("network", ahead("b_div", "BatchNormalization", "bb", "bb", "bb", "bb"),
                           {("E4", "BatchNormalization -> 'new'")}),
    "Concat": ("network", operator("same", "Concat", "resized", "resized", axis=2), {("E4", "Concat -> 'same'")}),
    "Split": ("network", both(operator("same", "Split", "resized", axis=2),
                              lambda m: node_of(m, "same").output.append("rest")), {("E4", "Split -> 'same'")}),
    "Dropout": ("network", operator("same", "Dropout"), {("E4", "Dropout -> 'same'")}),
    "ReduceMean": ("network", operator("pooled", "ReduceMean", axes=[2, 3]), {("E4", "ReduceMean -> 'pooled'")}),
    "Round": ("network", operator("a_floor", "Round"), {("E4", "Round -> 'a_floor'")}),
    "Softmax at the end": (
        "network", both(lambda m: m.graph.node.append(helper.make_node("Softmax", ["output"], ["p"])), returned("p")),
        {("E4", "Softmax -> 'p'")}),
    "QuantizeLinear": ("network", operator("same", "QuantizeLinear", "resized", "hi"),
                       {("E4", "QuantizeLinear -> 'same'")}),
    "Mul of codes": ("network", ahead("b_acc", "Mul", "d4"), {("E4", "Mul -> 'new'")}),
    "Mul of an accumulator": ("network", ahead("b_div", "Mul", "d4"), {("E4", "Mul -> 'new'")}),
    "another domain": ("network", operator("relu", "Relu", domain="com.microsoft"), {("E4", "Relu -> 'relu'")}),
    "two outputs": ("network", two_outputs, {("E4", "graph")}),
    "indices of MaxPool": ("network", lambda m: node_of(m, "pool").output.append("indices"),
                           {("E4", "MaxPool -> 'pool'")}),
    "1-D convolution": (
        "network", both(changed("aw", lambda w: w[..., 0]), attribute("a_acc", pads=[1, 1])),
        {("E4", "Conv -> 'a_acc'")}),
    "alpha": ("network", attribute("y_acc", alpha=0.5), {("E4", "Gemm -> 'y_acc'")}),
    "transA": ("network", attribute("y_acc", transA=1), {("E4", "Gemm -> 'y_acc'")}),
    "linear Resize": ("network", attribute("resized", mode="linear"), {("E4", "Resize -> 'resized'")}),
    "Flatten of axis 2": ("matmul", ahead("product", "Flatten", axis=2), {("E4", "Flatten -> 'new'")}),
    "operator on a constant": ("network", inputs("relu", "ab"), {("E4", "Relu -> 'relu'")}),
    "operands that do not fit": ("network", inputs("sum_acc", "a", "entry"), {("E4", "Add -> 'sum_acc'")}),
    "features that do not fit": ("matmul", changed("w", lambda w: w[:7]), {("E4", "MatMul -> 'product'")}),
    "MaxPool with wide pads": ("network", attribute("pool", pads=[2, 0, 0, 0]), {("E4", "MaxPool -> 'pool'")}),
    "Resize of a region": ("network", constant("resized", 1, np.zeros(8)), {("E4", "Resize -> 'resized'")}),
    "computed target": ("network", inputs("reshaped", "part", "relu"), {("E4", "Reshape -> 'reshaped'")}),
    "impossible target": ("network", constant("reshaped", 1, [1, 4, 5, 5], np.int64),
                          {("E4", "Reshape -> 'reshaped'")}),
    "channels that do not fit": ("network", changed("bw", lambda w: w[:, :3]), {("E4", "Conv -> 'b_acc'")}),
    "Max of three": ("network", inputs("a_max", "a_floor", "lo", "zero"), {("E4", "Max -> 'a_max'")}),
    "name twice": ("network", lambda m: m.graph.node.append(node_of(m, "relu")), {("E4", "Relu -> 'relu'")}),
    "nodes out of order": ("network", lambda m: m.graph.node.append(m.graph.node.pop(4)), {("E4", "Div -> 'a_div'")}),
    "output that nothing makes": ("network", returned("nowhere"), {("E4", "nowhere")}),
    "function": ("network", lambda m: m.functions.add(), {("E4", "graph")}),
    # E5: order and operands
    "Min before Max": ("network", exchanged("a_max", "a"), {("E5", "Min -> 'a_max'")}),
    "no Floor": ("network", without("a_floor"), {("E5", "Max -> 'a_max'")}),
    "no Max": ("network", without("a_max"), {("E5", "Min -> 'a'")}),
    "no Min": ("network", without("y"), {("E5", "Max -> 'y_max'")}),
    "only a Div": ("network", without("b_floor", "b_max", "b"), {("E5", "Div -> 'b_div'")}),
    "Floor before Div": ("network", exchanged("a_div", "a_floor"), {("E5", "Floor -> 'a_div'")}),
    "Floor behind Max": ("network", exchanged("a_floor", "a_max"), {("E5", "Max -> 'a_floor'")}),
    "Relu behind Floor": ("network", ahead("a_max", "Relu"), {("E5", "Floor -> 'a_floor'")}),
    "Div with the constant first": ("network", inputs("a_div", "d512", "a_acc"), {("E5", "Div -> 'a_div'")}),
    "Max with the constant first": ("network", inputs("a_max", "lo", "a_floor"), {("E5", "Max -> 'a_max'")}),
    "Min with the constant first": ("network", inputs("a", "hi", "a_max"), {("E5", "Min -> 'a'")}),
    "input quantizer without Floor": ("network", without("entry_floor"), {("E5", "Max -> 'entry_max'")}),
    "bias first": ("matmul", inputs("acc", "b", "product"), {("E5", "Add -> 'acc'")}),
    "codes requantized again": ("network", inputs("b_div", "a", "d512"), {("E5", "Div -> 'b_div'")}),
    "codes clipped again": ("network", ahead("pool", "Min", "hi"), {("E5", "Min -> 'new'")}),
    "weight first": ("matmul", inputs("product", "w", "entry"), {("E5", "MatMul -> 'product'")}),
    "dequantizer with the constant first": ("network", inputs("output", "d4", "y"), {("E5", "Div -> 'output'")}),
    "floats divided again": (
        "network", both(lambda m: m.graph.node.append(helper.make_node("Div", ["output", "d4"], ["s"])), returned("s")),
        {("E5", "Div -> 's'")}),
    "two requantizers of one accumulator": ("network", inputs("b_div", "a_acc", "d512"), {("E5", "Div -> 'b_div'")}),
    # E6: divisors
    "divisor of rank 0": ("network", constant("a_div", 1, 512), {("E6", "Div -> 'a_div'")}),
    "divisor of rank 4": ("network", constant("a_div", 1, [[[[512]]]]), {("E6", "Div -> 'a_div'")}),
    "divisor per channel": ("network", constant("a_div", 1, np.full((1, 4, 1, 1), 512)), {("E6", "Div -> 'a_div'")}),
    "divisor 3": ("network", constant("y_div", 1, [3]), {("E6", "Div -> 'y_div'")}),
    "divisor 1/2": ("network", constant("sum_div", 1, [0.5]), {("E6", "Div -> 'sum_div'")}),
    "divisor 2**32": ("network", constant("a_div", 1, [2.0**32]), {("E6", "Div -> 'a_div'")}),
    "divisor 0": ("network", constant("a_div", 1, [0]), {("E6", "Div -> 'a_div'")}),
    "computed divisor": ("network", inputs("b_div", "b_acc", "a"), {("E6", "Div -> 'b_div'")}),
    "input scale 0.3": ("network", constant("entry_div", 1, [0.3]), {("E6", "Div -> 'entry_div'")}),
    "input scale per channel": ("network", constant("entry_div", 1, [[[[2]], [[3]]]]), {("E6", "Div -> 'entry_div'")}),
    "input scales that do not fit": ("network", constant("entry_div", 1, np.ones((1, 5, 1, 1))),
                                     {("E4", "Div -> 'entry_div'")}),
    "input scale -1": ("network", constant("entry_div", 1, [-1]), {("E6", "Div -> 'entry_div'")}),
    "computed input scale": ("network", inputs("entry_div", "input", "input"), {("E6", "Div -> 'entry_div'")}),
    "ADC gain 13.7": ("analog", constant("code_div", 1, [13.7]), {("E6", "Div -> 'code_div'")}),
    "analog divisor 6": ("analog", constant("y_div", 1, [6]), {("E6", "Div -> 'y_div'")}),
    "output scale 0": ("network", constant("output", 1, [0]), {("E6", "Div -> 'output'")}),
    # E7: bounds
    "fractional bound": ("network", constant("a_max", 1, 0.5), {("E7", "Max -> 'a_max'")}),
    "bounds exchanged": ("network", both(inputs("b_max", "b_floor", "hi"), inputs("b", "b_max", "lo")),
                         {("E7", "Min -> 'b'")}),
    "bounds equal": ("network", constant("a_max", 1, 127), {("E7", "Min -> 'a'")}),
    "upper bound 255": ("network", constant("a", 1, 255), {("E7", "Min -> 'a'")}),
    "lower bound -129": ("network", constant("b_max", 1, [-129]), {("E7", "Max -> 'b_max'")}),
    "bound per channel": ("network", constant("a", 1, np.full((1, 4, 1, 1), 127)), {("E7", "Min -> 'a'")}),
    "computed bound": ("network", inputs("b", "b_max", "a"), {("E7", "Min -> 'b'")}),
    # E8: weights and biases
    "fractional weight": ("network", changed("aw", last(0.5)), {("E8", "Conv -> 'a_acc'")}),
    "weight 128": ("network", changed("yw", last(128)), {("E8", "Gemm -> 'y_acc'")}),
    "weight that is no number": ("network", changed("aw", last(np.nan)), {("E8", "Conv -> 'a_acc'")}),
    "computed weight": ("network", inputs("b_acc", "a", "entry", "bb"), {("E8", "Conv -> 'b_acc'")}),
    "fractional bias": ("network", changed("ab", last(0.25)), {("E8", "Conv -> 'a_acc'")}),
    "fractional weight of a MatMul": ("matmul", changed("w", last(0.5)), {("E8", "MatMul -> 'product'")}),
    "bias times beta": ("network", both(attribute("y_acc", beta=0.5), changed("yb", last(3))),
                        {("E8", "Gemm -> 'y_acc'")}),
    "bias 2**31": ("network", changed("yb", last(2.0**31)), {("E8", "Gemm -> 'y_acc'")}),
    "bias -2**31": ("network", changed("ab", last(-(2.0**31))), {("E8", "Conv -> 'a_acc'")}),
    "bias (1, N)": ("network", changed("yb", lambda b: b[None]), {("E8", "Gemm -> 'y_acc'")}),
    "bias (1,)": ("network", changed("ab", lambda b: b[:1]), {("E8", "Conv -> 'a_acc'")}),
    "bias (1, N) behind MatMul": ("matmul", changed("b", lambda b: b[None]), {("E8", "Add -> 'acc'")}),
    "multiplier per row": ("analog", changed("m", lambda m: m.reshape(1, 1, 3, 1)), {("E8", "Mul -> 'scaled'")}),
    "fractional multiplier": ("analog", changed("m", last(1.5)), {("E8", "Mul -> 'scaled'")}),
    "fractional summand": ("analog", changed("s", last(0.5)), {("E8", "Add -> 'shifted'")}),
    # E9: Clip
    "Clip": ("network", both(operator("a", "Clip", "a_max", "zero", "hi"), without("a_max")), {("E9", "Clip -> 'a'")}),
    "Clip with one bound": ("network", operator("a_max", "Clip", "a_floor", "zero"), {("E9", "Clip -> 'a_max'")}),
    "Clip behind a Conv": ("network", ahead("b_div", "Clip", "lo", "hi"), {("E9", "Clip -> 'new'")}),
    "Clip of a mean": ("network", both(operator("mean", "Clip", "mean_max", "lo", "hi"), without("mean_max")),
                       {("E9", "Clip -> 'mean'")}),
    # E10: means
    "mean without its clip": ("network", without("mean_floor", "mean_max", "mean"),
                              {("E10", "GlobalAveragePool -> 'pooled'")}),
    "mean without Flatten": ("network", both(without("flat"), ahead("y_acc", "Flatten")),
                             {("E10", "Floor -> 'mean_floor'")}),
    "mean with Reshape": ("network", operator("flat", "Reshape", "pooled", "target"), {("E10", "Reshape -> 'flat'")}),
    "mean with Div": ("network", ahead("mean_floor", "Div", "d1"), {("E10", "Div -> 'new'")}),
    "mean flattened too late": ("network", attribute("flat", axis=2), {("E10", "Flatten -> 'flat'")}),
    "mean of negative codes": ("network", without("relu"), {("E10", "GlobalAveragePool -> 'pooled'")}),
    # E11: not requantized
    "Conv of an accumulator": ("network", inputs("b_acc", "a_acc", "bw", "bb"), {("E11", "Conv -> 'b_acc'")}),
    "Conv of a pattern's inside": ("network", inputs("b_acc", "a_max", "bw", "bb"), {("E11", "Conv -> 'b_acc'")}),
    "input returned": ("network", returned("input"), {("E11", "input")}),
    "Add of an accumulator": ("network", inputs("sum_acc", "a", "b_acc"), {("E11", "Add -> 'sum_acc'")}),
    "Relu of a pattern's inside": ("network", both(ahead("b_acc", "Relu"), inputs("new", "a_floor")),
                                   {("E11", "Relu -> 'new'")}),
    "mean of an accumulator": ("network", inputs("pooled", "sum_acc"), {("E11", "GlobalAveragePool -> 'pooled'")}),
    "last layer not requantized": ("network", without("y_div", "y_floor", "y_max", "y"), {("E11", "Div -> 'output'")}),
    "no dequantizer": ("network", both(without("output"), returned("y")), {("E11", "y")}),
    "accumulator returned": ("network", returned("y_acc"), {("E11", "y_acc")}),
    "codes divided on the way": ("network", ahead("b_acc", "Div", "d4"), {("E11", "Conv -> 'b_acc'")}),
    "moved codes divided on the way": ("network", ahead("pad", "Div", "d4"), {("E11", "Div -> 'new'")}),
    "dequantizer behind a Relu": ("network", ahead("output", "Relu"), {("E11", "Div -> 'output'")}),
    "sum of floats": (
        "network", both(lambda m: m.graph.node.append(helper.make_node("Add", ["output", "mean"], ["s"])),
                        returned("s")), {("E11", "Add -> 's'")}),
    # E12: sums
    "constant behind a Conv": ("network", ahead("b_div", "Add", "d4"), {("E12", "Add -> 'new'")}),
    "constant operand": ("network", inputs("sum_acc", "a", "hi"), {("E12", "Add -> 'sum_acc'")}),
    "constant on the input": ("network", ahead("entry_div", "Add", "d4"), {("E12", "Add -> 'new'")}),
    "constant first operand": ("network", inputs("sum_acc", "hi", "b"), {("E12", "Add -> 'sum_acc'")}),
    # E13: attributes
    "annotation": ("network", attribute("a_acc", weight_bits=8), {("E13", "Conv -> 'a_acc'")}),
    "annotated Div": ("network", attribute("b_div", out_bits=8), {("E13", "Div -> 'b_div'")}),
    "annotated Min": ("network", attribute("b", out_bits=8), {("E13", "Min -> 'b'")}),
    "attribute of another type": ("network", attribute("b_acc", group=1.0), {("E13", "Conv -> 'b_acc'")}),
    # E15: the input
    "no input quantizer": ("network", without("entry_div", "entry_floor", "entry_max", "entry"),
                           {("E15", "Conv -> 'a_acc'")}),
    "Transpose before the quantizer": ("network", ahead("entry_div", "Transpose", perm=[0, 1, 3, 2]),
                                       {("E15", "Transpose -> 'new'")}),
    "Pad before the quantizer": (
        "network", both(ahead("entry_div", "Pad", "pads"), attribute("a_acc", pads=[0, 0, 0, 0])),
        {("E15", "Pad -> 'new'")}),
}


def errors(model: onnx.ModelProto, files: Mapping[str, bytes] | None = None) -> list[tuple[str, str]]:
    return [(finding.code, finding.node) for finding in check_model(model, files or {}).errors]


@pytest.mark.parametrize("name", BASES)
def test_the_graphs_that_are_spoilt_below_are_legal(name):
    assert errors(base(BASES[name])) == []


@pytest.mark.parametrize(("name", "mutate", "expected"), MUTATIONS.values(), ids=MUTATIONS)
def test_one_fault_is_one_finding(name, mutate, expected):
    model = base(BASES[name])
    mutate(model)
    assert sorted(errors(model)) == sorted(expected)


def test_a_finding_says_what_is_there_what_is_needed_and_what_to_do():
    for name, mutate, _ in MUTATIONS.values():
        model = base(BASES[name])
        mutate(model)
        for finding in check_model(model).errors:
            assert "" not in (finding.found, finding.needed, finding.remedy), finding


def test_all_faults_of_a_file_are_told_at_once():
    model = base(NETWORK)
    told = set()
    for name in ("float64 divisor", "IR version 9", "two outputs", "weight 128", "annotated Min", "mean with Div"):
        _, mutate, expected = MUTATIONS[name]
        mutate(model)
        told |= expected
    assert set(errors(model)) == told
    assert len(errors(model)) == len(told)
