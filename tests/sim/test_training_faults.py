"""Workers that die, freeze, lie or dawdle in a round: it closes without them, and says so."""

import anyio
import numpy as np
import pytest

from flow_nexus_neural.errors import NoServingNode
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Train
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import FILES
from tests.doubles.limits import HANG_S
from tests.sim.simulated import IMPATIENT, honest, node_of, reasons, slots, world

LONG = 200
FAULTS = {
    "kill": "node_died",
    "garbage": "protocol_violation",
    "freeze": ("late", "node_died"),
    "slow": "late",
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_round_closes_without_a_worker_that_fails_in_it(tmp_path, fault):
    more = {"delay_s": 15.0} if fault == "slow" else {}
    faults = getattr(FaultPlan(), fault)("worker-1", "train", nth=2, **more)
    async with world(tmp_path, faults, ports=IMPATIENT) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, clients_per_round=3, min_nodes_per_round=1)
        assert status.training_status == "completed", status.training_error
        assert status.training_progress == 100
        entries = await w.versions(cluster)
        assert slots(entries[0], "contributors") == ["worker-0", "worker-1", "worker-2"]
        assert slots(entries[1], "contributors") == ["worker-0", "worker-2"]
        assert reasons(entries[1])["worker-1"].startswith(FAULTS[fault])
        if fault != "slow":
            status = await w.until(cluster, lambda s: node_of(s, "worker-1").status == "failed")
            assert (status.active_nodes, status.failed_nodes) == (2, 1)
            assert node_of(status, "worker-1").last_error is not None
        answer = await w.predict(cluster)
        assert 0 < answer.prediction < 1
        assert answer.model_version == len(entries) == 3


@pytest.mark.usefixtures("workers_share")
async def test_data_parallel_training_goes_on_without_a_dead_worker(tmp_path):
    async with world(tmp_path, FaultPlan().kill("worker-2", "train", nth=2)) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, federated=False)
        assert status.training_status == "completed", status.training_error
        entries = await w.versions(cluster)
        assert [slots(e, "contributors")[-1] for e in entries] == [
            "worker-2",
            "worker-1",
            "worker-1",
        ]


async def test_without_any_worker_left_the_training_fails_and_the_former_version_stays(tmp_path):
    faults = FaultPlan()
    for slot in ("worker-0", "worker-1"):
        faults.kill(slot, "train", nth=3)
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(2)
        status = await w.train(cluster, epochs=5)
        assert status.training_status == "failed"
        assert status.training_error.startswith(("no_workers", "round_failed"))
        assert status.training_progress == 40.0
        assert status.model_version == 2
        assert status.global_accuracy is not None
        with pytest.raises(NoServingNode):
            await w.predict(cluster)
        for _ in range(2):  # as recovery, without layers
            await w.deploy(cluster, layers=None)
        answer = await w.predict(cluster)
        assert (answer.model_version, answer.nodes_used) == (2, 2)


class Poisoner(NodeService):
    """Sends an update full of NaN, with a digest that fits it, or claims work that it did not do."""

    lie = "nan"

    def handle(self, request, arrays, poll):
        reply, brought = super().handle(request, arrays, poll)
        if isinstance(request, Train) and reply.kind == "trained":
            params = self._regions[request.publish].arrays["params"]
            if self.lie == "nan":
                params[:] = np.nan
            elif self.lie == "infinite":
                params[0] = np.inf
            elif self.lie == "other weights":
                params[0] += 1.0
            elif self.lie == "steps":
                reply = reply.model_copy(update={"steps": 10_000, "opt_step": 10_000})
            elif self.lie == "clock":
                reply = reply.model_copy(update={"opt_step": reply.opt_step + 1})
            else:
                self._regions[request.publish].arrays["v"][:] = -1.0
        return reply, brought


LIES = {
    "nan": "not finite",
    "infinite": "not finite",
    "other weights": "does not have the digest",
    "steps": "claims 10000 steps",
    "clock": "claims",
    "moments": "negative second moment",
}


@pytest.mark.parametrize("lie", LIES)
async def test_an_update_that_lies_is_refused_by_name_and_moves_nothing(tmp_path, lie):
    def service(spec):
        if spec.slot != "worker-1":
            return honest(spec)
        liar = Poisoner(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)
        liar.lie = lie
        return liar

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, epochs=2, clients_per_round=3, min_nodes_per_round=1)
        assert status.training_status == "completed", status.training_error
        for entry in await w.versions(cluster):
            assert slots(entry, "contributors") == ["worker-0", "worker-2"]
            assert LIES[lie] in reasons(entry)["worker-1"]
        # 96 training rows dealt to three, in batches of 8, by the two that counted, twice.
        assert status.training.evidence.steps == 16


async def test_a_training_of_which_nobody_sends_anything_usable_fails_with_its_code(tmp_path):
    async with world(
        tmp_path,
        service=lambda spec: Poisoner(
            node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed
        ),
    ) as w:
        cluster = await w.cluster(2)
        status = await w.train(cluster)
        assert status.training_status == "failed"
        assert status.training_error.startswith("round_failed")
        assert "not finite" in status.training_error
        assert status.training_progress == 0
        assert status.model_version is None
        assert status.global_accuracy is None


class Forgetful(NodeService):
    """Cannot build the network that it should train, and stays healthy."""

    def handle(self, request, arrays, poll):
        if request.kind == "build":
            request = request.model_copy(update={"network": ""})
            return NodeService.handle(self, request.model_copy(update={"plan": None}), {}, poll)
        return super().handle(request, arrays, poll)


async def test_a_healthy_worker_that_cannot_build_its_network_is_left_out(tmp_path):
    def service(spec):
        kind = Forgetful if spec.slot == "worker-0" else NodeService
        return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, min_nodes_per_round=1)
        assert status.training_status == "completed", status.training_error
        for entry in await w.versions(cluster):
            assert slots(entry, "contributors") == ["worker-1", "worker-2"]


@pytest.mark.parametrize("fault", ["kill", "garbage"])
async def test_a_validator_that_fails_is_replaced_by_a_worker_in_its_work(tmp_path, fault):
    faults = getattr(FaultPlan(), fault)("validator-0", "infer", nth=2)
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(2)
        await w.deploy(cluster, "validator")
        status = await w.train(cluster)
        assert status.training_status == "completed", status.training_error
        assert node_of(status, "validator-0").status == "failed"
        assert [e["contributors"][0]["slot"] for e in await w.versions(cluster)] == ["worker-0"] * 3


async def test_a_commit_does_not_wait_for_ever_for_a_frozen_node(tmp_path):
    async with world(tmp_path, FaultPlan().freeze("worker-1", "load", nth=2), ports=IMPATIENT) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, min_nodes_per_round=1)
        assert status.training_status == "completed", status.training_error
        answer = await w.predict(cluster)
        assert (answer.nodes_used, answer.nodes_expected) == (2, 3)
        assert answer.degraded


async def test_a_failure_that_nobody_foresaw_ends_one_training_and_nothing_else(tmp_path, caplog):
    async with world(tmp_path) as w:
        other, cluster = await w.cluster(2), await w.cluster(2, seed=2)
        await w.train(other)
        await w.start(cluster, epochs=LONG)
        await w.rounds(cluster, 1)
        with w.disk.failing(FILES, ZeroDivisionError("a bug")):
            status = await w.done(cluster)
        assert status.training_status == "failed"
        assert status.training_error.startswith("internal_error: unexpected failure (incident ")
        assert "a bug" not in status.training_error
        assert any(r.exc_info and "a bug" in str(r.exc_info[1]) for r in caplog.records)
        caplog.clear()
        assert (await w.predict(other)).nodes_used == 2
        status = await w.train(cluster)
        assert status.training_status == "completed"


async def test_a_listener_is_told_of_every_change(tmp_path):
    heard = []
    async with world(tmp_path) as w:
        w.engine.on_change(heard.append)
        cluster = await w.cluster(1)
        at_rest = len(heard)
        await w.train(cluster)
        assert len(heard) >= at_rest + 3
        assert set(heard) == {cluster}


async def test_a_node_that_dies_while_it_is_idle_is_noticed(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        with anyio.fail_after(HANG_S):
            w.kill("worker-0")
            status = await w.until(cluster, lambda s: s.failed_nodes == 1)
        assert status.status == "degraded"
        assert "planned" not in (node_of(status, "worker-0").last_error or "")
        assert "node_died: from outside" in node_of(status, "worker-0").last_error


async def test_a_runtime_that_dies_again_and_again_in_one_round_only_delays_it(tmp_path):
    faults = FaultPlan()
    for slot in ("worker-0", "worker-1"):
        for nth in range(3, 8):
            faults.lose(slot, "train", nth=nth)
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(2)
        status = await w.train(cluster, epochs=4)
        assert status.training_status == "completed", status.training_error
        assert [node.incarnation for node in status.nodes] == [6, 6]
        assert len(await w.versions(cluster)) == 4
