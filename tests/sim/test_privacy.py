"""Private training through the whole engine: what it costs, what stops it, what attacks still learn."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.privacy.accountant import Sums, epsilon_of
from flow_nexus_neural.engine.ports import REAL_PORTS
from flow_nexus_neural.engine.requests import ListRequest
from flow_nexus_neural.errors import PrivacyBudgetSpent, StoreCorrupt, UnsupportedCombination
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import disk_is_full
from tests.sim.attackers import Gang
from tests.sim.simulated import blobs, world

pytestmark = pytest.mark.anyio

LOUD = {"mode": "central_dp", "noise_multiplier": 2.0}
QUIET = {"mode": "central_dp", "noise_multiplier": 1e-2}
ROUND = {"optimizer": "sgd", "learning_rate": 0.1, "validation_size": 0}


def params(w, cluster):
    (network,) = w.engine.cluster(cluster).committed.networks.values()
    return network.state.params.astype("f8")


def with_key(key):
    """Ports whose secret bits are known."""
    return replace(REAL_PORTS, random_bits=lambda n: key % (1 << n) if n == 256 else 7)


async def test_each_round_is_charged_before_it_is_seen_and_the_reply_says_how(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(4)
        reply = await w.start(cluster, privacy=LOUD, clients_per_round=2, epochs=5, **ROUND)
        assert (reply.privacy.epsilon, reply.privacy.delta) == (0.0, 1e-5)
        assert "dp-accounting" in reply.privacy.accountant
        assert reply.privacy.relation == "add_or_remove_one"
        assert "none" in reply.privacy.sampling
        assert any("validation" in one for one in reply.privacy.outside)
        status = await w.done(cluster)
        assert status.training_status == "completed", status.training_error
        spent = status.training.privacy
        # Five rounds of two of four clients: one is asked three times at most, and that is what counts.
        assert spent.sums == 3
        assert spent.epsilon == epsilon_of([Sums(2.0, 3)], 1e-5)
        assert spent.epsilon_of_data == spent.epsilon
        ledger = (await w.stored()).ledgers[cluster]
        order = [e.get("event", e["kind"]) for e in ledger if e.get("round") or "charged" in str(e)]
        assert order == ["privacy_charged", "version"] * 5
        told = [e for e in ledger if e.get("round")]
        assert all(c["update_digest"] is None for e in told for c in e["contributors"])


async def test_noise_of_a_known_key_is_replayed_and_another_key_gives_other_weights(tmp_path):
    made = []
    for number, key in enumerate((5, 5, 6)):
        async with world(tmp_path / str(number), ports=with_key(key)) as w:
            cluster = await w.cluster(3)
            await w.train(cluster, privacy=LOUD, epochs=2, **ROUND)
            made.append(params(w, cluster))
    assert np.array_equal(made[0], made[1])
    assert np.linalg.norm(made[0] - made[2]) > 0.5


async def test_no_client_can_move_the_model_by_more_than_its_share(tmp_path):
    def by_a_million(change, _honest, _draw):
        return 1e6 * change

    norms = {}
    for name, options in (("plain", {}), ("private", {"privacy": QUIET | {"clip_norm": 0.1}})):
        for liars in ((), ("worker-0",)):
            gang = Gang(liars, by_a_million)
            where = tmp_path / name / str(len(liars))
            async with world(where, service=gang.service, ports=with_key(9)) as w:
                cluster = await w.cluster(4, consensus="raft", topology="mesh")
                await w.train(cluster, epochs=1, **ROUND, **options)
                norms[name, len(liars)] = params(w, cluster)
    pulled = {
        name: np.linalg.norm(norms[name, 1] - norms[name, 0]) for name in ("plain", "private")
    }
    assert pulled["plain"] > 1000
    assert pulled["private"] <= 2 * 0.1 / 4 * 1.01


async def test_a_budget_counts_trainings_of_other_clusters_and_lives_through_a_restart(tmp_path):
    limited = LOUD | {"max_epsilon": 5.0}
    async with world(tmp_path) as w:
        first = await w.cluster(2)
        status = await w.train(first, privacy=LOUD, epochs=2, **ROUND)
        spent = status.training.privacy.epsilon_of_data
        await w.terminate(first, delete_artifacts=True)
    async with world(tmp_path) as w:
        second = await w.cluster(2)
        reply = await w.start(second, privacy=limited, epochs=20, **ROUND)
        assert reply.privacy.epsilon_of_data == spent
        status = await w.done(second)
        assert status.training_status == "early_stopped"
        now = status.training.privacy
        rounds = status.training.current_round
        assert now.exhausted
        assert (
            f"the privacy budget allows {rounds} of 20 rounds; the training ends then"
            in reply.warnings
        )
        assert any(
            f"spent: the training ended after round {rounds} of 20" in line
            for line in status.warnings
        )
        assert now.epsilon_of_data == epsilon_of([Sums(2.0, 2), Sums(2.0, rounds)], 1e-5) <= 5.0
        assert epsilon_of([Sums(2.0, 2), Sums(2.0, rounds + 1)], 1e-5) > 5.0
        with pytest.raises(PrivacyBudgetSpent, match="does not allow one round"):
            await w.start(second, privacy=limited, epochs=1, **ROUND)
        other = await w.train(second, blobs(seed=9), privacy=limited, epochs=1, **ROUND)
        assert other.training.privacy.epsilon_of_data == other.training.privacy.epsilon


@pytest.mark.parametrize(("writes", "charged"), [(0, 0), (1, 1)], ids=["charge", "commit"])
async def test_noise_that_was_drawn_stays_charged_and_none_is_drawn_unless_it_is(
    tmp_path, writes, charged
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        reply = await w.start(cluster, privacy=LOUD, epochs=3, **ROUND)
        with w.disk.failing("before_commit", disk_is_full(), after=writes):
            status = await w.until(
                cluster, lambda s: "until it can be stored" in (s.training.lacks or "")
            )
            assert status.training.privacy.sums == charged
            stored = await w.engine.context.store.privacy_spending()
            assert [one.training_id for one in stored] == [reply.training_id] * charged
            assert w.engine.cluster(cluster).committed is None
        status = await w.done(cluster)  # it goes on, with noise that is drawn anew and charged anew
        assert status.training_status == "completed", status.training_error
        assert status.training.privacy.sums == 3 + charged


async def test_under_masks_the_workers_clip_and_the_sum_gets_the_same_noise(tmp_path):
    made, spent = [], []
    for secure in (False, True):
        async with world(tmp_path / str(secure), ports=with_key(7)) as w:
            cluster = await w.cluster(4, consensus="raft")
            options = {"privacy": LOUD | {"clip_norm": 0.05}, "secure_aggregation": secure}
            status = await w.train(cluster, epochs=2, **ROUND, **options)
            assert status.training_status == "completed", status.training_error
            made.append(params(w, cluster))
            spent.append(status.training.privacy.epsilon)
            (first, *_) = await w.round_versions(cluster)
            assert first["evidence"]["privacy"]["clip_norm"] == 0.05
            assert ("secure" in first["evidence"]) == secure
    assert np.linalg.norm(made[0] - made[1]) < 1e-5 * np.linalg.norm(made[0])
    assert spent[0] == spent[1] == epsilon_of([Sums(2.0, 2)], 1e-5)


async def test_under_masks_a_lost_worker_is_charged_and_counts_nothing(tmp_path):
    faults = FaultPlan()
    faults.kill("worker-3", "ask_masked")
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(4, consensus="raft")
        options = {"privacy": LOUD, "secure_aggregation": True}
        status = await w.train(cluster, epochs=1, **ROUND, **options)
        assert status.training_status == "completed", status.training_error
        (entry,) = await w.round_versions(cluster)
        assert entry["evidence"]["privacy"]["clients"] == 4
        assert entry["evidence"]["secure"]["delivered"] == 3
        charged = w.engine.cluster(cluster).state.latest_training.advance.privacy.sums
        assert charged == dict.fromkeys([f"worker-{k}" for k in range(4)], 1)


async def test_a_private_training_that_is_resumed_goes_on_counting(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.start(cluster, privacy=LOUD, epochs=25, **ROUND)
        before = (await w.rounds(cluster, 3)).training.privacy.sums
    async with world(tmp_path) as w:
        status = await w.done(cluster)
        assert status.training_status == "completed", status.training_error
        spent = status.training.privacy
        # A round that was charged and not committed when the server ended is charged again.
        assert before < 25 <= spent.sums <= 26
        assert spent.epsilon == epsilon_of([Sums(2.0, spent.sums)], 1e-5)
        assert [one.count for one in await spending(w)] == [spent.sums]


async def spending(w):
    return [one.sums for one in await w.engine.context.store.privacy_spending()]


async def test_a_worker_that_comes_late_gets_no_rows_of_others(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await w.start(cluster, privacy=LOUD, epochs=30, **ROUND)
        await w.rounds(cluster, 2)
        await w.deploy(cluster)
        await w.done(cluster)
        status = await w.status(cluster)
        rows = {shard.slot: shard.rows for shard in status.training.shards}
        assert set(rows) == {"worker-0", "worker-1", "worker-2"}
        assert status.training.privacy.sums == 30


async def test_weights_of_the_same_rows_without_privacy_are_no_start(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.train(cluster, epochs=1, **ROUND)
        with pytest.raises(UnsupportedCombination, match="without privacy"):
            await w.start(cluster, privacy=LOUD, **ROUND)
        reply = await w.start(cluster, blobs(seed=5), privacy=LOUD, epochs=1, **ROUND)
        assert any("other data" in one for one in reply.warnings)
        await w.done(cluster)
        assert (await w.engine.clusters(ListRequest())).clusters


def told_apart(inside, outside):
    """Largest difference of true and false positives over all thresholds of a score."""
    thresholds = np.concatenate((inside, outside))
    return max(float((inside <= t).mean() - (outside <= t).mean()) for t in thresholds)


async def loss_of(w, cluster, x, y):
    reply = await w.predict(cluster, x.tolist(), detail="full")
    p = np.clip(reply.predictions, 1e-6, 1 - 1e-6)
    return -np.where(y == 1, np.log(p), np.log(1 - p))


async def test_membership_inference_works_without_privacy_and_not_with_it(tmp_path):
    """Yeom et al. 2018: members have smaller losses. Labels are random: whatever is learnt is memory."""
    draw = np.random.Generator(np.random.PCG64(3))
    x = draw.standard_normal((160, 24)).round(3)
    y = draw.integers(0, 2, 160)
    inside, outside = slice(0, 80), slice(80, 160)
    data = {"X": x[inside].tolist(), "y": y[inside].tolist()}
    layers = ({"type": "dense", "units": 48, "activation": "relu"}, {"type": "dense", "units": 1})
    found = {}
    for name, options in (("plain", {}), ("private", {"privacy": LOUD | {"clip_norm": 0.5}})):
        async with world(tmp_path / name) as w:
            cluster = await w.cluster(2, layers=layers, consensus="raft")
            more = {"local_epochs": 10, "learning_rate": 0.02, "optimizer": "adam"}
            sizes = {"validation_size": 0, "test_size": 0.1}
            status = await w.train(cluster, data, epochs=6, **more, **sizes, **options)
            assert status.training_status == "completed", status.training_error
            scores = [await loss_of(w, cluster, x[part], y[part]) for part in (inside, outside)]
            found[name] = told_apart(*scores)
    epsilon = epsilon_of([Sums(2.0, 6)], 1e-5)
    assert found["plain"] > 0.6
    assert found["private"] < 0.3 < (np.exp(epsilon) - 1 + 2e-5) / (np.exp(epsilon) + 1)


@pytest.mark.parametrize(
    ("statement", "known"),
    [
        ("DELETE FROM trainings", False),
        ("DELETE FROM history; DELETE FROM trainings; DELETE FROM ledger", False),
        ("UPDATE slots SET state='dead'", True),
    ],
    ids=["trainings", "ledger", "other"],
)
async def test_what_is_gone_from_the_journal_is_not_spent_again(tmp_path, statement, known):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        status = await w.train(cluster, privacy=LOUD, epochs=2, **ROUND)
        spent = status.training.privacy.epsilon_of_data
        await w.terminate(cluster)
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.executescript(statement)
    async with world(tmp_path):
        pass  # once more, so that it is not forgotten with the first server that saw it
    async with world(tmp_path) as w:
        stored = await w.stored()
        assert cluster in {**stored.refused, **stored.older}
        other = await w.cluster(2)
        if known:
            reply = await w.start(other, privacy=LOUD, epochs=1, **ROUND)
            assert reply.privacy.epsilon_of_data == spent
        else:
            with pytest.raises(StoreCorrupt, match="spent of a privacy budget is unknown"):
                await w.start(other, privacy=LOUD, epochs=1, **ROUND)
            await w.start(other, epochs=1, **ROUND)
        await w.done(other)
