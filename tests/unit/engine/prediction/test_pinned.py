"""A pinned version goes on answering, from a copy of its own once another one is in force."""

import numpy as np
import pytest

from flow_nexus_neural.data.adapter import adapt
from flow_nexus_neural.engine.prediction.pinned import PINNED, PinnedVersion
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.versions.loading import serving_name
from flow_nexus_neural.errors import ClusterTerminated, NoServingNode
from tests.unit.engine.running import running, virtual_time

RECORDS = [[0.5, 0.25, 0.75], [0.1, 0.2, 0.3]]


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def asked(w, pinned):
    request = PredictRequest(cluster_id="dnc", input_data=RECORDS)
    found = await pinned.ask(request, adapt(pinned.version.schema, RECORDS))
    return found, {name: logits.tobytes() for name, logits in found.logits.items()}


async def test_the_version_in_force_is_asked_where_it_is(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        version = w.committed
        pinned = PinnedVersion(w.cluster, version)
        found, _ = await asked(w, pinned)
        assert (set(found.logits), pinned.version) == ({"worker-0", "worker-1"}, version)
        assert all(serving_name(PINNED) not in slot.served for slot in w.slots)


async def test_a_version_that_was_replaced_is_loaded_once_and_answers_the_same(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        pinned = PinnedVersion(w.cluster, w.committed)
        _, before = await asked(w, pinned)
        for _ in range(2):
            await w.train()
            assert (await asked(w, pinned))[1] == before
        digest = pinned.version.networks["c0"].digest
        assert {slot.served[serving_name(PINNED)] for slot in w.slots} == {digest}
        assert w.committed.networks["c0"].digest != digest
        assert pinned.version.sha != w.committed.sha


async def test_a_node_that_comes_back_is_given_the_pinned_version_too(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        pinned = PinnedVersion(w.cluster, w.committed)
        _, before = await asked(w, pinned)
        await w.train()
        await w.kill("worker-1")
        found, _ = await asked(w, pinned)
        assert set(found.logits) == {"worker-0"}
        await w.deploy(layers=None, model="base", replace_node_id="worker-1")
        assert (await asked(w, pinned))[1] == before


async def test_nobody_left_and_an_ended_cluster_are_errors(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.train()
        pinned = PinnedVersion(w.cluster, w.committed)
        await w.kill("worker-0")
        with pytest.raises(NoServingNode):
            await asked(w, pinned)
        w.cluster.state.end("now")
        with pytest.raises(ClusterTerminated):
            await asked(w, pinned)


async def test_a_commit_during_a_question_does_not_lose_its_answers(tmp_path, monkeypatch):
    from flow_nexus_neural.engine.prediction import pinned as module

    gather, calls = module.gather, []

    async def train_first(cluster, *arguments):
        calls.append(1)
        if len(calls) == 1:
            await w.train()
            await w.train()
        return await gather(cluster, *arguments)

    async with running(tmp_path, 2) as w:
        await w.train()
        pinned = PinnedVersion(w.cluster, w.committed)
        _, before = await asked(w, pinned)
        calls.clear()
        monkeypatch.setattr(module, "gather", train_first)
        assert (await asked(w, pinned))[1] == before
        assert len(calls) == 2
        assert np.frombuffer(before["worker-0"]).size == len(RECORDS)
