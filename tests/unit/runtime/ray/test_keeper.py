import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.runtimes import gone, until

pytestmark = pytest.mark.anyio
KEEPER = (sys.executable, "-I", "-m", "flow_nexus_neural.runtime.ray.keeper")
# A driver that leaves a process in a session of its own behind, names it, and stays or ends.
LEAVES = """
import subprocess, sys
left = subprocess.Popen(["sleep", "3600"], start_new_session=True)
open(sys.argv[1], "w").write(str(left.pid))
{then}
"""


@pytest.fixture
def anyio_backend():
    return "asyncio"


def keep(told, then):
    ours, lifeline = os.pipe()
    command = [sys.executable, "-I", "-c", LEAVES.format(then=then), str(told)]
    keeper = subprocess.Popen([*KEEPER, str(ours), str(os.getpid()), *command], pass_fds=(ours,))
    os.close(ours)
    return keeper, lifeline


async def left_behind(told):
    await until(lambda: told.exists() and told.read_text())
    return int(told.read_text())


async def test_what_a_driver_leaves_behind_ends_with_it(tmp_path: Path):
    keeper, lifeline = keep(tmp_path / "pid", "sys.exit(7)")
    pid = await left_behind(tmp_path / "pid")
    await until(lambda: keeper.poll() is not None)
    assert keeper.returncode == 7
    assert gone(pid)
    os.close(lifeline)


async def test_when_the_server_ends_so_do_the_driver_and_what_it_started(tmp_path: Path):
    keeper, lifeline = keep(tmp_path / "pid", "import time; time.sleep(3600)")
    pid = await left_behind(tmp_path / "pid")
    assert not gone(pid)
    os.close(lifeline)
    await until(lambda: keeper.poll() is not None)
    assert gone(pid)
