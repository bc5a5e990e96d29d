"""A process that is stopped is told from one that runs, sleeps or is gone."""

import os
import signal
import subprocess
import sys

import pytest

from flow_nexus_neural.runtime.process.kernel_state import is_stopped

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
