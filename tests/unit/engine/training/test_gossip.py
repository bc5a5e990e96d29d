"""Workers mix step by step from one buffer to the other; the engine reads them at a barrier and no sooner."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.gossip import GOSSIP, PUSH_SUM, plan_mixing
from flow_nexus_neural.coordination.topology import Vertex
from flow_nexus_neural.engine.training.base_states import BaseStates
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.gossip import Gossip, check_mixing
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.tasks import Recipe
from flow_nexus_neural.errors import (
    InvalidTopology,
    NotAvailable,
    RoundFailed,
    UnsupportedCombination,
)
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import START, lying, publishes, shards_of, training_rows
from tests.unit.engine.training.linked import NAMES, after_training, trained_once

STATE_BYTES = 16
"""Four parameters and no moments."""


@pytest.fixture
def anyio_backend():
    return virtual_time()


def gossip(r, policy=GOSSIP):
    return Gossip(r.w.cluster, r.made, policy, LeftOut())


async def copies(r):
    """What each worker trained."""
    made = [(await r.made.copied(START, update)).state.params for update in r.updates]
    return np.array(made, dtype="f8")


def held(r, name):
    return r.links.views.state_buffer(START, name).copy()["params"]


def weights(topology, names=NAMES, *, push_sum=False):
    vertices = [Vertex(name, "worker") for name in names]
    return plan_mixing(topology, vertices, push_sum=push_sum).weights


@pytest.mark.parametrize("topology", ["mesh", "ring", "star", "hierarchical"])
async def test_a_step_gives_each_worker_the_sum_of_its_row(tmp_path, topology):
    async with after_training(tmp_path, topology) as r:
        made = await copies(r)
        await gossip(r).combine(START, r.updates, ())
        for row, name in zip(weights(topology), NAMES, strict=True):
            np.testing.assert_allclose(held(r, name), row @ made, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
async def test_any_number_of_steps_ends_in_the_state_buffers(tmp_path, steps):
    async with after_training(tmp_path, "star") as r:
        made, how = await copies(r), gossip(r)
        how.steps["c0"] = steps
        mixed = await how.combine(START, r.updates, ())
        wanted = np.linalg.matrix_power(weights("star"), steps) @ made
        for row, name in zip(wanted, NAMES, strict=True):
            np.testing.assert_allclose(held(r, name), row, rtol=1e-6)
            assert r.links.held_by(r.w.slots[name], mixed.state) is not None
        report = r.w.cluster.metrics.exchanges["c0"]
        assert (report.steps, report.bytes) == (steps, steps * 2 * 2 * STATE_BYTES)


async def test_nothing_is_read_by_the_engine_before_the_barrier_and_each_state_once_at_it(tmp_path):
    async with after_training(tmp_path, "star") as r:
        counted, how = r.w.cluster.metrics.count_payload, gossip(r)
        seen = []
        r.w.cluster.metrics.count_payload = lambda *what: (seen.append(what), counted(*what))
        mixed = await how.combine(START, r.updates, ())
        assert {category for category, _ in seen} == {"links"}
        seen.clear()
        await how.barrier(START, mixed.state)
        assert seen == [("sync", STATE_BYTES)] * 3


async def test_a_barrier_gives_the_plain_mean_and_leaves_the_states(tmp_path):
    async with after_training(tmp_path, "star") as r:
        made, how = await copies(r), gossip(r)
        mixed = await how.combine(START, r.updates, ())
        before = [held(r, name) for name in NAMES]
        reached = await how.barrier(START, mixed.state)
        np.testing.assert_allclose(reached.state.params, made.mean(axis=0), rtol=1e-6)
        assert reached.weights == dict.fromkeys(NAMES, 1 / 3)
        np.testing.assert_array_equal([held(r, name) for name in NAMES], before)
        for name in NAMES:
            assert r.links.held_by(r.w.slots[name], reached.state) is not None
            assert r.links.held_by(r.w.slots[name], mixed.state) is None
        found = reached.evidence["gossip"]
        spread = np.mean(np.sum((np.array(before, "f8") - made.mean(axis=0)) ** 2, axis=1))
        wanted = np.sqrt(spread) / np.linalg.norm(made.mean(axis=0))
        assert found["consensus_distance"] == pytest.approx(wanted, rel=1e-4)


async def test_push_sum_takes_from_the_predecessor_only(tmp_path):
    async with after_training(tmp_path, "ring") as r:
        made, how = await copies(r), gossip(r, PUSH_SUM)
        mixed = await how.combine(START, r.updates, ())
        np.testing.assert_allclose(held(r, "worker-1"), (made[0] + made[1]) / 2, rtol=1e-6)
        reached = await how.barrier(START, mixed.state)
        assert reached.evidence["gossip"]["push_sum"] is True
        np.testing.assert_allclose(reached.state.params, made.mean(axis=0), rtol=1e-6)
        assert r.w.cluster.metrics.exchanges["c0"].bytes == 3 * STATE_BYTES


async def test_who_did_not_train_mixes_its_state_and_who_has_none_stays_out(tmp_path):
    async with after_training(tmp_path, "mesh") as r:
        made, how = await copies(r), gossip(r)
        few = await how.combine(START, r.updates[:2], ())
        first = await how.barrier(START, few.state)
        assert first.evidence["gossip"]["members"] == 2
        np.testing.assert_allclose(first.state.params, made[:2].mean(axis=0), rtol=1e-6)
        again = replace(START, state=first.state)
        # worker-1 did not train since; worker-2 holds an update and no state.
        both = await how.combine(again, r.updates[2:], ())
        second = await how.barrier(again, both.state)
        assert second.evidence["gossip"]["members"] == 3
        wanted = (first.state.params * 2 + made[2]) / 3
        np.testing.assert_allclose(second.state.params, wanted, rtol=1e-6)


async def test_who_was_late_starts_from_the_mean_in_the_next_round(tmp_path):
    async with after_training(tmp_path, "ring") as r:
        how = gossip(r)
        first = await how.barrier(START, (await how.combine(START, r.updates, ())).state)
        again = replace(START, state=first.state)
        mixed = await how.combine(again, r.updates[:2], ["worker-2"])
        second = await how.barrier(again, mixed.state)
        assert second.evidence["gossip"]["members"] == 2
        bases = BaseStates(r.made, [(slot, again.with_state(second.state)) for slot in r.workers])
        async with bases:
            found = {slot.name: bases.of(slot, again).region is None for slot in r.workers}
        assert found == {"worker-0": True, "worker-1": True, "worker-2": False}


@pytest.mark.parametrize("policy", [GOSSIP, PUSH_SUM], ids=lambda policy: policy.name)
@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_death_keeps_the_mean_of_the_others_as_it_was_before_the_step(
    tmp_path, nth, policy
):
    faults = FaultPlan().kill("worker-1", "fold", nth=nth)
    async with after_training(tmp_path, "ring", faults=faults) as r:
        made, how = await copies(r), gossip(r, policy)
        how.steps["c0"] = 3
        mixed = await how.combine(START, r.updates, ())
        assert [*mixed.excluded] == ["worker-1"]
        assert how.left_out.reasons(()) == mixed.excluded
        step = weights("ring", push_sum=policy.push_sum)
        before = np.linalg.matrix_power(step, nth - 1) @ made
        wanted = before[[0, 2]].mean(axis=0)
        reached = await how.barrier(START, mixed.state)
        np.testing.assert_allclose(reached.state.params, wanted, rtol=1e-5)
        np.testing.assert_allclose(
            np.mean([held(r, name) for name in ("worker-0", "worker-2")], axis=0),
            wanted,
            rtol=1e-5,
        )


async def test_a_round_in_which_all_die_fails_and_names_them(tmp_path):
    faults = FaultPlan()
    for name in NAMES:
        faults.kill(name, "fold")
    async with after_training(tmp_path, "mesh", faults=faults) as r:
        with pytest.raises(RoundFailed, match=r"nobody was left to mix.*worker-0"):
            await gossip(r).combine(START, r.updates, ())


async def test_what_is_not_finite_fails_the_barrier_and_updates_are_looked_at_in_the_next_try(
    tmp_path,
):
    service = lying(publishes(np.nan, digest_of_it=False), "worker-1")
    async with after_training(tmp_path, "ring", service=service) as r:
        how = gossip(r)
        mixed = await how.combine(START, r.updates, ())
        with pytest.raises(RoundFailed, match="not finite"):
            await how.barrier(START, mixed.state)
        assert how.audited
        good = [update for update in r.updates if update.slot != "worker-1"]
        mixed = await how.combine(START, good, ["worker-1"])
        reached = await how.barrier(START, mixed.state)
        assert np.isfinite(reached.state.params).all()
        assert not how.audited


async def test_a_state_that_changed_after_mixing_is_left_out_of_the_mean(tmp_path):
    async with after_training(tmp_path, "ring") as r:
        how = gossip(r)
        mixed = await how.combine(START, r.updates, ())
        changed = {
            name: array + 1
            for name, array in r.links.views.state_buffer(START, "worker-2").copy().items()
        }
        r.links.views.state_buffer(START, "worker-2").store(changed)
        reached = await how.barrier(START, mixed.state)
        assert "not hold what it said" in reached.excluded["worker-2"]
        assert reached.evidence["gossip"]["members"] == 2
        assert r.links.held_by(r.w.slots["worker-2"], reached.state) is None


async def test_workers_far_apart_mix_longer_in_the_next_round(tmp_path):
    async with after_training(tmp_path, "star") as r:
        how, spread = gossip(r), lambda made: made.evidence["gossip"]
        mixed = await how.combine(START, r.updates, ())
        first = await how.barrier(START, mixed.state)
        assert spread(first)["consensus_distance"] > 0.05
        assert spread(first)["doubled"] is True
        again = replace(START, state=first.state)
        second = await how.barrier(again, (await how.combine(again, r.updates, ())).state)
        assert spread(second)["mixing_steps"] == 2
        assert spread(second)["consensus_distance"] < spread(first)["consensus_distance"]


def least_squares(rows, shards, weight_of):
    """The linear weights with the least squared error, each row weighing `weight_of(rows of its shard)`."""
    weights = np.concatenate([[weight_of(len(shard))] * len(shard) for shard in shards.values()])
    x = np.hstack([rows.x, np.ones((len(rows.x), 1))]) * np.sqrt(weights)[:, None]
    return np.linalg.lstsq(x, rows.y * np.sqrt(weights), rcond=None)[0]


async def test_a_plain_mean_of_workers_that_go_through_their_shards_weighs_by_rows(tmp_path):
    """One with five times the rows makes five times the steps; a mean by rows would count them twice."""
    sizes = (20, 4, 4)
    rows = training_rows(sum(sizes))
    rows = replace(rows, y=np.repeat(np.array([1.0, -1.0, 0.5], "f4"), sizes))
    recipe = Recipe(learning_rate=0.01, batch_size=4, feature_dropout=0.0, class_weight=())
    async with running(tmp_path, 3, peer_views=True, init={"topology": "ring"}) as w:
        await w.connect("ring")
        shards = shards_of(sizes, sum(sizes))
        made = Exchange(w.cluster, rows, shards, recipe)
        how, network = Gossip(w.cluster, made, GOSSIP, LeftOut()), START
        for number in range(300):
            members = [(slot, network) for slot in w.slots.healthy("worker")]
            updates = await trained_once(made, members, number)
            mixed = await how.combine(network, updates, ())
            network = network.with_state((await how.barrier(network, mixed.state)).state)
        found = network.state.params
        made.close()
    by_rows = least_squares(rows, shards, lambda n: 1.0)
    others = [least_squares(rows, shards, lambda n: 1.0 / n), least_squares(rows, shards, float)]
    off = np.linalg.norm(found - by_rows)
    assert all(off < np.linalg.norm(found - other) / 4 for other in others)


async def test_a_training_whose_workers_cannot_mix_is_refused(tmp_path):
    async with running(tmp_path, 2, peer_views=True, init={"topology": "star"}) as w:
        check_mixing(w.cluster, "krum", [START])  # not of gossip
        check_mixing(w.cluster, "gossip", [START])
        with pytest.raises(UnsupportedCombination, match="the topology is star"):
            check_mixing(w.cluster, "push_sum", [START])
    async with running(tmp_path / "2", 2) as w:
        with pytest.raises(NotAvailable, match="cannot read each other"):
            check_mixing(w.cluster, "gossip", [START])
    async with running(tmp_path / "3", 1, peer_views=True, init={"topology": "mesh"}) as w:
        large = SimpleNamespace(
            plan=SimpleNamespace(n_params=1_000_000, n_buffers=0),
            optimizer="adam",
            slots=tuple(f"worker-{k}" for k in range(12)),
        )
        with pytest.raises(InvalidTopology, match=r"12 workers in a mesh would move 1\.6 GB"):
            check_mixing(w.cluster, "gossip", [large])
