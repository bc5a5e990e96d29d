"""A process begins, ends and comes back: what is durable, who is told, and what is never left behind."""

import anyio
import pytest

from flow_nexus_neural.engine.nodes.lifecycle import (
    isolation_warnings,
    respawn,
    restart,
    revive,
    start,
    watch,
)
from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.errors import (
    ClusterTerminated,
    NodeStartFailed,
    StoreUnavailable,
    SyncMismatch,
)
from flow_nexus_neural.runtime.base import Isolation
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.doubles.linear_service import LinearService
from tests.unit.engine.building import slot
from tests.unit.engine.running import running, virtual_time

DELAYS_S = (0.0, 1.0, 3.0)
PORTS = Ports(patience=Patience(respawn_delays_s=DELAYS_S))


@pytest.fixture
def anyio_backend():
    return virtual_time()


class Fragile:
    """Makes services until told to fail; what it raises is a failed start."""

    def __init__(self):
        self.failures = 0
        self.made = []

    def __call__(self, spec):
        if self.failures > 0:
            self.failures -= 1
            raise RuntimeError("no memory")
        self.made.append(spec)
        return LinearService()


class Forgetful(LinearService):
    """Holds other weights than those it was told to load."""

    def on_load(self, request, arrays, poll):
        reply, arrays = super().on_load(request, arrays, poll)
        self.serving[request.network] = self.serving[request.network] + 1
        return reply.model_copy(update={"digest": self.digest(request.network)}), arrays


def forgetful_once_restarted(spec):
    return Forgetful() if spec.incarnation > 1 else LinearService()


async def killed(w, name="worker-0", cause="killed: from outside"):
    """End a node and wait until the cluster knows."""
    node = w.node(name)
    node.kill(cause)
    await node.wait_exit()
    await anyio.wait_all_tasks_blocked()


def events(entries, name="worker-0"):
    return [entry["event"] for entry in entries if entry["slot"] == name]


async def stored_state(w, name="worker-0"):
    rows = (await w.engine.context.store.load()).slots
    return next(row.state for row in rows if row.slot == name)


async def test_a_slot_that_is_healthy_is_durable_and_in_the_ledger(tmp_path):
    async with running(tmp_path, 1, ports=PORTS) as w:
        made = w.slots["worker-0"]
        assert (made.state, made.durable, made.incarnation) == ("healthy", True, 1)
        assert events(await w.ledger("membership")) == ["joined"]
        assert await stored_state(w) == "healthy"


async def test_a_process_that_does_not_come_up_leaves_no_slot_and_its_name_stays_taken(tmp_path):
    fragile = Fragile()
    async with running(tmp_path, 1, service=fragile, ports=PORTS) as w:
        fragile.failures = 1
        new = slot("worker-1")
        w.slots.add(new)
        with pytest.raises(NodeStartFailed, match="no memory"):
            await start(w.cluster, new)
        assert (new.state, new.handle) == ("retired", None)
        assert w.slots.names() == {"worker-0"}
        assert w.slots.next_name("worker") == "worker-2"
        assert events(await w.ledger("membership"), "worker-1") == ["failed"]
        assert await stored_state(w, "worker-1") == "retired"
        assert [node.spec.slot for node in w.runtime.nodes if not node.gone] == ["worker-0"]


async def test_what_cannot_be_made_durable_did_not_join(tmp_path):
    async with running(tmp_path, 1, ports=PORTS) as w:
        new = slot("worker-1")
        w.slots.add(new)
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await start(w.cluster, new)
        assert w.slots.names() == {"worker-0"}
        assert all(node.spec.slot != "worker-1" or node.gone for node in w.runtime.nodes)


async def test_no_process_is_left_when_the_cluster_ends_while_one_starts(tmp_path):
    async with running(tmp_path, 1, ports=PORTS) as w:
        new = slot("worker-1")
        w.slots.add(new)
        w.cluster.state.end("noon")
        with pytest.raises(ClusterTerminated, match="noon"):
            await start(w.cluster, new)
        assert new.handle is None
        assert all(node.spec.slot != "worker-1" or node.gone for node in w.runtime.nodes)


async def test_a_start_is_not_given_up_half_way_when_its_caller_is_cancelled(tmp_path):
    async with running(tmp_path, 1, ports=PORTS) as w:
        new = slot("worker-1")
        w.slots.add(new)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await start(w.cluster, new)
        assert new.healthy
        assert events(await w.ledger("membership"), "worker-1") == ["joined"]


async def test_a_node_that_dies_on_its_own_stays_failed_with_the_reason(tmp_path):
    async with running(tmp_path, 1, ports=PORTS) as w:
        told = []
        w.engine.on_change(told.append)
        await killed(w)
        await anyio.sleep(60)
        made = w.slots["worker-0"]
        assert (made.state, made.handle, made.returning) == ("failed", None, False)
        assert made.last_error == "node_died: from outside"
        assert told
        assert events(await w.ledger("membership")) == ["joined", "failed"]
        assert (await w.ledger("membership"))[-1]["reason"] == "node_died: from outside"


async def test_a_node_that_broke_its_sandbox_is_told_apart_from_one_that_died(tmp_path):
    async with running(tmp_path, 1, ports=PORTS) as w:
        await killed(w, cause="sandbox_violation: tried to open a socket")
        assert w.slots["worker-0"].last_error.startswith("sandbox_violation: tried to open")


async def test_the_reason_for_which_a_node_was_killed_outlives_the_kill(tmp_path):
    async with running(tmp_path, 1, ports=PORTS) as w:
        w.slots["worker-0"].condemn("node_timeout: silent")
        await killed(w)
        assert w.slots["worker-0"].last_error == "node_timeout: silent"


async def test_a_node_whose_runtime_was_lost_comes_back_by_itself_as_a_new_incarnation(tmp_path):
    async with running(tmp_path, 1, ports=PORTS) as w:
        former = w.slots["worker-0"].node_id
        await killed(w, cause="runtime_lost: gone")
        await anyio.sleep(0.1)
        made = w.slots["worker-0"]
        assert (made.healthy, made.incarnation, made.returning) == (True, 2, False)
        assert made.node_id != former
        assert made.recovered_at_s is not None
        assert events(await w.ledger("membership")) == ["joined", "failed", "joined"]


@pytest.mark.parametrize(("failures", "back_after_s"), [(0, 0.0), (1, 1.0), (2, 4.0), (3, None)])
async def test_it_is_tried_with_growing_pauses_and_then_given_up(tmp_path, failures, back_after_s):
    fragile = Fragile()
    async with running(tmp_path, 1, service=fragile, ports=PORTS) as w:
        made, began_s = w.slots["worker-0"], anyio.current_time()
        fragile.failures = failures
        await killed(w, cause="runtime_lost: gone")
        await anyio.sleep(30)
        assert fragile.failures == 0
        assert made.incarnation == 1 + min(failures + 1, len(DELAYS_S))
        assert not made.returning
        if back_after_s is None:
            assert (made.state, made.handle) == ("failed", None)
            assert "no memory" in made.last_error
        else:
            assert made.healthy
            assert made.recovered_at_s - began_s == pytest.approx(back_after_s)


async def test_nothing_is_started_again_in_a_cluster_that_has_ended(tmp_path):
    async with running(tmp_path, 1, ports=PORTS) as w:
        await killed(w)
        w.cluster.state.end("noon")
        await respawn(w.cluster, w.slots["worker-0"])
        assert w.slots["worker-0"].incarnation == 1


async def test_the_end_of_a_former_process_says_nothing_of_the_present_one(tmp_path):
    async with running(tmp_path, 1, ports=PORTS) as w:
        former = w.node("worker-0")
        await killed(w)
        await restart(w.cluster, w.slots["worker-0"])
        await watch(w.cluster, w.slots["worker-0"], former)
        assert w.slots["worker-0"].healthy


async def test_two_restarts_at_one_time_make_one_process(tmp_path):
    fragile = Fragile()
    async with running(tmp_path, 1, service=fragile, ports=PORTS) as w:
        await killed(w)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(restart, w.cluster, w.slots["worker-0"])
        assert w.slots["worker-0"].incarnation == 2
        assert [spec.incarnation for spec in fragile.made] == [1, 2]


async def test_each_incarnation_draws_from_a_seed_of_its_own_that_the_clusters_seed_decides(
    tmp_path,
):
    seeds = []
    for run in ("one", "two"):
        fragile = Fragile()
        async with running(tmp_path / run, 2, service=fragile, ports=PORTS) as w:
            await killed(w)
            await restart(w.cluster, w.slots["worker-0"])
        seeds.append([spec.seed for spec in fragile.made])
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3


async def test_a_node_is_limited_by_the_size_it_was_declared_with(tmp_path):
    fragile = Fragile()
    async with running(
        tmp_path, 1, service=fragile, node_memory_mb=1000, node_cpu_s=100, max_nodes=5
    ):
        (spec,) = fragile.made
        assert (spec.memory_mb, spec.cpu_s, spec.max_regions) == (500, 100, 24)


async def test_a_replacement_holds_the_committed_weights_before_it_is_healthy(tmp_path):
    async with running(tmp_path, 2, ports=PORTS) as w:
        await w.train()
        digest = w.committed.networks["c0"].digest
        await killed(w)
        sync_ms = await restart(w.cluster, w.slots["worker-0"])
        assert sync_ms is not None
        assert digest in w.slots["worker-0"].served.values()
        assert (await w.predict()).nodes_used == 2


async def test_a_replacement_that_does_not_reproduce_the_weights_is_refused(tmp_path):
    async with running(tmp_path, 2, service=forgetful_once_restarted, ports=PORTS) as w:
        await w.train()
        await killed(w)
        with pytest.raises(SyncMismatch, match="worker-0 holds weights"):
            await restart(w.cluster, w.slots["worker-0"])
        made = w.slots["worker-0"]
        assert (made.state, made.handle) == ("failed", None)
        assert "worker-0" in w.slots.names()  # it was durable before: it stays a slot


async def test_reviving_starts_what_waits_for_a_process_and_nothing_else(tmp_path):
    async with running(tmp_path, 3, ports=PORTS) as w:
        await killed(w, "worker-0")
        await killed(w, "worker-1")
        w.slots["worker-1"].move("recovering")  # as one that a former server left
        await revive(w.cluster)
        assert [s.state for s in w.slots] == ["failed", "healthy", "healthy"]
        assert [s.incarnation for s in w.slots] == [1, 2, 1]


async def test_one_that_cannot_be_revived_does_not_keep_the_others_down(tmp_path):
    fragile = Fragile()
    async with running(tmp_path, 2, service=fragile, ports=PORTS) as w:
        for name in ("worker-0", "worker-1"):
            await killed(w, name)
            w.slots[name].move("recovering")
        fragile.failures = 1
        await revive(w.cluster)
        assert sorted(s.state for s in w.slots) == ["failed", "healthy"]
        (lost,) = [s for s in w.slots if s.state == "failed"]
        assert "no memory" in lost.last_error


def test_a_node_below_the_best_level_is_warned_of_with_what_is_missing():
    assert isolation_warnings(Isolation(level="strict"), "strict") == []
    (warning,) = isolation_warnings(Isolation(level="process", missing=("landlock",)), "strict")
    assert "'process', not 'strict'; missing: landlock" in warning
    assert "missing: unknown" in isolation_warnings(Isolation(level="none"), "process")[0]
