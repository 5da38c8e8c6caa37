"""One file a chip; ``load("diana")`` or ``load("my_chip.py")``, a file that defines ``TARGET``."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from pathlib import Path

from onnxdiana.errors import TargetError
from onnxdiana.targets.base import Obstacle, Target
from onnxdiana.user_code import load_module

__all__ = ["Obstacle", "Target", "load", "names"]


def names() -> list[str]:
    """The targets that come with the package."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def load(target: str | Target) -> Target:
    """A target by name, from a Python file of the user's that defines ``TARGET``, or itself.

    Raises:
        TargetError: no such name or file, or the file defines no Target.
    """
    if isinstance(target, Target):
        return target
    if target.endswith(".py"):
        module = load_module(Path(target), "target", TargetError,
                             f"--target takes a name ({', '.join(names())}) or a .py file")
    elif target in names():
        module = importlib.import_module(f"{__name__}.{target}")
    else:
        near = difflib.get_close_matches(target, names(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names())}"
        raise TargetError(f"unknown target '{target}'; {hint}")
    found = getattr(module, "TARGET", None)
    if not isinstance(found, Target):
        raise TargetError(f"{target}: defines no TARGET; write TARGET = onnxdiana.targets.Target(...)")
    return found
