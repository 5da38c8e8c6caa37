"""``validate`` finds any single change in a folder, whatever hashes were made to fit; and stands damaged folders."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_networks
import tiny
from onnx import numpy_helper

from onnxdiana import Config, check, quantize
from onnxdiana.cli import main

MODELS = ("model.float.onnx", "model.qdq.onnx", "model.int.onnx", "htvm/model.onnx")
Spoil = Callable[[Path], None]


@dataclass(frozen=True)
class Outcome:
    """What a run of ``validate`` said."""

    status: int
    out: str
    err: str


def validate(folder: Path, *options: str) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["validate", str(folder), *options])
    return Outcome(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module", params=list(small_networks.NETWORKS))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it was written; not to be changed."""
    folder = tmp_path_factory.mktemp(request.param) / "out"
    quantize(small_networks.model(request.param), small_networks.samples(request.param), folder)
    return folder


@pytest.fixture
def work(whole: Path, tmp_path: Path) -> Path:
    """A copy, to be spoiled."""
    return shutil.copytree(whole, tmp_path / "work")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def rehash(folder: Path) -> None:
    """Make every recorded hash of a file fit the file."""
    scales = read_json(folder / "scales.json")
    scales["model"]["sha256"] = sha256(folder / "model.float.onnx")
    write_json(folder / "scales.json", scales)
    manifest = folder / "htvm" / "manifest.json"
    document = read_json(manifest)
    document["sha256"] = {name: sha256(folder / "htvm" / name) for name in document["sha256"]}
    write_json(manifest, document)
    rehash_summary(folder)


def rehash_summary(folder: Path) -> None:
    summary = read_json(folder / "summary.json")
    summary["files"] = {name: sha256(folder / name) for name in summary["files"]}
    write_json(folder / "summary.json", summary)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def restore(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def layers_of(folder: Path) -> list[dict[str, Any]]:
    return list(read_json(folder / "summary.json")["layers"])


def names_any(text: str, names: set[str]) -> bool:
    """Whether a finding names one of the tensors, or something made from it (``<tensor>.<role>``)."""
    return any(re.search(rf"'{re.escape(name)}['.]", text) for name in names)


def elements(size: int) -> list[int]:
    """First, middle and last."""
    return sorted({0, size // 2, size - 1})


def bumped(array: np.ndarray, index: int) -> np.ndarray:
    """A copy with one element one larger (one smaller at the end of an integer's range); a float by one ulp."""
    changed = array.copy().reshape(-1)
    if changed.dtype.kind == "f":
        changed[index] = np.nextafter(changed[index], np.float32(np.inf))
    else:
        changed[index] = changed[index] - 1 if changed[index] == np.iinfo(changed.dtype).max else changed[index] + 1
    return changed.reshape(array.shape)


# -- untouched --------------------------------------------------------------------------------------------------------


def test_an_untouched_folder_passes(whole: Path) -> None:
    found = validate(whole)
    assert (found.status, found.err) == (0, "")
    assert re.search(r"^ok: \d+ files are what was written", found.out, re.MULTILINE)
    assert f"ok: {len(contents(whole)) - 1} files" in found.out


def test_making_hashes_fit_changes_nothing_in_an_untouched_folder(whole: Path, work: Path) -> None:
    rehash(work)
    assert contents(work) == contents(whole)


# -- single changes ---------------------------------------------------------------------------------------------------


def expected_names(proto: onnx.ModelProto, initializer: str, layers: list[dict[str, Any]]) -> set[str]:
    """The layer that a constant belongs to: the first one downstream; both its names, with and without ReLU."""
    known = {name: {entry["name"], entry["output"]} for entry in layers
             for name in (entry["name"], entry["output"], f"{entry['output']}.quantized")}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        for value in node.input:
            readers.setdefault(value, []).append(node)
    names, front = {initializer}, [initializer]
    while front:
        tensor = front.pop(0)
        names |= known.get(tensor, {tensor})
        if tensor in known:
            break
        front += [node.output[0] for node in readers.get(tensor, [])]
    return names


def constants(proto: onnx.ModelProto) -> Iterator[tuple[str, np.ndarray]]:
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind in "fiu" and array.size:
            yield tensor.name, array


def with_constant(proto: onnx.ModelProto, name: str, array: np.ndarray) -> bytes:
    changed = copy.deepcopy(proto)
    tensor = next(t for t in changed.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return changed.SerializeToString(deterministic=True)


@pytest.mark.parametrize("file", MODELS)
def test_any_constant_of_a_model_changed_by_one(whole: Path, work: Path, file: str) -> None:
    """Every weight, bias, shift, scale and bound, with every hash of a file made to fit."""
    proto, files, layers, missed, tried = onnx.load(whole / file), contents(whole), layers_of(whole), [], set()
    for name, array in constants(proto):
        for index in elements(array.size):
            (work / file).write_bytes(with_constant(proto, name, bumped(array, index)))
            rehash(work)
            found = validate(work)
            named = names_any(found.out, expected_names(proto, name, layers)) or name == "pads"  # which are of no layer
            if found.status != 1 or not named or file not in found.out:
                missed.append((name, index, found))
            restore(work, files)
            tried.add(name)
    assert not missed
    linear = [entry for entry in layers if entry["operator"] in ("Conv", "Gemm")]
    assert len(tried) >= 2 * len(linear)


@pytest.mark.parametrize("file", ["model.qdq.onnx", "model.int.onnx", "htvm/model.onnx"])
def test_any_node_of_a_model_changed(whole: Path, work: Path, file: str) -> None:
    proto, files = onnx.load(whole / file), contents(whole)
    for index, node in enumerate(proto.graph.node):
        changed = copy.deepcopy(proto)
        if len(node.input) == 2 and node.op_type in ("Max", "Min"):
            changed.graph.node[index].op_type = "Min" if node.op_type == "Max" else "Max"
        else:
            changed.graph.node[index].name += "x"
        (work / file).write_bytes(changed.SerializeToString())
        rehash(work)
        found = validate(work)
        assert (found.status, f"{file}: node '{node.output[0]}'" in found.out) == (1, True), found
        restore(work, files)


@pytest.mark.parametrize("file", MODELS)
@pytest.mark.parametrize("part", ["input", "output", "metadata", "opset", "unused constant"])
def test_what_a_model_declares_changed(work: Path, file: str, part: str) -> None:
    proto = onnx.load(work / file)
    if part == "metadata":
        proto.metadata_props.add(key="a", value="b")
    elif part == "opset":
        proto.opset_import[0].version -= 1
    elif part == "unused constant":
        proto.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "unused"))
    else:
        values = proto.graph.input if part == "input" else proto.graph.output
        values[0].type.tensor_type.shape.dim[1].dim_value += 1
    (work / file).write_bytes(proto.SerializeToString())
    rehash(work)
    found = validate(work)
    # all other files follow from the float model, and are found to differ where it is what was changed
    told = r"(model|samples|scales)\.\w+" if file == "model.float.onnx" else re.escape(file)
    assert found.status == 1, found
    assert re.search(told, found.out)


def changed_entries(document: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Path and new value of every number, text and truth value in a JSON document, changed by one."""
    def walk(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
        if isinstance(value, dict | list):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                yield from walk(item, (*path, key))
        elif isinstance(value, bool):
            yield path, not value
        elif isinstance(value, int | float):
            yield path, value + 1
            yield path, value - 1
        else:
            yield path, "x" if value is None else f"{value}x"

    yield from walk(document, ())


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def test_any_entry_of_the_scale_table_changed_by_one(whole: Path, work: Path) -> None:
    """Every exponent, code bound, shift, accumulator bound, core, rounding and role."""
    document, files, missed, tried = read_json(whole / "scales.json"), contents(whole), [], set()
    layers = {entry[key] for entry in layers_of(whole) for key in ("name", "output")}
    for path, value in changed_entries({key: document[key] for key in ("tensors", "layers")}):
        write_json(work / "scales.json", put(document, path, value))
        rehash(work)
        found = validate(work)
        # an exponent is at odds with the shift of the layer behind it, or of the one in front of it
        names = layers if path[2] == "exponent" else {path[1]}
        if found.status != 1 or not names_any(found.out, names):
            missed.append((path, value, found))
        restore(work, files)
        tried.add(path[2])
    assert not missed
    assert tried == {"exponent", "codes", "axis", "role", "core", "shift", "rounding", "accumulator_bound"}


def test_a_tensor_or_layer_added_to_or_missing_from_the_scale_table(whole: Path, work: Path) -> None:
    document = read_json(whole / "scales.json")
    for section in ("tensors", "layers"):
        first = next(iter(document[section]))
        for changed in (put(document, (section, "more"), document[section][first]),
                        {**document, section: {k: v for k, v in document[section].items() if k != first}}):
            write_json(work / "scales.json", changed)
            rehash(work)
            found = validate(work)
            assert (found.status, f"scales.json: {section} do not match" in found.out) == (1, True)


def test_any_vector_changed_by_one(whole: Path, work: Path) -> None:
    vectors = sorted((whole / "htvm").glob("*.npy"))
    files, missed = contents(whole), []
    names = read_json(whole / "htvm" / "manifest.json")["intermediates"]
    assert {path.name for path in vectors} == {"input.npy", "output.npy", *names}
    for path in vectors:
        array, name = np.load(path), f"htvm/{path.name}"
        for index in elements(array.size):
            changed = array.copy().reshape(-1)
            changed[index] += 1
            np.save(work / name, changed.reshape(array.shape))
            rehash(work)
            found = validate(work)
            at = [int(i) for i in np.unravel_index(index, array.shape)]
            tensor = f"tensor '{names[path.name]}'" if path.name in names else path.stem
            if found.status != 1 or f"{name} ({tensor}) at {at}" not in found.out:
                missed.append((name, index, found))
            restore(work, files)
    assert not missed


@pytest.mark.parametrize("change", ["float64", "another shape", "Fortran order", "longer", "shorter", "pickle", "huge"])
def test_a_vector_of_another_form(work: Path, change: str) -> None:
    path = work / "htvm" / "intermediate_1.npy"
    array = np.load(path)
    if change == "pickle":
        with open(path, "wb") as stream:
            np.lib.format.write_array(stream, np.array([Exploding()], dtype=object), allow_pickle=True)
    elif change == "huge":
        path.write_bytes(huge_header(10**15))
    elif change == "longer":
        path.write_bytes(path.read_bytes() + b"\0\0\0\0")
    elif change == "shorter":
        path.write_bytes(path.read_bytes()[:-4])
    else:
        np.save(path, {"float64": array.astype(np.float64), "another shape": array[0],
                       "Fortran order": np.asfortranarray(np.concatenate([array, array]))}[change])
    rehash(work)
    found = validate(work)
    assert found.status == 1
    assert "htvm/intermediate_1.npy (tensor " in found.out
    assert "has another type or shape than what was written" in found.out


class Exploding:
    """Running its pickle fails the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was run",)


def huge_header(count: int) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (count,)})
    return stream.getvalue() + bytes(64)


def test_any_entry_of_the_manifest_changed(whole: Path, work: Path) -> None:
    document = read_json(whole / "htvm" / "manifest.json")
    for path, value in changed_entries(document):
        write_json(work / "htvm" / "manifest.json", put(document, path, value))
        rehash_summary(work)
        found = validate(work)
        assert (found.status, "htvm/manifest.json does not describe" in found.out) == (1, True), (path, value)


RECOMPUTED = ("target", "layers", "totals", "agreement", "handoff")
"""Sections of summary.json that follow from the other files."""
HASHED_ONLY = {("agreement", "samples")}


def test_any_figure_of_the_summary_changed(whole: Path, work: Path) -> None:
    """Every key of a layer, the totals and the agreement; the rest is what only the run itself knew."""
    document = read_json(whole / "summary.json")
    missed, tried = [], set()
    ends = (0, len(document["layers"]) - 1)
    changes = dict(changed_entries({key: document[key] for key in RECOMPUTED}))  # one a path
    for path, value in changes.items():
        if path in HASHED_ONLY or (path[0] == "layers" and path[1] not in ends):
            continue
        write_json(work / "summary.json", put(document, path, value))
        found = validate(work)
        names = {document["layers"][path[1]]["name"]} if path[0] == "layers" else set()
        if found.status != 1 or not (names_any(found.out, names) or "summary.json" in found.out):
            missed.append((path, value, found))
        tried.add(path[2] if path[0] == "layers" else path[0])
    assert not missed
    assert tried >= {"name", "operator", "output", "output_shape", "core", "shift", "rounding", "exponent", "codes",
                     "accumulator_bound", "sqnr_db", "macs", "parameters", "sha256", "totals", "agreement"}


@pytest.mark.parametrize("change", ["missing", "twice", "key missing", "key added", "no list", "section missing"])
def test_layers_of_the_summary_added_or_missing(work: Path, change: str) -> None:
    summary = read_json(work / "summary.json")
    first = summary["layers"][0]
    if change == "missing":
        del summary["layers"][0]
    elif change == "twice":
        summary["layers"].append(copy.deepcopy(first))
    elif change == "key missing":
        del first["macs"]
    elif change == "key added":
        first["more"] = 1
    elif change == "no list":
        summary["layers"] = 5
    else:
        del summary["totals"]
    write_json(work / "summary.json", summary)
    found = validate(work)
    assert found.status == 1, found
    assert "summary.json" in found.out


def test_a_stored_sample_changed(work: Path) -> None:
    """The first one gives other vectors; in any other, the file's own hash tells."""
    with np.load(work / "samples.npz") as archive:
        samples = dict(archive)
    samples["x"][0, 0, 0, 0] += 1
    np.savez_compressed(work / "samples.npz", **samples)
    rehash(work)
    found = validate(work)
    assert (found.status, "htvm/input.npy (input) at [0, 0, 0, 0]" in found.out) == (1, True), found


@pytest.mark.parametrize("name", ["samples.npz", "summary.json", "scales.json", *MODELS, "htvm/manifest.json",
                                  "htvm/intermediate_0.npy"])
def test_any_byte_changed_and_no_hash_made_to_fit(whole: Path, work: Path, name: str) -> None:
    """Wherever it is: exit 1, or 2 where summary.json itself cannot be read; never a traceback."""
    data = (whole / name).read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 12):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(0, 7))
        (work / name).write_bytes(changed)
        found = validate(work)
        if name == "summary.json":  # holds much that only the run knew, such as versions
            assert found.status in (0, 1, 2)
        else:
            assert found.status == 1
            assert name in found.out
        assert "Traceback" not in found.err


@pytest.mark.parametrize("name", ["samples.npz", "summary.json", "scales.json", *MODELS, "htvm/manifest.json"])
def test_any_byte_changed_and_hashes_made_to_fit(whole: Path, work: Path, name: str) -> None:
    """Whatever a damaged file makes the libraries do, the answer is a finding or that nothing is wrong, never a bug."""
    data = (whole / name).read_bytes()
    rng = np.random.default_rng(1)
    for position in rng.integers(0, len(data), 12):
        changed = bytearray(data)
        changed[position] = int(rng.integers(0, 256))
        (work / name).write_bytes(changed)
        with contextlib.suppress(ValueError, KeyError, AttributeError, TypeError, OSError):  # JSON no more
            rehash(work)
        found = validate(work)
        assert found.status in (0, 1, 2)
        assert "Traceback" not in found.err
        restore(work, contents(whole))


# -- damaged folders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["samples.npz", "scales.json", *MODELS, "htvm/manifest.json", "htvm/output.npy"])
@pytest.mark.parametrize("left", [0, 0.5])
@pytest.mark.parametrize("fit", [False, True], ids=["", "hashes made to fit"])
def test_a_file_cut_short(work: Path, name: str, left: float, fit: bool) -> None:
    data = (work / name).read_bytes()
    (work / name).write_bytes(data[:int(len(data) * left)])
    if fit:
        rehash_summary(work)
    found = validate(work)
    assert (found.status, found.err) == (1, "")
    assert name in found.out


def test_a_summary_cut_short(work: Path) -> None:
    (work / "summary.json").write_bytes((work / "summary.json").read_bytes()[:200])
    found = validate(work)
    assert (found.status, found.out) == (2, "")
    assert "no readable summary.json; give a folder that 'onnxdiana quantize' wrote" in found.err


def test_any_file_removed(whole: Path, work: Path) -> None:
    files = contents(whole)
    for name in files:
        if name == "summary.json":
            continue
        for listed in (True, False):
            (work / name).unlink()
            if not listed:
                summary = read_json(work / "summary.json")
                del summary["files"][name]
                write_json(work / "summary.json", summary)
            found = validate(work)
            assert (found.status, name in found.out) == (1, True), (name, listed, found)
            restore(work, files)


@pytest.mark.parametrize("name", ["notes.txt", "htvm/intermediate_99.npy", "more/deep.onnx"])
def test_a_file_added(work: Path, name: str) -> None:
    (work / name).parent.mkdir(exist_ok=True)
    (work / name).write_bytes(b"x")
    found = validate(work)
    assert (found.status, f"{name} was not written by onnxdiana" in found.out) == (1, True)


def test_what_desktops_leave_behind_is_no_finding(work: Path) -> None:
    (work / ".DS_Store").write_bytes(b"x")
    assert validate(work).status == 0


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "link"])
def test_a_listed_file_outside_the_folder_is_not_read(work: Path, name: str) -> None:
    (work.parent / "outside").write_text("secret")
    (work / "link").symlink_to(work.parent / "outside")
    summary = read_json(work / "summary.json")
    summary["files"][name] = "0"
    write_json(work / "summary.json", summary)
    found = validate(work)
    assert (found.status, found.out) == (2, "")
    assert f"names a file outside the folder, '{name}'" in found.err


def test_no_folder_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text('{"format": "of others", "files": {}}')
    for folder in (tmp_path, file, tmp_path / "missing", tmp_path / "other"):
        found = validate(folder)
        assert (found.status, found.out) == (2, "")
        assert str(folder) in found.err
        assert "onnxdiana quantize" in found.err


@pytest.mark.parametrize("target", ["evil.py", "htvm/evil.py"])
def test_a_target_that_a_folder_names_is_not_run(work: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / target).write_text("open('run', 'w')\nfrom onnxdiana.targets.diana import TARGET\n")
    monkeypatch.chdir(work)
    scales = read_json(work / "scales.json")
    write_json(work / "scales.json", {**scales, "target": target})
    rehash(work)
    assert validate(work).status == 1
    assert not (work / "run").exists()


@pytest.mark.parametrize("change", ["pickle", "huge", "too many", "NaN", "another shape", "no archive"])
def test_stored_samples_that_are_none(work: Path, change: str) -> None:
    path = work / "samples.npz"
    with np.load(path) as archive:
        samples = archive["x"]
    stream = io.BytesIO()
    if change == "pickle":
        np.lib.format.write_array(stream, np.array([Exploding()], dtype=object), allow_pickle=True)
    elif change == "huge":
        stream.write(huge_header(10**15))
    else:
        samples[0, 0, 0, 0] = np.nan if change == "NaN" else samples[0, 0, 0, 0]
        np.save(stream, {"too many": np.concatenate([samples] * 9), "another shape": samples[:, :1]}.get(
            change, samples))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", stream.getvalue())
    if change == "no archive":
        path.write_bytes(b"x")
    rehash(work)
    found = validate(work)
    assert (found.status, found.err) == (1, "")
    assert "samples.npz" in found.out


@pytest.mark.parametrize("exponent", [10**9, -(10**9), 400, -400])
def test_an_exponent_beyond_float32(work: Path, exponent: int) -> None:
    scales = read_json(work / "scales.json")
    name = next(iter(scales["tensors"]))
    write_json(work / "scales.json", put(scales, ("tensors", name, "exponent"), exponent))
    rehash(work)
    found = validate(work)
    assert (found.status, f"has exponent {exponent}, expected" in found.out) == (1, True)


def test_a_shift_that_no_exponents_forbid_but_the_chip_does(work: Path) -> None:
    """Exponents and shift changed together, beyond 31."""
    scales = read_json(work / "scales.json")
    last = layers_of(work)[-1]
    scales["tensors"][last["output"]]["exponent"] += 40
    scales["layers"][last["name"]]["shift"] += 40
    write_json(work / "scales.json", scales)
    rehash(work)
    found = validate(work)
    assert (found.status, found.err) == (1, "")
    assert f"shift {last['shift'] + 40}" in found.out


def test_the_version_that_wrote_the_folder_is_named_where_something_is_wrong(work: Path) -> None:
    summary = read_json(work / "summary.json")
    summary["versions"]["onnxdiana"] = "0.0.1"
    write_json(work / "summary.json", summary)
    assert validate(work).status == 0
    (work / "htvm" / "input.npy").unlink()
    assert "onnxdiana 0.0.1 wrote the folder" in validate(work).out


# -- folders of all kinds ---------------------------------------------------------------------------------------------

TWO_OUTPUTS = """(float[N,8] x) => (float[N,4] y, float[N,4] z) <float[8,8] v, float[4,8] w> {
    a = Gemm<transB=1>(x, v)  r = Relu(a)  y = Gemm<transB=1>(r, w)  t = Gemm<transB=1>(x, w)  z = Relu(t) }"""
ODD_NAMES = """(float[N,8] x) => (float[N,8] z) <float[8,8] v> {
    a = Gemm<transB=1>(x, v)  b = Relu(a)  c = Gemm<transB=1>(b, v)  d = Add(c, b)  z = Relu(d) }"""
"""A weight that two layers share; the tensors are given names that ours could collide with."""


def rename(proto: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    for node in proto.graph.node:
        for values in (node.input, node.output):
            for i, value in enumerate(values):
                values[i] = names.get(value, value)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.name = names.get(value.name, value.name)
    return proto


@pytest.mark.parametrize("case", ["recover none", "cpu", "one sample", "synthetic", "two outputs", "odd names", "dead"])
def test_folders_of_all_kinds_pass(case: str, tmp_path: Path) -> None:
    from tiny import model

    proto, config = small_networks.model("residual"), Config()
    data: Any = small_networks.samples("residual")
    if case == "recover none":
        config = Config(recover="none")
    elif case == "cpu":
        config = Config(core="cpu")
    elif case == "one sample":
        data = data[:1]
    elif case == "synthetic":
        data = None
    elif case == "dead":
        for tensor in proto.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(tensor), tensor.name))
    elif case in ("two outputs", "odd names"):
        proto, data = model(TWO_OUTPUTS if case == "two outputs" else ODD_NAMES), None
        proto = rename(proto, {} if case == "two outputs" else {"a": "b.float", "b": "c.quantized", "v": "v.quantized",
                                                                "z": "Größe/z:0"})
    artifacts = quantize(proto, data, tmp_path / "out", config=config)
    assert artifacts.summary["handoff"]["written"] == (case != "two outputs")
    found = validate(tmp_path / "out")
    assert (found.status, found.err) == (0, ""), found.out


def test_a_bias_that_nothing_corrected_follows_from_the_float_one(tmp_path: Path) -> None:
    """With ``recover="none"`` even the hashes of the layer may be made to fit."""
    folder = tmp_path / "out"
    quantize(small_networks.model("chain"), small_networks.samples("chain"), folder, config=Config(recover="none"))
    proto = onnx.load(folder / "model.int.onnx")
    name, bias = next((name, array) for name, array in constants(proto) if array.dtype == np.int32 and array.size == 36)
    changed = bumped(bias, 3)
    (folder / "model.int.onnx").write_bytes(with_constant(proto, name, changed))
    rehash(folder)
    summary = (folder / "summary.json").read_text("utf-8")
    digest = [hashlib.sha256(array.tobytes()).hexdigest() for array in (bias, changed)]
    assert digest[0] in summary
    (folder / "summary.json").write_text(summary.replace(*digest), "utf-8")
    found = validate(folder)
    assert (found.status, "layer 'y': its bias in model.int.onnx at [3] is" in found.out) == (1, True)


def test_a_target_of_the_users_is_not_needed_again(tmp_path: Path) -> None:
    target = tmp_path / "chip.py"
    target.write_text("from onnxdiana.targets import Target\n"
                      "TARGET = Target('my chip', unsigned=(0, 100), obstacles=lambda layer: [])\n")
    folder = tmp_path / "out"
    quantize(small_networks.model("residual"), small_networks.samples("residual"), folder,
             config=Config(target=str(target)))
    target.unlink()
    assert validate(folder).status == 0
    scales = read_json(folder / "scales.json")
    scales["tensors"]["r0"]["codes"][1] -= 1
    write_json(folder / "scales.json", scales)
    rehash(folder)
    found = validate(folder)
    assert (found.status, names_any(found.out, {"c1"})) == (1, True)  # whose accumulators are smaller then


def test_a_moved_folder_needs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder, other = tmp_path / "model.onnx", tmp_path / "out", tmp_path / "elsewhere" / "moved"
    onnx.save(small_networks.model("chain"), path)
    np.save(tmp_path / "data.npy", small_networks.samples("chain"))
    quantize(path, tmp_path / "data.npy", folder)
    other.parent.mkdir()
    folder.rename(other)
    path.unlink()
    (tmp_path / "data.npy").unlink()
    monkeypatch.chdir(other.parent)
    assert validate(Path("moved")).status == 0
    for name, data in contents(other).items():
        assert str(tmp_path).encode() not in data, name


# -- data and output --------------------------------------------------------------------------------------------------


def test_other_data(work: Path, tmp_path: Path) -> None:
    name = "residual" if read_json(work / "summary.json")["totals"]["layers"] == 5 else "chain"
    np.save(tmp_path / "few.npy", small_networks.samples(name, 7, seed=9))
    np.save(tmp_path / "many.npy", small_networks.samples(name, 150, seed=9))
    own = json.loads(validate(work, "--json").out)
    for file, count in (("few.npy", 7), ("many.npy", 38)):  # every fourth of 150
        found = validate(work, "--data", str(tmp_path / file), "--json")
        document = json.loads(found.out)
        assert (found.status, document["ok"], document["samples"]) == (0, True, count)
        assert [layer["tensor"] for layer in document["layers"]] == [layer["tensor"] for layer in own["layers"]]
        assert document["layers"] != own["layers"]


@pytest.mark.parametrize("data", ["missing.npy", "wrong.npy", "nothing_of_this_name:f"])
def test_other_data_that_do_not_fit(work: Path, tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("wrong.npy", np.zeros((2, 3), np.float32))
    found = validate(work, "--data", data)
    assert (found.status, found.out) == (2, "")
    assert data.split(":")[0] in found.err


def test_json_says_what_the_table_says(whole: Path, work: Path) -> None:
    document = json.loads(validate(whole, "--json").out)
    assert {key: type(value) for key, value in document.items()} == {
        "ok": bool, "samples": int, "files": int, "findings": list, "layers": list}
    stored = len(np.load(whole / "samples.npz")["x"])
    assert (document["ok"], document["findings"], document["samples"]) == (True, [], stored)
    table = validate(whole).out.splitlines()
    names = list(read_json(whole / "scales.json")["tensors"])
    assert [layer["tensor"] for layer in document["layers"]] == [
        name for name in names if read_json(whole / "scales.json")["tensors"][name]["role"] != "weight"]
    for layer, row in zip(document["layers"], table[2:], strict=False):
        assert {key: type(value) for key, value in layer.items()} == {
            "tensor": str, "sqnr_fake_quantized_db": float, "sqnr_db": float, "largest_code_distance": int}
        tensor, fake, exact, distance = row.split()
        assert (tensor, int(distance)) == (layer["tensor"], layer["largest_code_distance"])
        assert float(fake) == pytest.approx(layer["sqnr_fake_quantized_db"], abs=0.0051)
        assert float(exact) == pytest.approx(layer["sqnr_db"], abs=0.0051)
    (work / "htvm" / "input.npy").unlink()
    document = json.loads(validate(work, "--json").out)
    assert (document["ok"], document["findings"][0]) == (False, "htvm/input.npy is missing; quantize again")


def test_only_the_first_findings_are_printed(work: Path) -> None:
    for path in (work / "htvm").iterdir():
        path.unlink()
    for i in range(30):
        (work / f"more_{i}").write_text("x")
    found = validate(work)
    lines = found.out.splitlines()
    count = len(json.loads(validate(work, "--json").out)["findings"])
    assert [line for line in lines if line.startswith("FAILED: ")] == lines[-21:-1]
    assert lines[-1:] == [f"and {count - 20} more; --json tells all"]


def test_an_input_that_nothing_reads(tmp_path: Path) -> None:
    text = "(float[N,4] x, float[N,2] unread) => (float[N,3] y) <float[3,4] w> { y = Gemm<transB = 1>(x, w) }"
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((6, 4)).astype(np.float32), "unread": np.zeros((6, 2), np.float32)}
    quantize(tiny.model(text), data, tmp_path / "out")
    report = check.validate(tmp_path / "out")
    assert report.findings == ()
    assert [layer.tensor for layer in report.layers] == ["x", "y"]
