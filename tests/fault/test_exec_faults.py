"""Nodes started one by one that die, freeze, or never come up, and an owner that is killed."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import numpy as np
import pytest

from flow_nexus_neural.errors import IsolationUnavailable, NodeDied, NodeStartFailed
from flow_nexus_neural.protocol.messages import Ping, Predict
from flow_nexus_neural.runtime.exec import spawn as exec_spawn
from flow_nexus_neural.runtime.exec.runtime import ExecRuntime
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.doubles.runtimes import LIGHT_EXEC, descriptors, gone, open_runtime, spec, until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
RAISES, EXITS, STAYS_SILENT, SPEAKS_FIRST = 9001, 9002, 9003, 9004
NO_ROWS = {"x": np.zeros((0, 3), "f4")}


@pytest.fixture(scope="module", params=["exec", "exec-port"])
async def runtime(request, anyio_backend):
    async with open_runtime(request.param) as opened:
        yield opened


def children():
    names = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return sorted(int(name) for name in names if not gone(name))


def environment_of(pid):
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_killed_node_fails_its_call_and_no_other_node(runtime):
    nodes = [await runtime.start(spec(f"worker-{number}")) for number in range(2)]
    os.kill(nodes[0].pid, signal.SIGKILL)
    exit_ = await nodes[0].wait_exit()
    assert (exit_.reason, exit_.returncode, exit_.signal) == ("killed", -9, "SIGKILL")
    assert (exit_.cpu_s, exit_.max_rss_bytes) == (None, None)
    assert (await nodes[1].call(Ping()))[0].kind == "pong"
    assert (await nodes[1].stop(grace_s=HANG_S)).reason == "stopped"


async def test_a_crash_is_told_with_its_last_words(runtime):
    node = await runtime.start(spec())
    with pytest.raises(NodeDied):
        await node.call(Predict(network="talk"), NO_ROWS)
    exit_ = await node.wait_exit()
    assert (exit_.reason, exit_.signal) == ("crashed", "SIGABRT")
    assert exit_.stderr_tail.endswith("last words")
    assert len(exit_.stderr_tail) == 4096


async def test_a_frozen_node_is_stopped_by_force_after_its_grace(runtime):
    node = await runtime.start(spec("frozen"))
    os.kill(node.pid, signal.SIGSTOP)
    exit_ = await node.stop(grace_s=0.05)
    assert (exit_.reason, exit_.signal) == ("killed", "SIGKILL")
    assert "grace" in exit_.sentence
    assert gone(node.pid)


@pytest.mark.parametrize(
    ("seed", "timeout_s", "reason", "words"),
    [
        (RAISES, HANG_S, "node_bug", "refused to be born"),
        (EXITS, HANG_S, "node_bug", ""),
        (STAYS_SILENT, 1.5, None, ""),
        (SPEAKS_FIRST, HANG_S, "protocol_violation", ""),
    ],
)
async def test_a_failed_start_leaves_nothing_behind(runtime, seed, timeout_s, reason, words):
    if seed == SPEAKS_FIRST and not runtime._inherit:
        pytest.skip("the rogue speaks on descriptor 3, which is not its connection here")
    before, others = descriptors(), children()
    with pytest.raises(NodeStartFailed) as caught:
        await runtime.start(spec("stillborn", seed=seed), ready_timeout_s=timeout_s)
    assert caught.value.details.get("reason") == reason
    assert words in str(caught.value.details.get("stderr_tail", ""))
    await until(lambda: sorted(descriptors()) == sorted(before))
    assert children() == others


@pytest.mark.parametrize("inherit", [True, False])
@pytest.mark.parametrize(
    "command", [("/nowhere/python",), (sys.executable, "-I", "-c", "raise SystemExit('no luck')")]
)
async def test_a_program_that_is_no_node_is_a_failed_start(command, inherit):
    async with ExecRuntime(Settings(), command=command, inherit=inherit) as runtime:
        before, others = descriptors(), children()
        with pytest.raises(NodeStartFailed):
            await runtime.start(spec(), ready_timeout_s=HANG_S)
        await until(lambda: sorted(descriptors()) == sorted(before))
        assert children() == others


async def test_a_cancelled_start_leaves_nothing_behind(runtime):
    before, others = descriptors(), children()
    for rounds in (0, 1, 2, None):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.start, spec("unwanted", seed=STAYS_SILENT))
            for _ in range(rounds or 0):
                await anyio.lowlevel.checkpoint()
            if rounds is None:
                await until(lambda: children() != others)
            tasks.cancel_scope.cancel()
        await until(lambda: children() == others)
        await until(lambda: sorted(descriptors()) == sorted(before))


async def test_its_level_is_what_was_found_and_a_higher_demand_is_refused(runtime):
    node = await runtime.start(spec())
    assert node.isolation.level == "process"
    assert runtime.isolation_preview() == node.isolation
    assert any("seccomp" in gap for gap in node.isolation.missing)
    assert node.isolation.probes["open"] == "allowed"
    assert node.isolation.layers["rlimits"]["nofile"] == 96
    assert b"HOME" not in environment_of(node.pid)
    assert len(os.listdir(f"/proc/{node.pid}/fd")) == 2
    await node.stop()
    async with ExecRuntime(Settings(require_isolation="seccomp"), command=LIGHT_EXEC) as strict:
        with pytest.raises(IsolationUnavailable, match="seccomp"):
            await strict.start(spec())
        assert [known.gone for known in strict.nodes] == [True]


def own_two_nodes(kind):
    command = [sys.executable, "-m", "tests.fault.programs.exec_owner", kind]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


@pytest.mark.parametrize("kind", ["exec", "exec-port"])
async def test_a_killed_owner_leaves_no_node(kind):
    with own_two_nodes(kind) as owner:
        pids = owner.stdout.readline().split()
        assert len(pids) == 2
        assert not any(gone(int(pid)) for pid in pids)
        owner.kill()
    await until(lambda: all(gone(int(pid)) for pid in pids))


async def test_only_the_holder_of_the_token_is_taken_for_the_node():
    class Running:
        async def wait(self):
            await anyio.sleep_forever()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        stranger = socket.create_connection(address)
        stranger.sendall(b"x" * 32)
        node = socket.create_connection(address)
        node.sendall(b"t" * 32)
        with anyio.fail_after(HANG_S):
            accepted = await exec_spawn._accept(listener, b"t" * 32, Running())
        assert accepted.getpeername() == node.getsockname()
        for end in (stranger, node, accepted):
            end.close()
