"""The package as it is installed: ``rules/`` is ``onnxdiana.rules`` and nothing else, and importing is cheap."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "onnxruntime", "onnx", "onnx_ir", "onnxscript", "onnx_graphsurgeon")


def _python(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def _packages(folder: Path, name: str) -> Iterator[str]:
    """Every package in a folder; a link to another folder belongs to that one."""
    if any(folder.glob("*.py")):
        yield name
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and not inner.is_symlink() and inner.name != "__pycache__":
            yield from _packages(inner, f"{name}.{inner.name}")


def test_packages_are_the_folders_that_hold_modules() -> None:
    setuptools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = [*_packages(REPOSITORY / "onnxdiana", "onnxdiana"), *_packages(REPOSITORY / "rules", "onnxdiana.rules")]
    assert sorted(setuptools["packages"]) == sorted(found)
    assert setuptools["package-dir"] == {"onnxdiana.rules": "rules"}


def test_every_package_has_an_init() -> None:
    for top, name in ((REPOSITORY / "onnxdiana", "onnxdiana"), (REPOSITORY / "rules", "rules")):
        for package in _packages(top, name):
            assert (REPOSITORY / package.replace(".", "/") / "__init__.py").is_file(), package


def test_the_link_for_type_checkers() -> None:
    assert os.readlink(REPOSITORY / "onnxdiana" / "rules") == os.path.join("..", "rules")


def test_rules_beside_the_package_refuses_to_be_imported() -> None:
    result = _python("-c", "import rules")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "ImportError: import onnxdiana.rules, not rules"
    result = _python("-c", "import rules.canonicalize")
    assert result.stderr.splitlines()[-1] == "ImportError: import onnxdiana.rules, not rules"


def test_installed_nothing_is_called_rules(tmp_path: Path) -> None:
    result = _python("-c", "import onnxdiana.rules; import rules", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'rules'"
    assert (metadata.distribution("onnxdiana").read_text("top_level.txt") or "").split() == ["onnxdiana"]


LOADED = f"import sys; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
IMPORTS = {
    "import onnxdiana": f"import onnxdiana; {LOADED}",
    "dir(onnxdiana)": f"import onnxdiana; dir(onnxdiana); onnxdiana.__version__; {LOADED}",
    "python -m onnxdiana --help": (
        "import atexit, runpy, sys\n"
        f"atexit.register(lambda: print(*sorted(set(sys.modules) & set({HEAVY!r}))))\n"
        "sys.argv = ['onnxdiana', '--help']\n"
        "runpy.run_module('onnxdiana', run_name='__main__')"
    ),
    "python -m onnxdiana quantize --help": (
        "import atexit, runpy, sys\n"
        f"atexit.register(lambda: print(*sorted(set(sys.modules) & set({HEAVY!r}))))\n"
        "sys.argv = ['onnxdiana', 'quantize', '--help']\n"
        "runpy.run_module('onnxdiana', run_name='__main__')"
    ),
}


@pytest.mark.parametrize("code", IMPORTS.values(), ids=IMPORTS)
def test_nothing_heavy_is_loaded(code: str) -> None:
    result = _python("-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == ""


def test_the_check_above_would_see_it() -> None:
    assert _python("-c", f"import onnxdiana.graph; {LOADED}").stdout.split() != []


def test_public_names_exist() -> None:
    result = _python("-c", "import onnxdiana; [getattr(onnxdiana, name) for name in onnxdiana.__all__]")
    assert result.returncode == 0, result.stderr
