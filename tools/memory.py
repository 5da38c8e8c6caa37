"""Peak memory of ``onnxdiana quantize`` with 10,000 calibration samples against 100, for every kind of data.

Each run is a process of its own. The limit of the ratio is 1.1.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from measure import ONNXDIANA, ROOT, run, verdict

LIMIT = 1.1
PART = 100
"""Samples made at a time: this process stays small."""
GENERATOR = "samples_of_the_benchmark"
KINDS = ("npy", "npz", "folder", "generator")


def parts(count: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Samples between 0 and 1, (PART, *shape) each; ``count`` is a multiple of PART."""
    random = np.random.default_rng(0)
    return (random.random((PART, *shape), np.float32) for _ in range(count // PART))


def write(kind: str, folder: Path, count: int, shape: tuple[int, ...]) -> str:
    """Samples as data of one kind; what ``--calib`` takes."""
    if kind == "generator":
        (folder / f"{GENERATOR}.py").write_text(
            "import sys\n"
            f"sys.path.insert(0, {str(ROOT / 'tools')!r})\n"
            "import memory\n"
            f"def make():\n    return memory.parts({count}, {shape})\n")
        return f"{GENERATOR}:make"
    if kind == "folder":
        for i, part in enumerate(parts(count, shape)):
            np.save(folder / f"{i:05}.npy", part)
        return str(folder)
    path = folder / "data.npy"
    with open(path, "wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<f4", "fortran_order": False, "shape": (count, *shape)})
        for part in parts(count, shape):
            stream.write(part.tobytes())
    if kind == "npz":
        with zipfile.ZipFile(folder / "data.npz", "w") as archive:
            archive.write(path, "samples.npy")
        path.unlink()
        path = folder / "data.npz"
    return str(path)


def peak(model: Path, kind: str, count: int, shape: tuple[int, ...]) -> float:
    """MiB of one run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        folder.mkdir()
        data = write(kind, folder, count, shape)
        command = [*ONNXDIANA, "quantize", str(model), "--calib", data, "-o", str(Path(name) / "out"), "-q"]
        return run(command, folder).peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path, help="by default the carried digits model")
    parser.add_argument("--samples", type=int, nargs="+", default=[100, 10_000],
                        help=f"multiples of {PART}, the first one is compared with (default 100 10000)")
    options = parser.parse_args()
    good = True
    for model in options.models or [ROOT / "examples" / "digits" / "resnet8.onnx"]:
        dims = onnx.load(model, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
        shape = tuple(d.dim_value for d in dims[1:])
        for kind in KINDS:
            first, *others = (peak(model.resolve(), kind, count, shape) for count in options.samples)
            for count, found in zip(options.samples[1:], others, strict=True):
                what = f"{model.name}, {kind}: {options.samples[0]} samples {first:.0f} MiB, {count} {found:.0f} MiB"
                good &= verdict(what, found / first, LIMIT)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
