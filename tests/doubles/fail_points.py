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
        self._planned = {}

    def __call__(self, point):
        if point not in self._planned:
            return
        failure, passing, times = self._planned[point]
        if passing > 0:
            self._planned[point] = failure, passing - 1, times
        elif times > 0:
            self._planned[point] = failure, 0, times - 1
            raise failure

    def fail_once(self, point, failure):
        """Raise this failure at the next arrival at the point."""
        self._planned[point] = failure, 0, 1

    def refuse(self, point, failure, *, after, times):
        """Raise this failure so many times at the point, after so many arrivals that pass."""
        self._planned[point] = failure, after, times

    def is_done(self, point):
        """Whether all planned failures of the point have happened."""
        _, passing, times = self._planned[point]
        return (passing, times) == (0, 0)

    @contextmanager
    def failing(self, point, failure, *, after=0):
        """Raise this failure at every arrival at the point; the first `after` of them pass."""
        self._planned[point] = failure, after, float("inf")
        try:
            yield
        finally:
            self._planned.pop(point, None)
