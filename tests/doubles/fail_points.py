"""A fail point that a test switches on for a while: durable writes then fail there, as the test says."""

from contextlib import contextmanager

from flow_nexus_neural.errors import StoreUnavailable

JOURNAL = "before_commit"
FILES = "before_write"


def disk_is_full():
    return StoreUnavailable("could not write to the journal: database or disk is full")


class FailPoints:
    """Passed as `Ports.fail_point`; nothing fails until told so."""

    def __init__(self):
        self._failures, self._next = {}, {}

    def __call__(self, point):
        failure = self._next.pop(point, None) or self._failures.get(point)
        if failure is not None:
            raise failure

    def fail_once(self, point, failure):
        """Raise this failure at the next arrival at the point."""
        self._next[point] = failure

    @contextmanager
    def failing(self, point, failure):
        """Raise this failure at every arrival at the point."""
        self._failures[point] = failure
        try:
            yield
        finally:
            self._failures.pop(point, None)
