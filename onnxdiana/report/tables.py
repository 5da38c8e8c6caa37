"""Columns, shares and counts as a terminal shows them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 120
"""Columns in which lines with text are kept."""


def grid(head: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    """Columns as wide as their widest cell; the named ones flush right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return ["  ".join(cell.rjust(w) if i in right else cell.ljust(w)
                      for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in [head, *rows]]


def share(part: int, whole: int) -> str:
    """Percent; never 0% of something nor 100% of less than all."""
    percent = 100 * part / max(whole, 1)
    if part not in (0, whole) and not 1 <= percent <= 99:
        return "<1%" if percent < 1 else ">99%"
    return f"{percent:.0f}%"


def counted(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sizes(shape: Sequence[int]) -> str:
    """A shape without the batch; ``-`` for a single number."""
    return "x".join(map(str, shape)) or "-"


def wrapped(text: str, lead: str) -> list[str]:
    """Lines of at most :data:`WIDTH` columns, the first behind a lead, the others flush with it."""
    return textwrap.wrap(text, WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead),
                         break_long_words=False, break_on_hyphens=False)
