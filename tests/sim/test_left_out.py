"""A worker that failed in a round is not asked again in it; that costs no try while enough are left."""

from collections import Counter

import anyio
import numpy as np
import pytest

from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Failed, Train
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.sim.simulated import honest, node_of, reasons, slots, world


class Refusing(NodeService):
    """Answers requests to train with a failure, from the nth one on, and is healthy otherwise."""

    def __init__(self, asked, nth=1, **given):
        super().__init__(**given)
        self._asked, self._nth = asked, nth

    def handle(self, request, arrays, poll):
        if isinstance(request, Train):
            self._asked[request.opt_step] += 1
            if self._asked.total() >= self._nth:
                return Failed(type="RuntimeError", message="no wish to train"), {}
        return super().handle(request, arrays, poll)


def refusing(asked, *who, nth=1):
    def service(spec):
        if spec.slot not in who:
            return honest(spec)
        return Refusing(
            asked, nth, node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed
        )

    return service


async def test_a_worker_that_fails_every_request_is_left_out_after_one_in_each_round(tmp_path):
    asked = Counter()
    async with world(tmp_path, service=refusing(asked, "worker-1")) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, epochs=2)
        assert status.training_status == "completed", status.training_error
        for entry in await w.versions(cluster):
            assert slots(entry, "contributors") == ["worker-0", "worker-2"]
            assert list(reasons(entry)) == ["worker-1"]
            assert "no wish to train" in reasons(entry)["worker-1"]
        assert set(asked.values()) == {1}, "asked more than once for a round"
        node = node_of(status, "worker-1")
        assert node.healthy
        assert "no wish to train" in node.last_error


async def test_what_the_others_learn_is_what_they_learn_without_the_one_left_out(tmp_path):
    async with world(tmp_path / "with", service=refusing(Counter(), "worker-1")) as w:
        cluster = await w.cluster(3)
        await w.train(cluster, epochs=2)
        left_out = [entry["weights_digest"] for entry in await w.versions(cluster)]
    async with world(tmp_path / "killed", FaultPlan().kill("worker-1", "train")) as w:
        cluster = await w.cluster(3)
        await w.train(cluster, epochs=2)
        assert [entry["weights_digest"] for entry in await w.versions(cluster)] == left_out


async def test_a_caller_who_insists_on_all_workers_is_told_which_one_fails(tmp_path):
    async with world(tmp_path, service=refusing(Counter(), "worker-1")) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, epochs=2, min_nodes_per_round=3)
        assert status.training_status == "failed"
        assert "worker-1" in status.training_error
        assert "late" not in status.training_error
        assert status.model_version is None


async def test_when_nobody_else_is_left_one_that_failed_is_asked_again(tmp_path):
    class Once(NodeService):
        """Fails its first request to train, like one that met a passing shortage."""

        failed = False

        def handle(self, request, arrays, poll):
            if isinstance(request, Train) and not self.failed:
                self.failed = True
                return Failed(type="RuntimeError", message="not now"), {}
            return super().handle(request, arrays, poll)

    def service(spec):
        return Once(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(1)
        status = await w.train(cluster, epochs=2)
        assert status.training_status == "completed", status.training_error
        (first, _) = await w.versions(cluster)
        assert slots(first, "contributors") == ["worker-0"]
        assert reasons(first) == {}


async def test_three_workers_killed_in_three_tries_of_a_round_leave_it_to_the_fourth(tmp_path):
    killed, ready, kill = [], [True], []

    class Mortal(NodeService):
        """Of each of the first three tries of the second round, the first worker asked is killed."""

        def handle(self, request, arrays, poll):
            in_second = isinstance(request, Train) and request.opt_step > 0
            if in_second and ready[0] and len(killed) < 3:
                ready[0] = False
                killed.append(self.slot)
                anyio.from_thread.run_sync(kill[0], self.slot)
            return super().handle(request, arrays, poll)

        def detach(self, keys):
            ready[0] = (
                ready[0] or "base:c0" in keys
            )  # the try is over: the next one has another base
            super().detach(keys)

    def service(spec):
        mortal = Mortal(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)
        mortal.slot = spec.slot
        return mortal

    async with world(tmp_path, service=service) as w:
        kill.append(w.kill)
        cluster = await w.cluster(4)
        # Of two clients both are needed: each death fails its try.
        status = await w.train(cluster, epochs=2, clients_per_round=2)
        assert len(killed) == 3
        assert status.training_status == "completed", status.training_error
        second = (await w.versions(cluster))[1]
        assert set(slots(second, "contributors")) == set(slots_of(4)) - set(killed)
        assert sorted(reasons(second)) == sorted(killed)
        assert all(why.startswith("node_died") for why in reasons(second).values())


async def test_a_worker_that_cannot_be_prepared_is_named_in_every_version(tmp_path):
    class Forgetful(NodeService):
        """Cannot build the network that it should train."""

        def handle(self, request, arrays, poll):
            if request.kind == "build" and request.network == "train":
                return Failed(type="RuntimeError", message="no room"), {}
            return super().handle(request, arrays, poll)

    def service(spec):
        kind = Forgetful if spec.slot == "worker-0" else NodeService
        return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, epochs=2)
        assert status.training_status == "completed", status.training_error
        for entry in await w.versions(cluster):
            assert "no room" in reasons(entry)["worker-0"]


def slots_of(n):
    return [f"worker-{number}" for number in range(n)]


LONG_EPOCH = {"federated": False, "epochs": 1, "batch_size": 1}
"""96 rows of three workers in steps of one row: an epoch of 32 steps with two averagings."""


@pytest.mark.usefixtures("workers_share")
async def test_a_worker_that_fails_in_the_middle_of_an_epoch_is_named_with_the_steps(tmp_path):
    asked = Counter()
    async with world(tmp_path, service=refusing(asked, "worker-0", nth=2)) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, **LONG_EPOCH)
        assert status.training_status == "completed", status.training_error
        (entry,) = await w.versions(cluster)
        assert slots(entry, "contributors") == ["worker-0", "worker-1", "worker-2"]
        assert reasons(entry)["worker-0"].startswith("from step 16 to 32 of 32: ")
        # 16 steps of the one that failed, 32 of each of the others.
        assert status.training.evidence.steps == 16 + 32 + 32


@pytest.mark.usefixtures("workers_share")
async def test_a_worker_that_fails_in_the_first_part_of_an_epoch_has_no_later_part(tmp_path):
    asked = Counter()
    async with world(tmp_path, service=refusing(asked, "worker-0")) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, **LONG_EPOCH)
        assert status.training_status == "completed", status.training_error
        (entry,) = await w.versions(cluster)
        assert slots(entry, "contributors") == ["worker-1", "worker-2"]
        assert reasons(entry)["worker-0"].startswith("from step 0 to 16 of 32: ")
        assert asked.total() == 1


@pytest.mark.parametrize("federated", [True, False])
async def test_the_numbers_behind_an_aggregation_are_in_the_ledger(tmp_path, federated):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        status = await w.train(
            cluster,
            federated=federated,
            epochs=1,
            batch_size=4,
            **({"aggregation_method": "median"} if federated else {}),
        )
        assert status.training_status == "completed", status.training_error
        (entry,) = await w.versions(cluster)
        if federated:
            assert entry["rule"] == "coordinate_median"
            assert (entry["evidence"]["rule"], entry["evidence"]["f"]) == ("coordinate_median", 1)
            assert entry["evidence"]["distance"].keys() == {"worker-0", "worker-1", "worker-2"}
        else:
            assert "evidence" not in entry, "the mean has nothing to tell"
        assert np.isfinite(entry["train_loss"])
