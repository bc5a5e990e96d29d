"""An event loop in which a seed decides what a machine's load decides elsewhere: the order of ready tasks.

Time is virtual: it stands still while anything can run, and jumps to the next deadline when nothing can.
"""

from contextlib import contextmanager

import anyio
from trio._core import _run as scheduler
from trio.testing import MockClock


def run_seeded(function, *arguments, seed=0):
    """Run an async function to its end; the same seed gives the same order of tasks.

    Only for code that uses no threads and no other outside event: their moment is not in the seed.
    """
    with _order_of(seed):
        clock = MockClock(autojump_threshold=0)
        return anyio.run(function, *arguments, backend="trio", backend_options={"clock": clock})


@contextmanager
def _order_of(seed):
    # What hypothesis and pytest-trio set to make trio's scheduler reproducible.
    allowed, state = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = allowed
        scheduler._r.setstate(state)
