"""Running models: any number of samples whatever the model's batch, any tensor fetched, errors that say what failed."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import tiny

from onnxdiana.errors import ModelError
from onnxdiana.runtime import CHUNK, Runner, length, take

TEXT = """(float[{batch},3] x) => (float[{batch},2] y) <float[2,3] w, float[2] b> {{
    a = Gemm<transB=1>(x, w, b)  r = Relu(a)  y = Neg(r) }}"""


def model(batch: str = "N") -> onnx.ModelProto:
    return tiny.model(TEXT.format(batch=batch))


def data(count: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((count, 3)).astype(np.float32)}


def expected(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    proto = model()
    a = inputs["x"] @ tiny.values(proto, "w").T + tiny.values(proto, "b")
    return {"a": a, "r": np.maximum(a, 0), "y": -np.maximum(a, 0)}


@pytest.mark.parametrize("batch", ["N", "1", "4", "7", "64"])
@pytest.mark.parametrize("count", [1, 3, 4, 15, 16, 17, 40, 65])
def test_any_number_of_samples(batch: str, count: int) -> None:
    """Fixed batches smaller and larger than the data, ragged last ones."""
    inputs = data(count)
    found = Runner(model(batch), ["a", "y", "r"]).run(inputs)
    assert list(found) == ["a", "y", "r"]
    for name, values in found.items():
        assert values.shape == (count, 2)
        np.testing.assert_allclose(values, expected(inputs)[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_samples_run_in_chunks_whose_size_is_not_the_callers() -> None:
    """So that floats add up in the same order for any split at a multiple of the chunk."""
    runner, inputs, sizes = Runner(model()), data(3 * CHUNK + 5), []

    class Session:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            sizes.append(len(feed["x"]))
            return self.inner.run(names, feed)  # type: ignore[attr-defined]

    runner._session = Session(runner._session)
    whole = runner.run(inputs)["y"]
    assert sizes == [CHUNK, CHUNK, CHUNK, 5]
    parts = [runner.run(take(inputs, start, start + CHUNK))["y"] for start in range(0, length(inputs), CHUNK)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_what_fills_a_fixed_batch_up_does_not_come_back() -> None:
    inputs = data(5)
    before = inputs["x"].copy()
    found = Runner(model("4")).run(inputs)["y"]
    np.testing.assert_array_equal(found, np.concatenate([Runner(model("4")).run(take(inputs, i, i + 1))["y"]
                                                         for i in range(5)]))
    np.testing.assert_array_equal(inputs["x"], before)


def test_two_inputs() -> None:
    proto = tiny.model("(float[4,3] x, float[4,3] z) => (float[4,3] y) { y = Sub(x, z) }")
    x, z = data(6)["x"], np.arange(18, dtype=np.float32).reshape(6, 3)
    np.testing.assert_array_equal(Runner(proto).run({"z": z, "x": x})["y"], x - z)


def test_outputs_are_fetched_where_nothing_is_asked_for() -> None:
    proto = tiny.model("(float[N,3] x) => (float[N,3] z, float[N,3] y) { y = Neg(x)  z = Neg(y) }")
    assert list(Runner(proto).run(data(2))) == ["z", "y"]
    assert list(Runner(proto, []).run(data(2))) == []


def test_fetching_leaves_the_model_as_it_was() -> None:
    proto = model()
    before = proto.SerializeToString(deterministic=True)
    intermediate = ir.from_proto(proto)
    for form in (proto, intermediate):
        Runner(form, ["a", "a", "y"]).run(data(2))
    assert proto.SerializeToString(deterministic=True) == before
    assert len(intermediate.graph.outputs) == 1


def test_both_forms_of_a_model_answer_alike() -> None:
    inputs = data(20)
    np.testing.assert_array_equal(Runner(ir.from_proto(model())).run(inputs)["y"], Runner(model()).run(inputs)["y"])


def test_tensors_of_other_types_are_fetched_as_they_are() -> None:
    proto = tiny.model("(float[N,3] x) => (float[N,3] y) <int8 s = {1}> { q = Cast<to=3>(x)  y = Cast<to=1>(q) }")
    assert Runner(proto, ["q"]).run(data(20))["q"].dtype == np.int8


def test_a_model_that_cannot_be_loaded() -> None:
    proto = model()
    proto.graph.node[0].op_type = "Gemmm"
    with pytest.raises(ModelError, match=r"onnxruntime cannot load the model: .*Gemmm"):
        Runner(proto)
    with pytest.raises(ModelError, match="onnxruntime cannot load the model"):
        Runner(model(), ["missing"])


def test_a_model_that_cannot_be_run() -> None:
    proto = tiny.model("(float[N,4] x) => (float[M,3] y) <int64[2] s = {-1, 3}> { y = Reshape(x, s) }")
    with pytest.raises(ModelError, match=r"onnxruntime failed to run the model: .") as raised:
        Runner(proto).run({"x": np.zeros((2, 4), np.float32)})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("limit", "inputs"), [(10**9, ""), (223, "v"), (4 * 32, "v"), (127, "vw"), (0, "bvw")])
def test_weights_that_no_message_holds(monkeypatch: pytest.MonkeyPatch, limit: int, inputs: str) -> None:
    """The largest ones stay out of the message, and the answers the same."""
    proto = tiny.model("""(float[N,4] x) => (float[N,4] y)
        <float[4,6] w, float[6,4] v, float[4] b, int64[2] s = {-1,4}> {
        a = MatMul(x, w)  c = MatMul(a, v)  d = Add(c, b)  y = Reshape(d, s) }""")
    x = {"x": np.random.default_rng(0).standard_normal((CHUNK + 3, 4)).astype(np.float32)}
    source = ir.from_proto(proto)
    expected = Runner(source, ["c", "y"]).run(x)
    monkeypatch.setattr("onnxdiana.runtime.LARGEST_PROTO", limit)
    before = ir.to_proto(source).SerializeToString(deterministic=True)
    runner = Runner(source, ["c", "y"])
    assert ir.to_proto(source).SerializeToString(deterministic=True) == before
    assert "".join(sorted(set(runner._weights) - {"s"})) == inputs
    for name, array in runner.run(x).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)


def test_weights_that_no_message_holds_are_not_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxdiana.runtime.LARGEST_PROTO", 0)
    inputs = data(5)
    for batch in ("N", "4"):
        found = Runner(ir.from_proto(model(batch)), ["a", "y", "r"]).run(inputs)
        for name, values in found.items():
            np.testing.assert_allclose(values, expected(inputs)[name], rtol=1e-5, atol=1e-6)


def test_take_and_length() -> None:
    batch = {"a": np.arange(10), "b": np.arange(20).reshape(10, 2)}
    assert length(batch) == 10
    part = take(batch, 8, 12)
    assert {name: values.tolist() for name, values in part.items()} == {"a": [8, 9], "b": [[16, 17], [18, 19]]}
