"""Python files that the user named on purpose: the only way in which onnxdiana runs code that is not its own."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import ModuleType

from onnxdiana.errors import OnnxDianaError


def load_module(path: Path, role: str, error: type[OnnxDianaError], hint: str) -> ModuleType:
    """Run a file and return it as a module; what it prints goes to stderr, and nothing is written beside it.

    Args:
        path: of the file.
        role: what it is read as, for the module's name.
        error: to raise.
        hint: what may be given instead of a file that is not there.

    Raises:
        OnnxDianaError: of the given class: no such file, or running it failed.
    """
    if not path.is_file():
        raise error(f"{path}: no such file; {hint}")
    module = ModuleType(f"onnxdiana_user_{role}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as failure:
        raise error(f"{path}: running it failed: {type(failure).__name__}: {failure}; repair it") from failure
    return module
