"""For every run of tests: one that has ended and cannot leave says where it hangs, and is ended."""

import faulthandler

from tests.doubles.limits import HANG_S


def pytest_unconfigure(config):
    # After the last report only the interpreter's own end is left, which waits for threads without a limit.
    faulthandler.dump_traceback_later(HANG_S, exit=True)
