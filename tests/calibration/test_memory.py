"""Peak memory of a whole run does not depend on the amount of data, for every kind of data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny import model

RUN = """
import sys, resource
from onnxdiana.cli import main
status = main(["quantize", "m.onnx", "--calib", sys.argv[1], "-o", "out", "--force", "-q", "--json"])
try:  # ru_maxrss survives exec: it would tell the peak of the test runner
    with open("/proc/self/status") as lines:
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
except (OSError, StopIteration):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak, file=sys.stderr)
sys.exit(status)
"""
GENERATOR = """
import numpy as np
def make():
    random = np.random.default_rng(0)
    for _ in range({count} // 50):
        yield random.integers(0, 255, (50, 3, 32, 32), np.uint8)
"""
CONV = """(float[N,3,32,32] x) => (float[N,10] y) <float[8,3,3,3] w, float[8] b, float[10,8] v> {
    a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b)  r = Relu(a)  p = GlobalAveragePool(r)  f = Flatten(p)
    y = Gemm<transB=1>(f, v) }"""


def write(kind: str, folder: Path, count: int) -> str:
    """Samples of 3 kB, as float32 12 kB: 10,000 of them would add 30 or 120 MB to the 150 MB of a run."""
    if kind == "generator":
        (folder / "samples_of_test_memory.py").write_text(GENERATOR.format(count=count))
        return "samples_of_test_memory:make"
    x = np.random.default_rng(0).integers(0, 255, (count, 3, 32, 32), np.uint8)
    if kind == "folder":
        (folder / "set").mkdir()
        for i, part in enumerate(np.split(x, 10)):
            np.save(folder / "set" / f"{i}.npy", part)
        return "set"
    if kind.startswith("npz"):
        (np.savez_compressed if kind.endswith("compressed") else np.savez)(folder / "data.npz", x=x)
        return "data.npz"
    np.save(folder / "data.npy", np.asfortranarray(x) if kind.endswith("fortran") else x)
    return "data.npy"


@pytest.mark.parametrize("kind", ["npy", "npy-fortran", "npz", "npz-compressed", "folder", "generator"])
def test_memory_does_not_depend_on_the_amount_of_data(kind: str, tmp_path: Path) -> None:
    peaks = {}
    for count in (100, 10_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        onnx.save(model(CONV), folder / "m.onnx")
        data = write(kind, folder, count)
        run = subprocess.run([sys.executable, "-c", RUN, data], cwd=folder, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert f'"samples": {count},' in run.stdout
        peaks[count] = int(run.stderr)
    assert peaks[10_000] <= 1.1 * peaks[100]
