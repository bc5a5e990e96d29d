"""Gossip with workers that die, freeze, lie, come back or join: what the others go on from."""

from collections import Counter

import numpy as np
import pytest

from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.sim.gossiping import (
    LINKED,
    TOPOLOGIES,
    WORKERS,
    Watch,
    barriers,
    committed,
    mixing_of,
    trained,
)
from tests.sim.simulated import IMPATIENT, reasons, slots, world
from tests.sim.test_lying_nodes import LIAR, lying, publishes

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_who_dies_while_mixing_is_left_out_and_the_others_mix_in_the_same_round(
    tmp_path, topology
):
    watch, victim = Watch(), "worker-1"
    faults = FaultPlan().kill(victim, "fold")
    async with world(tmp_path, faults, service=watch.service, modes=LINKED) as w:
        cluster, status = await trained(w, topology, rounds=2)
        first, second = await w.round_versions(cluster)
        assert status.training.current_round == 2
        assert victim in reasons(first)
        assert victim not in slots(first, "contributors")
        assert len(slots(first, "contributors")) == WORKERS - 1
        assert first["evidence"]["gossip"]["members"] == WORKERS - 1
        assert first["evidence"]["gossip"]["connected"] is True
        # What the survivors had when it died is what they have in the mean.
        made = {slot: update for slot, _, _, update in watch.trains[:WORKERS]}
        kept = np.mean([made[slot] for slot in sorted(made) if slot != victim], axis=0)
        held = {}
        for slot, _, state in watch.folds:
            if slot in held and len(held) == WORKERS - 1:
                break
            held[slot] = state
        survivors = [slot for slot in made if slot != victim]
        bases = {slot: base for slot, _, base, _ in watch.trains[WORKERS:]}
        assert np.allclose(np.mean([bases[slot] for slot in survivors], axis=0), kept, atol=1e-6)
        assert second["evidence"]["gossip"]["members"] == WORKERS - 1


async def test_a_death_in_a_later_step_keeps_what_was_mixed_before(tmp_path):
    faults = FaultPlan().kill("worker-2", "fold", nth=5)  # 1, then 2 steps and a copy, then 4
    async with world(tmp_path, faults, modes=LINKED) as w:
        cluster, _ = await trained(w, "star", rounds=4, learning_rate=0.2)
        rounds = await w.round_versions(cluster)
    assert [entry["round"] for entry in rounds] == [1, 2, 3, 4]
    assert [e["round"] for e in rounds if "worker-2" in reasons(e)] == [3]
    assert rounds[2]["evidence"]["gossip"]["members"] == WORKERS - 1


LONG = 500
"""Rounds of trainings that are ended once they have shown what they should."""


def keys_of(watch, slot):
    """What a worker trained from, in turn."""
    return [key.partition(":")[0] for name, key, *_ in watch.trains if name == slot]


async def test_a_newcomer_starts_from_the_committed_mean(tmp_path):
    watch = Watch()
    async with world(tmp_path, service=watch.service, modes=LINKED) as w:
        cluster = await w.cluster(3, topology="ring", consensus="gossip")
        await w.connect(cluster, "ring")
        await w.start(cluster, epochs=LONG, refit=False)
        await w.rounds(cluster, 2)
        await w.deploy(cluster)
        await w.until(cluster, lambda _: len(keys_of(watch, "worker-3")) >= 3)
        await w.terminate(cluster)
    assert keys_of(watch, "worker-3")[:3] == ["base", "state", "state"]


async def test_a_worker_that_comes_back_starts_from_the_committed_mean(tmp_path):
    watch, faults = Watch(), FaultPlan().lose("worker-1", "fold", nth=2)
    async with world(tmp_path, faults, service=watch.service, modes=LINKED) as w:
        cluster = await w.cluster(WORKERS, topology="ring", consensus="gossip", seed=2)
        await w.connect(cluster, "ring")
        await w.start(cluster, epochs=LONG, refit=False)
        await w.until(cluster, lambda _: len(keys_of(watch, "worker-1")) >= 5)
        members = [one["members"] for one in await barriers(w, cluster)]
        await w.terminate(cluster)
    assert members[:2] == [WORKERS, WORKERS - 1]
    assert keys_of(watch, "worker-1")[:5] == ["base", "state", "base", "state", "state"]


async def test_a_change_of_links_starts_all_from_the_committed_mean(tmp_path):
    """Every buffer is replaced, since a revoke cannot be enforced."""
    watch = Watch()
    async with world(tmp_path, service=watch.service, modes=LINKED) as w:
        cluster = await w.cluster(WORKERS, topology="ring", consensus="gossip")
        await w.connect(cluster, "ring")
        await w.start(cluster, epochs=LONG, refit=False)
        await w.rounds(cluster, 1)
        report = await w.connect(cluster, "star", wait_seconds=20)
        assert report.applied == "next_round"
        await w.rounds(cluster, (await w.status(cluster)).training.current_round + 3)
        seen = await barriers(w, cluster)
        await w.terminate(cluster)
    assert {one["spectral_gap"] for one in seen} == {
        mixing_of("ring").spectral_gap,
        mixing_of("star").spectral_gap,
    }
    from_base = Counter(key.partition(":")[0] for _, key, *_ in watch.trains)
    assert from_base["base"] == 2 * WORKERS
    assert "spectral gap 0.2" in " ".join(report.advice)


async def test_an_update_that_is_not_finite_is_found_and_left_out_by_name(tmp_path):
    service = lying(publishes(np.nan, honest_digest=False))
    async with world(tmp_path, service=service, modes=LINKED) as w:
        cluster, _ = await trained(w, "ring", rounds=2)
        rounds = await w.round_versions(cluster)
        assert np.isfinite(await committed(w, cluster)).all()
    for entry in rounds:
        assert "not finite" in reasons(entry)[LIAR]
        assert LIAR not in slots(entry, "contributors")
        assert entry["evidence"]["gossip"]["members"] == WORKERS - 1


async def test_one_liar_moves_everybody_which_is_why_none_is_promised_to_be_tolerated(tmp_path):
    async with world(tmp_path / "honest", modes=LINKED) as w:
        cluster, _ = await trained(w, "ring")
        honest = await committed(w, cluster)
    liar = lying(publishes(1e3, honest_digest=False))
    async with world(tmp_path / "lied", service=liar, modes=LINKED) as w:
        cluster, status = await trained(w, "ring")
        moved = await committed(w, cluster)
    assert np.linalg.norm(moved - honest) > 100 * np.linalg.norm(honest)
    assert status.guarantees.f_tolerated == 0


async def test_a_frozen_worker_costs_its_round_and_no_more(tmp_path):
    faults = FaultPlan().freeze("worker-3", "fold", nth=2)
    async with world(tmp_path, faults, modes=LINKED, ports=IMPATIENT) as w:
        cluster, status = await trained(w, "ring", rounds=3)
        rounds = [entry for entry in await w.round_versions(cluster) if "round" in entry]
    assert [entry["round"] for entry in rounds] == [1, 2, 3]
    assert "worker-3" in reasons(rounds[1])
    assert status.consensus_report["gossip"]["members"] == WORKERS - 1


async def test_what_barriers_saw_outlives_the_server_and_states_do_not(tmp_path):
    async with world(tmp_path, modes=LINKED) as w:
        cluster, status = await trained(w, "ring")
        seen = status.consensus_report["gossip"]
        before = await committed(w, cluster)
    watch = Watch()
    async with world(tmp_path, service=watch.service, modes=LINKED) as w:
        status = await w.status(cluster)
        assert status.consensus_report["gossip"] == seen
        status = await w.train(cluster, epochs=1, refit=False)
        assert status.training_status == "completed", status.training_error
    for key, base in watch.bases(1).values():
        assert key.startswith("base:")
        assert np.array_equal(base, before)
