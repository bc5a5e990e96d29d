"""Denormal numbers as zero, for as long as anything in this thread computes so.

Moments of dead units decay to denormal numbers, on which a step costs 20 times as much (measured). The
setting belongs to the thread, which in-process runtimes share with other code, so it is set per request. A
short request that is answered during a long one must not switch it off for the rest of that one.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class _Depth(threading.local):
    """How many computations of this thread want it."""

    n = 0


_depth = _Depth()


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take denormal numbers for zero in this thread."""
    _depth.n += 1
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        _depth.n -= 1
        if not _depth.n:
            torch.set_flush_denormal(False)
