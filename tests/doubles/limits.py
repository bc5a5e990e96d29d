"""How long tests wait before they call something hung: one place, and no measure of how fast a machine is.

A wait under `HANG_S` says "this must happen at all". It is far above what anything needs on a machine that is
slow and busy, and far below the limit of a whole test (`timeout` in pyproject.toml), so that a report names
the wait that hangs. What a promise says about seconds is tested by the constants that keep it, or in virtual
time. `tests/unit/test_no_limit_measures_the_machine.py` holds this.
"""

HANG_S = 120.0
"""What has not happened in this time is not going to happen."""

PREDICT_MS = 20_000
"""What a prediction may take where a test says nothing of it: nodes answer in time on a busy machine too."""
