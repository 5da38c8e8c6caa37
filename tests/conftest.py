"""Profiles of the generated tests: ``ci`` by default, ``deep`` for many more examples.

``pytest --hypothesis-profile=deep`` or ``HYPOTHESIS_PROFILE=deep pytest``. Both are derandomized: the same examples on
every machine.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("ci", max_examples=150, derandomize=True, deadline=None, database=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", settings.get_profile("ci"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
