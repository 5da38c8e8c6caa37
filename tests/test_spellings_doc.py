"""docs/spellings.md has a row for every rule and for every spelling that the generated graphs draw."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from onnxdiana.rules.canonicalize import RULES
from tests.generated.spellings import SPELLINGS

ROWS = [[cell.strip() for cell in line.strip("|").split("|")]
        for line in (Path(__file__).parents[1] / "docs/spellings.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("|") and not line.startswith(("|---", "| what "))]


def named(column: int) -> set[str]:
    """Everything in backticks in one column."""
    return {name for row in ROWS for name in re.findall("`([^`]+)`", row[column])}


def test_every_row_has_five_cells() -> None:
    assert ROWS
    assert [row for row in ROWS if len(row) != 5] == []


@pytest.mark.parametrize(("column", "names"), [(2, {rule.name for rule in RULES}), (4, set(SPELLINGS))],
                         ids=["rules", "spellings"])
def test_names_are_those_of_the_code(column: int, names: set[str]) -> None:
    """None is missing, and none is left of what went away."""
    assert sorted(named(column) ^ names) == []
