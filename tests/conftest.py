"""Profiles of the generated tests, and the table of what they drew.

``pytest --hypothesis-profile=deep`` or ``HYPOTHESIS_PROFILE=deep pytest`` draws many more examples than ``ci``, the
default. Both are derandomized: the same examples on every machine.
"""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ci", max_examples=150, derandomize=True, deadline=None, database=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", settings.get_profile("ci"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

GRAPHS, OCCURRENCES = 500, 20
"""Generated graphs that have to pass, and how often every spelling has to be in one of them, at least."""


def _drawn(reporter: pytest.TerminalReporter) -> tuple[int, Counter[str], bool]:
    """Graphs accepted, how often each spelling occurred, and whether every spelling's own test ran."""
    from tests.generated.spellings import SPELLINGS

    found = [json.loads(value) for report in reporter.getreports("passed")
             for key, value in report.user_properties if key == "generated graphs"]
    counts = Counter(dict.fromkeys(SPELLINGS, 0))
    for entry in found:
        counts.update(entry["spellings"])
    return sum(entry["accepted"] for entry in found), counts, len(found) == len(SPELLINGS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How often every spelling occurred in generated graphs, the rarest first."""
    if not any(key == "generated graphs" for report in terminalreporter.getreports("passed")
               for key, _ in report.user_properties):
        return
    accepted, counts, _ = _drawn(terminalreporter)
    terminalreporter.section(f"{accepted} generated graphs passed; spellings in them")
    cells = [f"{count:4} {name}" for name, count in sorted(counts.items(), key=lambda item: (item[1], item[0]))]
    for i in range(0, len(cells), 3):
        terminalreporter.write_line("".join(f"{cell:42}" for cell in cells[i:i + 3]).rstrip())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Too few graphs, or a spelling in too few of them, fails a whole run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    accepted, counts, complete = _drawn(reporter)
    if complete and (accepted < GRAPHS or min(counts.values()) < OCCURRENCES):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
