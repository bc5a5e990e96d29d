"""Secure aggregation through the whole engine: the plain average, and nothing else in the engine's hands."""

import numpy as np
import pytest

from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.kernels.secure.masks import encode
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import AskMasked, AskUnmasking, Train
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from flow_nexus_neural.runtime.inproc.node import InprocNode
from tests.doubles.tables import cells
from tests.sim.simulated import blobs, slots, world

pytestmark = pytest.mark.anyio

ROUND = {"optimizer": "sgd", "learning_rate": 0.1, "validation_size": 0}
WIDE = ({"type": "dense", "units": 40, "activation": "relu"}, {"type": "dense", "units": 1})


def params(w, cluster):
    (network,) = w.engine.cluster(cluster).committed.networks.values()
    return network.state.params.astype("f8")


@pytest.mark.parametrize("method", ["fedavg", "fedadam"])
@pytest.mark.parametrize("topology", ["star", "mesh"])
async def test_the_result_is_that_of_the_plain_average(tmp_path, method, topology):
    made = []
    for secure in (False, True):
        async with world(tmp_path / str(secure)) as w:
            cluster = await w.cluster(4, consensus="raft", topology=topology, layers=WIDE)
            options = {"aggregation_method": method, "secure_aggregation": secure, "epochs": 3}
            status = await w.train(cluster, **ROUND, **options)
            assert status.training_status == "completed", status.training_error
            made.append(params(w, cluster))
    assert np.linalg.norm(made[0] - made[1]) < 1e-5 * np.linalg.norm(made[0])


def part_of(vector, held):
    return any(vector[k : k + 4].tobytes() in held for k in (0, 8, 40))


class Recorder:
    """All bytes that nodes bring to the engine, and what each node made, which nobody else may know."""

    def __init__(self, monkeypatch):
        self.arrived, self.made, self.words = [], [], []
        call, copy = InprocNode.call, Exchange.copied
        recorder = self

        async def recorded_call(node, request, *given, **more):
            reply, arrays = await call(node, request, *given, **more)
            recorder.arrived.append(reply.model_dump_json().encode())
            recorder.arrived += [np.ascontiguousarray(a).tobytes() for a in arrays.values()]
            return reply, arrays

        async def recorded_copy(exchange, network, update):
            found = await copy(exchange, network, update)
            recorder.arrived += [a.tobytes() for a in found.state.arrays.values()]
            return found

        monkeypatch.setattr(InprocNode, "call", recorded_call)
        monkeypatch.setattr(Exchange, "copied", recorded_copy)
        self.buffers = []

    def service(self, spec):
        recorder = self

        class Watched(NodeService):
            def attach(self, key, arrays, *, writable):
                if writable:
                    recorder.buffers.append(arrays)
                super().attach(key, arrays, writable=writable)

            def handle(self, request, arrays, poll):
                reply, sent = super().handle(request, arrays, poll)
                if isinstance(request, AskMasked):
                    change = recorder.changes()[spec.slot]
                    recorder.words.append((spec.slot, encode(change, request.weight)))
                if isinstance(request, Train) and reply.kind == "trained":
                    weights = self._held[request.network].workspace.weights
                    base = self._regions[request.base].arrays["params"]
                    mine = weights.params.numpy().copy()
                    made = (mine, mine - base, weights.digest())
                    shard = self._regions[request.shard].arrays["x"]
                    recorder.made.append((spec.slot, *made, len(shard)))
                return reply, sent

        return Watched(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    def changes(self):
        """What every slot made in its latest training."""
        return {slot: change for slot, _, change, *_ in self.made}

    def mean(self, slots):
        """Of the changes of these slots, by rows."""
        rows = {slot: rows for slot, *_, rows in self.made}
        changes = [self.changes()[slot] for slot in slots]
        return np.average(changes, axis=0, weights=[rows[slot] for slot in slots])

    def found(self):
        """Slots of which some part is in what the engine received or can read."""
        held = b"\0".join(self.arrived)
        held += b"".join(a.tobytes() for arrays in self.buffers for a in arrays.values())
        seen = {slot for slot, words in self.words if part_of(words, held)}
        for slot, state, change, digest, _ in self.made:
            if digest.encode() in held or part_of(state, held) or part_of(change, held):
                seen.add(slot)
        return seen


@pytest.mark.parametrize("secure", [False, True])
async def test_in_all_that_reaches_the_engine_there_is_no_single_update(
    tmp_path, monkeypatch, secure
):
    """The control: without masks the same search finds every one of them."""
    recorder = Recorder(monkeypatch)
    async with world(tmp_path, service=recorder.service) as w:
        cluster = await w.cluster(4, consensus="raft", layers=WIDE)
        await w.train(cluster, epochs=1, secure_aggregation=secure, **ROUND)
        found = recorder.found()
        (entry,) = await w.round_versions(cluster)
    everybody = {slot for slot, *_ in recorder.made}
    assert len(everybody) == 4
    assert found == (set() if secure else everybody)
    if secure:
        assert entry["evidence"] == {"secure": {"delivered": 4, "threshold": 3}}
        assert {one["update_digest"] for one in entry["contributors"]} == {None}


PHASES = ("ask_mask_keys", "ask_mask_shares", "ask_masked", "ask_unmasking")
ALL_DEATHS = [
    *((n, 0, 0, 0) for n in (1, 2, 3)),
    *((0, n, 0, 0) for n in (1, 2, 3)),
    *((0, 0, n, 0) for n in (1, 2, 3)),
    *((0, 0, 0, n) for n in (1, 2, 3)),
    *((1, 1, 0, 0), (1, 0, 1, 0), (0, 1, 1, 0), (0, 0, 1, 1), (1, 0, 1, 1), (0, 1, 1, 1)),
]
TELLING = [(2, 0, 0, 0), (0, 1, 1, 0), (0, 0, 2, 0), (0, 0, 3, 0), (0, 0, 1, 1), (0, 0, 0, 3)]


def is_enough(keys, shares, masked, unmasking):
    """Whether five workers that lose so many in each phase can be summed and unmasked."""
    with_keys = 5 - keys
    threshold, delivered = with_keys // 2 + 1, with_keys - shares - masked
    return delivered >= max(threshold, 3) and delivered - unmasking >= threshold


@pytest.mark.parametrize("deaths", cells(ALL_DEATHS, telling=TELLING))
async def test_workers_killed_between_the_phases_cost_their_updates_or_the_round_and_reveal_nothing(
    tmp_path, monkeypatch, deaths
):
    """The right sum over those that delivered, or a failure that leaves no version."""
    faults, recorder = FaultPlan(), Recorder(monkeypatch)
    names, delivered = (
        iter(f"worker-{k}" for k in (2, 0, 4, 1, 3)),
        {f"worker-{k}" for k in range(5)},
    )
    for kind, times in zip(PHASES, deaths, strict=True):
        killed = [next(names) for _ in range(times)]
        delivered -= set(killed if kind != PHASES[-1] else ())
        for slot in killed:
            faults.kill(slot, kind)
    async with world(tmp_path, faults, service=recorder.service) as w:
        cluster = await w.cluster(5, consensus="raft", layers=WIDE)
        status = await w.train(cluster, epochs=1, secure_aggregation=True, **ROUND)
        versions = await w.round_versions(cluster)
        if is_enough(*deaths):
            assert status.training_status == "completed", status.training_error
            (entry,) = versions
            assert set(slots(entry, "contributors")) == delivered
            assert len(recorder.made) == 5  # the round was not tried again
            _, state, change, *_ = recorder.made[0]
            expected = (state - change) + recorder.mean(sorted(delivered))
            assert np.abs(params(w, cluster) - expected).max() < 1e-6
        else:
            assert status.training_status == "failed"
            assert versions == []
        assert not recorder.found()


@pytest.mark.parametrize(
    "options",
    [
        {"secure_aggregation": True},
        {"privacy": {"mode": "central_dp", "noise_multiplier": 1}},
    ],
    ids=["secure", "private"],
)
async def test_no_worker_answers_with_weights_of_its_own(tmp_path, options):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, consensus="raft")
        status = await w.train(cluster, blobs(400), epochs=12, optimizer="sgd", **options)
        assert status.training_status == "completed", status.training_error
        told = status.training.personalisation
        assert not told.kept
        assert told.reason.startswith(next(iter(options)))
        committed = w.engine.cluster(cluster).committed
        assert not any(network.is_personal for network in committed.networks.values())


async def test_a_secure_training_that_is_resumed_stays_secure(tmp_path):
    options = {"secure_aggregation": True, "epochs": 25, **ROUND}
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, consensus="raft")
        await w.start(cluster, **options)
        await w.rounds(cluster, 3)
    async with world(tmp_path) as w:
        status = await w.done(cluster)
        assert status.training_status == "completed", status.training_error
        rounds = await w.round_versions(cluster)
        assert [entry["round"] for entry in rounds] == list(range(1, 26))
        assert all("secure" in entry["evidence"] for entry in rounds)


async def test_a_worker_that_lies_about_its_shares_is_named_and_ends_no_training(tmp_path):
    class Liar(NodeService):
        def handle(self, request, arrays, poll):
            reply, sent = super().handle(request, arrays, poll)
            if isinstance(request, AskUnmasking):
                wrong = dict.fromkeys(reply.shares, f"{5:066x}")
                reply = reply.model_copy(update={"shares": wrong})
            return reply, sent

    def service(spec):
        kind = Liar if spec.slot == "worker-0" else NodeService
        return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(4, consensus="raft")
        status = await w.train(cluster, epochs=2, secure_aggregation=True, **ROUND)
        assert status.training_status == "completed", status.training_error
        told = {node.slot: str(node.last_error) for node in status.nodes}
        assert "share of the secret" in told.pop("worker-0")
        assert set(told.values()) == {"None"}
