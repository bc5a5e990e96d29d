"""A worker that keeps to the form and lies in the content: killed, left out or outvoted, and named."""

import json
import math

import numpy as np
import pytest

from flow_nexus_neural.engine.patience import Deadline, Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.errors import NodeTimeout
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.messages import (
    Build,
    Failed,
    GetWeights,
    Outputs,
    Ping,
    Pong,
    Predict,
    Train,
    Trained,
)
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.sim.simulated import world

pytestmark = pytest.mark.anyio

LIAR = "worker-1"


def lying(lie):
    """Services of which LIAR's passes every honest reply through `lie(service, request, reply, arrays)`."""

    class Liar(NodeService):
        def __init__(self, **given):
            super().__init__(**given)
            self.regions, self.plans = {}, {}

        def attach(self, key, arrays, *, writable):
            self.regions[key] = arrays
            super().attach(key, arrays, writable=writable)

        def handle(self, request, arrays, poll):
            if isinstance(request, Build):
                self.plans[request.network] = request.plan
            return lie(self, request, *super().handle(request, arrays, poll))

    def make(spec):
        kind = Liar if spec.slot == LIAR else NodeService
        return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    return make


def claims(**changes):
    def lie(service, request, reply, arrays):
        if isinstance(reply, Trained):
            reply = reply.model_copy(update={k: change(reply) for k, change in changes.items()})
        return reply, arrays

    return lie


def publishes(values, *, honest_digest):
    """Puts other values into its publish buffer, with their digest or with that of what it trained."""

    def lie(service, request, reply, arrays):
        if isinstance(request, Train) and isinstance(reply, Trained):
            region, plan = service.regions[request.publish], service.plans[request.network]
            region["params"][...] = values
            if not honest_digest:
                digest = weights_digest(plan, region["params"], region["buffers"])
                reply = reply.model_copy(update={"digest": digest})
        return reply, arrays

    return lie


async def node_of(w, cluster, slot=LIAR):
    return next(node for node in (await w.status(cluster)).nodes if node.slot == slot)


def finite(value):
    """Every number of a report, and that it can be told in JSON."""
    json.dumps(value, allow_nan=False)
    return True


IMPOSSIBLE = {
    "an endless loss": claims(loss=lambda r: 1e308),
    "a negative loss": claims(loss=lambda r: -5.0),
    "an age of processor time": claims(cpu_s=lambda r: 1e300),
    "negative processor time": claims(cpu_s=lambda r: -1.0),
}


@pytest.mark.parametrize("lie", IMPOSSIBLE)
async def test_a_number_that_cannot_be_ends_the_node_and_the_training_goes_on(tmp_path, lie):
    async with world(tmp_path, service=lying(IMPOSSIBLE[lie])) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, epochs=2)
        assert status.training_status == "completed", status.training_error
        assert "protocol" in (await node_of(w, cluster)).last_error
        assert [m["slot"] for m in (await w.versions(cluster))[-1]["contributors"]] == [
            "worker-0",
            "worker-2",
        ]
        assert finite(status.model_dump(mode="json"))


REJECTED = {
    "more steps than asked for": (
        claims(steps=lambda r: r.steps + 1, opt_step=lambda r: r.opt_step + 1),
        "steps",
    ),
    "an optimiser step of its own": (claims(opt_step=lambda r: r.opt_step + 7), "steps"),
    "weights changed after they were hashed": (publishes(0.5, honest_digest=True), "digest"),
    "weights that are not finite": (publishes(math.nan, honest_digest=False), "finite"),
}


@pytest.mark.parametrize("lie", REJECTED)
async def test_an_update_that_contradicts_itself_is_left_out_with_the_reason(tmp_path, lie):
    how, word = REJECTED[lie]
    async with world(tmp_path, service=lying(how)) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, epochs=2, min_nodes_per_round=2)
        assert status.training_status == "completed", status.training_error
        for version in await w.versions(cluster):
            assert [m["slot"] for m in version["contributors"]] == ["worker-0", "worker-2"]
            (excluded,) = version["excluded"]
            assert excluded["slot"] == LIAR
            assert word in excluded["reason"]


async def test_a_worker_that_holds_other_weights_has_no_part_in_an_aggregation(tmp_path):
    def lie(service, request, reply, arrays):
        if isinstance(request, GetWeights) and request.network.startswith("serve"):
            arrays = {**arrays, "params": arrays["params"] + np.float32(0.5)}
        return reply, arrays

    async with world(tmp_path, service=lying(lie)) as w:
        cluster = await w.cluster(3)
        before = await w.train(cluster, epochs=2)
        (former,) = {entry["weights_digest"] for entry in (await w.versions(cluster))[-1:]}
        aggregation = (await w.connect(cluster, "star")).aggregation
        assert aggregation.contributors == 2
        (excluded,) = aggregation.excluded
        assert excluded.node_id == (await node_of(w, cluster)).node_id
        assert "other weights" in excluded.reason
        assert aggregation.weights_digest == former
        assert aggregation.accuracy_after == before.global_accuracy


async def test_weights_of_denormal_numbers_are_numbers_and_break_nothing(tmp_path):
    async with world(tmp_path, service=lying(publishes(1e-42, honest_digest=False))) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, epochs=2)
        assert status.training_status == "completed", status.training_error
        assert finite(status.model_dump(mode="json"))
        assert finite((await w.predict(cluster)).model_dump(mode="json"))


async def test_enormous_weights_fail_the_training_and_what_was_committed_answers_on(tmp_path):
    enormous = publishes(3e38, honest_digest=False)
    turned = []

    def later(service, request, reply, arrays):
        return enormous(service, request, reply, arrays) if turned else (reply, arrays)

    async with world(tmp_path, service=lying(later)) as w:
        # The plain mean, and no proofs, which would find the liar out.
        cluster = await w.cluster(3, consensus="byzantine")
        mean = {"aggregation_method": "federated_averaging"}
        before = await w.train(cluster, epochs=2, **mean)
        turned.append(True)
        status = await w.train(cluster, epochs=2, **mean)
        assert status.training_status == "failed"
        assert "finite" in status.training_error
        assert status.model_version == before.model_version
        answer = await w.predict(cluster)
        assert answer.nodes_used == 3
        assert finite(answer.model_dump(mode="json"))


@pytest.mark.parametrize("value", [3e38, -3e38, 1e-42])
@pytest.mark.parametrize("aggregation", ["mean", "majority", "weighted", "ensemble"])
async def test_an_extreme_answer_gives_numbers(tmp_path, value, aggregation):
    def lie(service, request, reply, arrays):
        if isinstance(request, Predict) and isinstance(reply, Outputs):
            arrays = {"y": np.full_like(arrays["y"], value)}
        return reply, arrays

    async with world(tmp_path, service=lying(lie)) as w:
        cluster = await w.cluster(3)
        await w.train(cluster, epochs=1)
        answer = await w.predict(cluster, aggregation=aggregation)
        assert answer.nodes_used == 3
        assert finite(answer.model_dump(mode="json"))


IMPATIENT = Ports(patience=Patience(silence_s=0.05, ping_s=0.1, min_grace_s=0.1, max_grace_s=0.3))


async def test_a_node_that_fails_a_ping_is_not_left_alone_from_then_on(tmp_path):
    def lie(service, request, reply, arrays):
        return (
            Failed(type="busy", message="later") if isinstance(request, Ping) else reply
        ), arrays

    async with world(tmp_path, service=lying(lie), ports=IMPATIENT) as w:
        cluster = await w.cluster(2)
        status = await w.until(cluster, lambda s: s.failed_nodes == 1)
        node = next(node for node in status.nodes if node.slot == LIAR)
        assert node.last_error.startswith("protocol_violation: a ping failed")


async def test_claiming_endless_steps_buys_no_endless_patience(tmp_path):
    def lie(service, request, reply, arrays):
        if isinstance(reply, Pong):
            reply = reply.model_copy(update={"longest_step_ms": 1e12})
        return reply, arrays

    faults = FaultPlan().freeze(LIAR, "ping", nth=4)
    async with world(tmp_path, faults, service=lying(lie), ports=IMPATIENT) as w:
        cluster = await w.cluster(2)
        status = await w.until(cluster, lambda s: s.failed_nodes == 1)
        node = next(node for node in status.nodes if node.slot == LIAR)
        assert node.last_error.startswith("node_timeout: silent for")


async def test_a_node_that_answers_pings_and_withholds_a_grant_is_killed(tmp_path):
    brief = Ports(patience=Patience(grant=Deadline(0.1, 0.1)))
    async with world(tmp_path, FaultPlan().ignore(LIAR, "grant"), ports=brief) as w:
        cluster = await w.cluster(2)
        slot = w.engine.cluster(cluster).slots[LIAR]
        handle = slot.handle
        calls = w.engine.cluster(cluster).calls("sync")
        with pytest.raises(NodeTimeout, match=r"grant .* was killed"):
            await calls.grant(slot, w.runtime.share("region", {"x": np.zeros(3, "f4")}))
        assert w.faults.met(LIAR, "grant") == 1
        assert (await handle.wait_exit()).reason == "killed"
        await w.until(cluster, lambda s: s.failed_nodes == 1)


async def test_the_node_whose_outputs_are_evaluated_is_told_to_be_trusted(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        assert (await w.status(cluster)).guarantees.trusted == ["engine", "worker-0"]
        await w.deploy(cluster, "validator", layers=None)
        assert (await w.status(cluster)).guarantees.trusted == ["engine", "validator-0"]
