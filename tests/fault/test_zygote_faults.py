"""The process that starts nodes dies, freezes, or never comes up; and the server is killed above it."""

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest

from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.ports import REAL_PORTS
from flow_nexus_neural.errors import (
    IsolationUnavailable,
    NodeDied,
    NodeStartFailed,
    RuntimeUnavailable,
)
from flow_nexus_neural.protocol.messages import Ping, Predict
from flow_nexus_neural.runtime.connection import readiness
from flow_nexus_neural.runtime.local import runtime as local
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.runtime.process.environment import ENVIRONMENT
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.doubles.runtimes import descriptors, gone, kill, open_runtime, spec, until
from tests.sim.simulated import World

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch):
    monkeypatch.setattr(local, "_BACKOFF_S", (0.01,) * 5)


async def test_when_the_zygote_dies_its_nodes_die_and_the_next_start_works():
    async with open_runtime("local") as runtime:
        nodes = [await runtime.start(spec(f"worker-{n}")) for n in range(3)]
        first = runtime.zygote_info().pid
        waiting = []

        async def frozen():
            with pytest.raises(NodeDied):
                await nodes[0].call(Predict(network="loop_for_ever"), {})
            waiting.append("told")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(frozen)
            await nodes[1].call(Ping())
            os.kill(first, signal.SIGKILL)
            exits = [await node.wait_exit() for node in nodes]
        assert waiting == ["told"]
        assert [exit_.reason for exit_ in exits] == ["runtime_lost"] * 3
        assert [exit_.returncode for exit_ in exits] == [None] * 3
        assert [gone(node.pid) for node in nodes] == [True] * 3
        heir = await runtime.start(spec(incarnation=2))
        assert (await heir.call(Ping()))[0].kind == "pong"
        assert runtime.zygote_info().pid != first


async def test_a_zygote_that_dies_too_often_makes_the_runtime_unavailable():
    async with open_runtime("local") as runtime:
        for incarnation in range(1, 7):
            node = await runtime.start(spec(incarnation=incarnation))
            os.kill(runtime.zygote_info().pid, signal.SIGKILL)
            await node.wait_exit()
            await until(lambda: runtime.zygote_info() is None)
        with pytest.raises(RuntimeUnavailable, match="5 times") as refused:
            await runtime.start(spec(incarnation=7))
        # It is tried again once the first of these deaths is long enough ago.
        assert re.match(r"call again in (5\d\d|600) s", refused.value.hint)


@pytest.fixture
def freeze(monkeypatch):
    """Stops the process that starts nodes; from then on one that does not answer is soon taken for frozen.

    Before, a busy machine might make one late that nobody has stopped.
    """
    monkeypatch.setattr(local, "_FROZEN_S", 10.0)
    monkeypatch.setattr(local, "_PING_EVERY_S", 0.1)

    def stop(runtime, frozen_s=0.4):
        pid = runtime.zygote_info().pid
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(local, "_FROZEN_S", frozen_s)
        return pid

    return stop


async def test_a_frozen_zygote_is_replaced_and_its_nodes_live_on_until_they_end(caplog, freeze):
    async with open_runtime("local") as runtime:
        nodes = [await runtime.start(spec(f"worker-{n}")) for n in range(2)]
        frozen = freeze(runtime)
        heir = await runtime.start(spec("worker-2"))
        assert heir.pid not in children(frozen)
        assert f"pid {frozen}) has not answered" in caplog.text
        for node in (*nodes, heir):
            assert (await node.call(Ping()))[0].kind == "pong"
        assert (await nodes[0].stop()).reason == "unexplained"
        assert not gone(frozen)
        kill(nodes[1])
        assert "does not answer" in (await nodes[1].wait_exit()).sentence
        await until(lambda: gone(frozen))
        assert (await heir.call(Ping()))[0].kind == "pong"


async def test_a_frozen_zygote_is_found_although_nobody_starts_a_node(caplog, freeze):
    async with open_runtime("local") as runtime:
        node = await runtime.start(spec())
        frozen = freeze(runtime)
        await until(lambda: f"pid {frozen}) has not answered" in caplog.text)
        assert (await node.call(Ping()))[0].kind == "pong"


async def test_a_zygote_that_freezes_under_an_order_fails_it_and_another_takes_it_over(freeze):
    async with open_runtime("local") as runtime:
        await runtime.start(spec())
        obedient = runtime._obedient_zygote
        frozen = []

        async def then_frozen():
            zygote = await obedient()
            if not frozen:
                frozen.append(freeze(runtime))
            return zygote

        runtime._obedient_zygote = then_frozen
        node = await runtime.start(spec("worker-1"))
        assert (await node.call(Ping()))[0].kind == "pong"
        assert node.pid not in children(frozen[0])


async def test_an_order_that_a_frozen_zygote_has_not_read_in_time_is_told_with_its_name(freeze):
    async with open_runtime("local") as runtime:
        node = await runtime.start(spec())
        zygote = runtime._zygote
        frozen = freeze(runtime, frozen_s=HANG_S)
        with pytest.raises(NodeStartFailed, match=f"pid {frozen}.* has not answered") as refused:
            await runtime._bring_up(partial(runtime._fork, zygote, spec("late")), spec("late"), 0.2)
        assert "neural_node_deploy again" in refused.value.hint
        assert (await node.call(Ping()))[0].kind == "pong"


async def test_a_zygote_that_thaws_starts_nothing_that_was_given_up(freeze):
    async with open_runtime("local") as runtime:
        node = await runtime.start(spec())
        zygote = runtime._zygote
        frozen = freeze(runtime)
        with pytest.raises(RuntimeUnavailable, match="does not answer"):
            await runtime._fork(zygote, spec("late"))
        assert len(zygote._forks) == 1
        os.kill(frozen, signal.SIGCONT)
        await until(lambda: zygote._forks == {})
        await until(lambda: children(frozen) == [node.pid])
        exit_ = await node.stop()
        assert exit_.reason in ("stopped", "unexplained")
        await until(lambda: gone(frozen))


def children(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split() if not gone(int(child))]


@pytest.mark.parametrize("code", ["raise RuntimeError('no library')", "import os; os.abort()"])
async def test_a_zygote_that_does_not_come_up_is_told_with_its_last_words(code):
    launch = partial(ZygoteProcess.launch, (sys.executable, "-I", "-c", code))
    async with LocalRuntime(Settings(), launch=launch) as runtime:
        with pytest.raises(RuntimeUnavailable) as caught:
            await runtime.start(spec())
        if "library" in code:
            assert "no library" in caught.value.details["stderr_tail"]
        assert runtime.zygote_info() is None


async def test_a_runtime_closes_while_its_zygote_still_boots():
    before = descriptors()
    async with open_runtime("local-torch") as runtime:
        pid = runtime._zygote.pid
        assert runtime.zygote_info() is None
    assert gone(pid)
    assert sorted(descriptors()) == sorted(before)


async def test_a_start_that_waits_for_the_zygote_ends_when_the_runtime_closes():
    outcome = []

    async with open_runtime("local-torch") as runtime, anyio.create_task_group() as tasks:

        async def start():
            with pytest.raises(RuntimeUnavailable):
                await runtime.start(spec())
            outcome.append("told")

        tasks.start_soon(start)
        await anyio.lowlevel.checkpoint()
        await runtime.aclose()
    assert outcome == ["told"]


async def test_only_the_main_thread_may_launch_a_zygote():
    with pytest.raises(RuntimeUnavailable, match="main thread"):
        await anyio.to_thread.run_sync(ZygoteProcess.launch)


async def test_the_zygote_and_its_nodes_know_nothing_of_the_servers_environment(monkeypatch):
    monkeypatch.setenv("A_SECRET_TOKEN", "hunter2")
    async with open_runtime("local") as runtime:
        node = await runtime.start(spec())
        assert environment_names(runtime.zygote_info().pid) == set(ENVIRONMENT)
        assert len(os.listdir(f"/proc/{runtime.zygote_info().pid}/task")) == 1
        assert (await node.call(Ping()))[0].kind == "pong"


def environment_names(pid):
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return {entry.partition(b"=")[0].decode() for entry in entries if entry}


async def test_the_real_zygote_has_one_thread_and_no_event_loop():
    async with open_runtime("local-torch") as runtime:
        node = await runtime.start(spec())
        info = runtime.zygote_info()
        assert len(os.listdir(f"/proc/{info.pid}/task")) == 1
        assert len(os.listdir(f"/proc/{node.pid}/task")) == 1
        assert info.versions["torch"] in node.runtime_version
        assert info.rss_bytes > 50 << 20
        assert 0 < info.boot_s < info.launch_s
        assert runtime.isolation_preview() == node.isolation


SERVER = """
import anyio, sys
sys.path.insert(0, {root!r})
from flow_nexus_neural.protocol.messages import Predict
from tests.doubles.runtimes import LONG_TRAIN, open_runtime, prepare, spec

async def main():
    async with open_runtime({kind!r}) as runtime:
        print(runtime._zygote.pid, flush=True)
        if {booting!r}:
            await anyio.sleep_forever()
        nodes = [await runtime.start(spec(f"worker-{{n}}")) for n in range(4)]
        buffer = await prepare(runtime, nodes[0])
        print(*(node.pid for node in nodes), flush=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(nodes[0].call, LONG_TRAIN)
            tasks.start_soon(nodes[1].call, Predict(network="loop_for_ever"))
            tasks.start_soon(nodes[2].call, Predict(network="stop_itself"))

anyio.run(main)
"""


def start_server(code):
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("kind", "booting"), [("local", False), ("local", True), ("local-torch", True)]
)
async def test_no_process_outlives_a_killed_server(kind, booting):
    code = SERVER.format(root=str(ROOT), kind=kind, booting=booting)
    server = start_server(code)
    try:
        pids = [int(server.stdout.readline())]
        if not booting:
            pids += [int(pid) for pid in server.stdout.readline().split()]
            await until(lambda: stopped(pids[3]))
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    await until(lambda: all(gone(pid) for pid in pids))
    assert len(pids) == (1 if booting else 5)


def stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def test_a_start_that_is_merely_late_harms_no_other_node():
    async with open_runtime("local") as runtime:
        node = await runtime.start(spec())
        zygote = runtime.zygote_info().pid
        with pytest.raises(NodeStartFailed):
            await runtime.start(spec("late"), ready_timeout_s=1e-6)
        assert (await node.call(Ping()))[0].kind == "pong"
        assert runtime.zygote_info().pid == zygote
        await runtime.start(spec("next"))


async def test_a_start_survives_the_death_of_the_zygote_under_it():
    async with open_runtime("local") as runtime:
        await runtime.start(spec())
        first = runtime.zygote_info().pid
        os.kill(first, signal.SIGKILL)
        node = await runtime.start(spec("late"))
        assert (await node.call(Ping()))[0].kind == "pong"
        assert runtime.zygote_info().pid != first


async def test_a_runtime_whose_zygote_cannot_be_launched_still_opens_and_says_so():
    def refuse():
        raise RuntimeUnavailable("no such system call")

    async with LocalRuntime(Settings(), launch=refuse) as runtime:
        assert runtime.isolation_preview().level == "unknown"
        for _ in range(7):
            with pytest.raises(RuntimeUnavailable, match="no such system call"):
                await runtime.start(spec())


async def test_orders_that_a_frozen_zygote_never_read_fail_when_it_is_killed():
    async with open_runtime("local") as runtime:
        await (await runtime.start(spec())).stop()
        zygote = runtime._zygote
        os.kill(zygote.pid, signal.SIGSTOP)
        before = descriptors()
        spare = os.open("/dev/null", os.O_RDONLY)
        outcome = []

        async def order():
            with pytest.raises(RuntimeUnavailable):
                await zygote.fork({"filler": "x" * 8000}, (spare, spare))
            outcome.append("told")

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(order)
            await anyio.wait_all_tasks_blocked()
            assert zygote._sending.locked()
            zygote.kill()
        os.close(spare)
        assert len(outcome) == 100
        assert len(descriptors()) < len(before)


async def test_a_node_that_is_not_confined_enough_is_killed(monkeypatch):
    seen = []

    def refuse(pid, steps, probes, requirement, hostile):
        seen.append((pid, requirement))
        raise IsolationUnavailable("got 'process', required 'strict'")

    monkeypatch.setattr(readiness, "judge", refuse)
    async with open_runtime("local") as runtime:
        with pytest.raises(IsolationUnavailable):
            await runtime.start(spec())
        ((pid, requirement),) = seen
        assert requirement == "auto"
        await until(lambda: gone(pid))
        assert runtime.isolation_preview().level == "unknown"


async def test_a_deploy_over_a_frozen_real_zygote_succeeds_and_other_clusters_answer_meanwhile(
    tmp_path, freeze
):
    async with (
        LocalRuntime(Settings()) as runtime,
        Engine.open(Settings(state_dir=tmp_path), runtime=runtime, ports=REAL_PORTS) as engine,
    ):
        w = World(engine, runtime, None)
        serving, other = await w.cluster(2), await w.cluster(0)
        await w.train(serving)
        before = await w.predict(serving)
        pids = [node.pid for node in (await w.status(serving)).nodes]
        frozen = freeze(runtime, frozen_s=2.0)
        answers = []

        async with anyio.create_task_group() as tasks:

            async def go_on_asking():
                while True:
                    answers.append(await w.predict(serving))

            tasks.start_soon(go_on_asking)
            report = await w.deploy(other)
            tasks.cancel_scope.cancel()
        assert report.healthy
        assert report.pid not in children(frozen)
        assert {(a.prediction, a.nodes_used) for a in answers} == {(before.prediction, 2)}
        status = await w.status(serving)
        assert [node.pid for node in status.nodes] == pids
        assert status.failed_nodes == 0
        # What a node's end costs now: its cause is not known, and a deploy replaces it as ever.
        os.kill(pids[0], signal.SIGKILL)
        status = await w.until(serving, lambda s: s.failed_nodes == 1)
        assert "does not answer" in status.nodes[0].last_error
        assert (await w.deploy(serving, layers=None)).replaces == status.nodes[0].node_id
