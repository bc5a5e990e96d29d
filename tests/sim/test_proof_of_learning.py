"""Proof-of-learning in a running engine: honest workers pass, cheats are excluded and quarantined."""

import pytest

from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.sim.cheats import ATTACKS, CHEAT, service_of
from tests.sim.simulated import blobs, node_of, reasons, slots, world

pytestmark = pytest.mark.anyio

DATA = blobs(480)
ROUNDS = 3


def pol(status):
    return status.consensus_report["pol"]


async def digests(w, cluster):
    return [entry["weights_digest"] for entry in await w.versions(cluster)]


async def without_the_cheat(tmp_path, round_number):
    """Digests of the versions of a training in which the cheat dies before its update of a round."""
    faults = FaultPlan().kill(CHEAT, "train", nth=round_number)
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, DATA, epochs=ROUNDS)
        assert status.training_status == "completed", status.training_error
        return await digests(w, cluster)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_cheat_is_quarantined_and_the_weights_are_those_of_a_run_without_it(
    tmp_path, attack
):
    caught_in = 2 if attack == "replay" else 1
    expected = await without_the_cheat(tmp_path / "without", caught_in)
    async with world(tmp_path / "with", service=service_of(ATTACKS[attack])) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, DATA, epochs=ROUNDS)
        assert status.training_status == "completed", status.training_error
        assert await digests(w, cluster) == expected
        entries = await w.round_versions(cluster)
        assert "proof of learning invalid" in reasons(entries[caught_in - 1])[CHEAT]
        for entry in entries[caught_in - 1 :]:
            assert CHEAT not in slots(entry, "contributors")
        node = node_of(status, CHEAT)
        assert node.status == "quarantined"
        assert node.pol["failed"] == 1
        assert pol(status)["excluded_updates"] == 1
        for other in ("worker-0", "worker-2"):
            assert node_of(status, other).pol["failed"] == 0
            assert node_of(status, other).status == "healthy"
