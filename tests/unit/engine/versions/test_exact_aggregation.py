"""The aggregation at a connect: honest weights average to themselves, others are left out and named."""

import numpy as np
import pytest

from flow_nexus_neural.engine.versions.exact_aggregation import aggregate_exactly
from flow_nexus_neural.engine.versions.kept import EXACT_AGGREGATION
from flow_nexus_neural.errors import RoundFailed, StoreUnavailable
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import FILES, JOURNAL, disk_is_full
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import OTHER_LAYERS, running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


class Liar(LinearService):
    """Delivers other weights than it was told to hold, or vectors of another size."""

    shorter = False

    def on_get_weights(self, request, arrays, poll):
        reply, held = super().on_get_weights(request, arrays, poll)
        if not request.network.startswith("serve"):
            return reply, held
        params = held["params"][:-1] if self.shorter else held["params"] + 1
        return reply, {**held, "params": params}


class Shorter(Liar):
    shorter = True


def one_is(kind, name="worker-1"):
    return lambda spec: kind() if spec.slot == name else LinearService()


async def aggregated(w):
    return await aggregate_exactly(w.cluster, w.committed)


async def test_honest_workers_average_to_the_version_they_hold_bit_for_bit(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.train()
        former = w.committed
        before = await w.predict()
        report = await aggregated(w)
        assert report.performed
        assert (report.version, report.contributors, report.excluded) == (3, 3, [])
        assert w.committed.version == former.version + 1
        group = w.committed.networks["c0"]
        assert report.weights_digest == group.digest == former.networks["c0"].digest
        held, was = (v.networks["c0"].state.params for v in (w.committed, former))
        assert held.tobytes() == was.tobytes()
        after = await w.predict()
        assert (after.prediction, after.model_version) == (before.prediction, 3)


async def test_what_was_measured_of_equal_weights_stays_measured(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        former = w.committed
        report = await aggregated(w)
        assert report.accuracy_before == report.accuracy_after == former.accuracy
        assert w.committed.evaluation == former.evaluation
        assert w.committed.loss == former.loss is not None


async def test_the_bytes_are_those_that_travelled(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.train()
        before = w.cluster.metrics.communication_bytes
        report = await aggregated(w)
        assert report.bytes == w.cluster.metrics.communication_bytes - before
        assert report.bytes > 3 * w.committed.networks["c0"].state.params.nbytes


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Liar, "it holds other weights than version 2"), (Shorter, "protocol_violation")],
)
async def test_a_worker_with_other_weights_is_left_out_and_named(tmp_path, kind, why):
    async with running(tmp_path, 3, service=one_is(kind)) as w:
        await w.train()
        former = w.committed.networks["c0"]
        report = await aggregated(w)
        assert report.contributors == 2
        ((node, reason),) = [(one.node_id, one.reason) for one in report.excluded]
        assert node == w.slots["worker-1"].node_id
        assert why in reason
        assert w.committed.networks["c0"].digest == former.digest
        entry = (await w.ledger("version"))[-1]
        assert [one["slot"] for one in entry["contributors"]] == ["worker-0", "worker-2"]
        assert [one["slot"] for one in entry["excluded"]] == ["worker-1"]


async def test_a_worker_that_dies_while_it_is_asked_is_named_with_its_error(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 2, faults=faults) as w:
        await w.train()
        faults.kill("worker-0", "get_weights", nth=faults.met("worker-0", "get_weights") + 1)
        report = await aggregated(w)
        assert report.contributors == 1
        assert report.excluded[0].reason.startswith("node_died: ")


async def test_without_a_single_delivery_the_former_version_stays(tmp_path):
    async with running(tmp_path, 1, service=one_is(Liar, "worker-0")) as w:
        await w.train()
        former = w.committed
        with pytest.raises(RoundFailed, match="none of 1 serving workers") as failure:
            await aggregated(w)
        assert failure.value.hint == "call neural_cluster_status for the nodes' errors"
        assert w.committed is former
        assert len(await w.ledger("version")) == 2


@pytest.mark.parametrize("point", [FILES, JOURNAL])
async def test_what_cannot_be_made_durable_is_not_put_in_force(tmp_path, point):
    async with running(tmp_path, 2) as w:
        await w.train()
        former = w.committed
        answer = await w.predict()
        # Equal weights are a file that exists already: only its absence makes writing one necessary.
        for path in (tmp_path / "blobs").rglob("*"):
            if path.is_file():
                path.unlink()
        with w.disk.failing(point, disk_is_full()), pytest.raises(StoreUnavailable):
            await aggregated(w)
        assert w.committed is former
        assert (await w.predict()).prediction == answer.prediction


async def test_the_entry_continues_the_networks_chain_under_a_rule_of_its_own(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        await aggregated(w)
        entries = await w.ledger("version")
        assert [one["version"] for one in entries] == [1, 2, 3]
        last = entries[-1]
        assert (last["rule"], last["parent"], last["model_version"]) == (EXACT_AGGREGATION, 2, 3)
        assert last["weights_digest"] == w.committed.networks["c0"].digest
        assert "training_id" not in last


async def test_two_networks_are_averaged_each_by_itself(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.deploy(layers=OTHER_LAYERS)
        await w.train()
        keys = sorted(w.committed.networks)
        assert len(keys) == 2
        before = {key: w.committed.networks[key].state.params for key in keys}
        report = await aggregated(w)
        assert report.contributors == 3
        for key in keys:
            np.testing.assert_array_equal(w.committed.networks[key].state.params, before[key])


async def test_under_byzantine_consensus_a_connect_admits_committed_weights_only(tmp_path):
    """No rule is needed there: what is averaged is proved equal first, so that a liar has no vote at all."""
    byzantine = {"consensus": "byzantine"}
    async with running(tmp_path, 4, service=one_is(Liar), init=byzantine) as w:
        await w.train()
        former = w.committed.networks["c0"]
        report = (await w.connect("star")).aggregation
        assert report.contributors == 3
        ((node, reason),) = [(one.node_id, one.reason) for one in report.excluded]
        assert node == w.slots["worker-1"].node_id
        assert "it holds other weights than version 2" in reason
        assert report.weights_digest == former.digest
        assert w.committed.networks["c0"].state.params.tobytes() == former.state.params.tobytes()
