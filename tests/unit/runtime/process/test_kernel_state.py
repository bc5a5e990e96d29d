"""What a process is kept from or given: stopped, asleep, running, or gone."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flow_nexus_neural.runtime.process.kernel_state import is_stopped, processor_time
from tests.doubles.limits import HANG_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_only_a_stopped_process_is_stopped():
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert not is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert is_stopped(process.pid)
    finally:
        process.kill()
        process.wait()
    assert not is_stopped(process.pid)


def test_what_ran_is_counted_and_whether_it_wants_to_run():
    assert processor_time(os.getpid()).runnable  # it runs this
    before_s, began_s = processor_time(os.getpid()).ran_s, time.thread_time()
    while time.thread_time() - began_s < 0.05:
        pass
    assert processor_time(os.getpid()).ran_s - before_s >= 0.04
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        deadline_s = time.monotonic() + HANG_S
        while processor_time(process.pid).runnable:
            assert time.monotonic() < deadline_s
        assert 0 < processor_time(process.pid).ran_s < HANG_S
    finally:
        process.kill()
        process.communicate()
    assert processor_time(process.pid) is None
