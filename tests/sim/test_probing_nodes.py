"""A node that holds the committed weights and answers otherwise than its peers is not called healthy."""

import pytest

from flow_nexus_neural.engine.nodes import lifecycle
from flow_nexus_neural.errors import SyncMismatch
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Predict
from tests.sim.simulated import node_of, world

ROGUE = "worker-1"


class Rogue(NodeService):
    """Loads what it is given, says so, and adds something to every answer."""

    asked = 0

    def handle(self, request, arrays, poll):
        reply, found = super().handle(request, arrays, poll)
        if isinstance(request, Predict):
            type(self).asked += 1
            found = {"y": found["y"] + 0.25}
        return reply, found


def rogue_from(incarnation, until=99):
    """Services of which incarnations of ROGUE from one on, before another one, are rogues."""

    def make(spec):
        bad = spec.slot == ROGUE and incarnation <= spec.incarnation < until
        kind = Rogue if bad else NodeService
        return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    return make


async def replaced(w, workers=3):
    """A trained cluster whose ROGUE was killed, and is deployed again."""
    cluster = await w.cluster(workers)
    await w.train(cluster, epochs=1)
    w.kill(ROGUE)
    await w.until(cluster, lambda s: node_of(s, ROGUE).status == "failed")
    return cluster


@pytest.mark.parametrize("workers", [2, 3])
async def test_a_new_incarnation_that_answers_wrong_is_not_called_healthy(tmp_path, workers):
    async with world(tmp_path, service=rogue_from(2, until=3)) as w:
        cluster = await replaced(w, workers)
        with pytest.raises(SyncMismatch, match="answers 16 rows otherwise"):
            await w.deploy(cluster, replace_node_id=ROGUE, layers=None)
        node = node_of(await w.status(cluster), ROGUE)
        assert node.status == "failed"
        assert "answers 16 rows otherwise" in node.last_error
        # The next incarnation is an honest one, and stands the same probe.
        assert (await w.deploy(cluster, replace_node_id=ROGUE, layers=None)).healthy
        assert node_of(await w.status(cluster), ROGUE).status == "healthy"


async def test_without_the_probe_it_is_called_healthy(tmp_path, monkeypatch):
    async def nothing(cluster, slot):
        del cluster, slot

    monkeypatch.setattr(lifecycle, "probe", nothing)
    async with world(tmp_path, service=rogue_from(2)) as w:
        cluster = await replaced(w)
        assert (await w.deploy(cluster, replace_node_id=ROGUE, layers=None)).healthy


async def test_one_lying_witness_among_several_keeps_nobody_out(tmp_path):
    async with world(tmp_path, service=rogue_from(1)) as w:
        cluster = await w.cluster(3)
        await w.train(cluster, epochs=1)
        w.kill("worker-0")
        await w.until(cluster, lambda s: node_of(s, "worker-0").status == "failed")
        before = Rogue.asked
        assert (await w.deploy(cluster, replace_node_id="worker-0", layers=None)).healthy
        assert Rogue.asked > before, "the liar was no witness"


async def test_nothing_is_probed_before_a_version_is_committed(tmp_path):
    async with world(tmp_path, service=rogue_from(1)) as w:
        before = Rogue.asked
        await w.cluster(3)
        assert Rogue.asked == before
