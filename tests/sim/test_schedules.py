"""Hundreds of schedules of one engine, each decided by its seed alone; whatever happens, the books are right.

A failing seed is run again, to the same message, with `pytest tests/sim/test_schedules.py -k seed17`.
"""

import tempfile
from pathlib import Path

import pytest

from tests.sim.schedules import run_schedule

SEEDS = range(220)
REAL_EVERY = 10
"""Every so many schedules nodes run the real service; the others a linear one, which is faster."""
MEMORY = Path("/dev/shm")


@pytest.fixture
def state_dir(tmp_path):
    """A place in memory where there is one: a schedule has hundreds of durable writes."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="schedule-") as directory:
        yield Path(directory)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed{seed}")
def test_whatever_happens_the_books_are_right(state_dir, seed):
    run_schedule(state_dir, seed, real=seed % REAL_EVERY == 0)
