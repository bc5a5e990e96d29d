"""For every run of tests: where its files lie, where it hangs if it cannot leave; fixtures of many tests."""

import faulthandler
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from flow_nexus_neural.coordination.training_strategy import Strategy
from flow_nexus_neural.engine.training import preparation
from tests.doubles.limits import HANG_S

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30
"""What the files of a run are given room for; those of tests that passed are removed."""


def pytest_configure():
    """Keep temporary files in memory, where there is room.

    Thousands of tests write state directories, and each commit waits until the disk has it. What they test is
    the order of writes and the death of processes, neither of which takes a disk.
    """
    if "PYTEST_DEBUG_TEMPROOT" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    programs_run = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    if programs_run and shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.tempdir = str(MEMORY)


def pytest_unconfigure(config):
    # After the last report only the interpreter's own end is left, which waits for threads without a limit.
    faulthandler.dump_traceback_later(HANG_S, exit=True)


@pytest.fixture
def workers_share(monkeypatch):
    """Trainings that are not federated are shared by all workers, however small they are."""
    shared = Strategy("local_sgd", "a test wants it")
    monkeypatch.setattr(preparation, "choose_strategy", lambda _effort: shared)
