"""Autonomy that acts in a running engine: within levels and bounds, and never a wrong number of nodes."""

import json
import sqlite3
from contextlib import closing

import anyio
import pytest

from flow_nexus_neural.cli.verify import verify_state
from flow_nexus_neural.coordination.autonomy import conditions
from flow_nexus_neural.coordination.autonomy.audit import sealed, verify_audit
from flow_nexus_neural.coordination.ledger import GENESIS
from flow_nexus_neural.engine.storage.schema import json_text
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.settings import Settings
from tests.doubles.seeded import run_seeded
from tests.sim.scheduled import scheduled_world
from tests.sim.simulated import blobs, node_of
from tests.sim.test_learning_from_outcomes import records, told
from tests.sim.test_resuming import series

MANY = blobs(400)
"""Rows enough for a part to validate on."""


def executed(status):
    return [e["rule"] for e in status.daa.events if e["decision"] == "executed"]


async def trained(w, workers=3, **more):
    cluster = await w.cluster(workers, daa_enabled=True, **more)
    await w.connect(cluster)
    status = await w.train(cluster, epochs=2)
    assert status.training_status == "completed", status.training_error
    return cluster


@pytest.mark.parametrize(("autonomy", "comes_back"), [(0.1, False), (0.2, True), (0.8, True)])
def test_a_dead_node_comes_back_from_its_level_on(tmp_path, autonomy, comes_back):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await w.cluster(0, daa_enabled=True)
            for _ in range(3):
                await w.deploy(cluster, autonomy=autonomy)
            await w.connect(cluster)
            before = await w.train(cluster, epochs=2)
            w.kill("worker-1")
            await anyio.sleep(3.0)
            status = await w.status(cluster)
            assert (node_of(status, "worker-1").incarnation == 2) is comes_back
            assert node_of(status, "worker-1").healthy is comes_back
            assert (status.daa.executed, status.daa.recommended) == (
                (1, 0) if comes_back else (0, 1)
            )
            assert status.model_version == before.model_version
            answer = await w.predict(cluster)
            assert answer.nodes_used == 2 + comes_back

    run_seeded(scenario)


def test_a_cluster_with_autonomy_off_does_nothing_at_all(tmp_path):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await w.cluster(3)
            await w.train(cluster, MANY, epochs=20, learning_rate=0.2)
            w.kill("worker-1")
            await anyio.sleep(120.0)
            status = await w.status(cluster)
            assert status.daa.executed == 0
            assert status.daa.recommended > 1
            assert node_of(status, "worker-1").status == "failed"

    run_seeded(scenario)


def test_a_crash_loop_is_restarted_five_times_and_given_up(tmp_path):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await trained(w)
            for _ in range(6):
                w.kill("worker-1")
                await anyio.sleep(20.0)
            await anyio.sleep(700.0)
            status = await w.status(cluster)
            node = node_of(status, "worker-1")
            assert (node.status, node.incarnation) == ("failed_permanently", 6)
            assert executed(status) == ["restart_node"] * 5 + ["give_up_node"]
            assert any("failed too often" in warning for warning in status.warnings)
            again = await w.deploy(cluster, layers=None)
            assert (again.slot, again.incarnation) == ("worker-1", 7), "a call still replaces it"

    run_seeded(scenario)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_monitor_that_deploys_every_second_leaves_the_slots_that_there_were(tmp_path, seed):
    """The document's monitor: a deploy for every failed node each second, and two seconds to synchronise."""

    async def scenario():
        async with scheduled_world(tmp_path, seed=seed) as w:
            cluster = await trained(w, 4)
            recoveries = []

            async def recover(node):
                recoveries.append(await w.deploy(cluster, layers=None, node_type=node.role))
                await anyio.sleep(2.0)

            async with anyio.create_task_group() as group:
                for second in range(60):
                    if second == 5:
                        w.kill("worker-1")
                        w.kill("worker-3")
                    for node in (await w.status(cluster)).nodes:
                        if not node.healthy:
                            group.start_soon(recover, node)
                    await anyio.sleep(1.0)
            status = await w.status(cluster)
            assert (status.total_nodes, status.active_nodes) == (4, 4)
            assert [n.incarnation for n in status.nodes] == [1, 2, 1, 2]
            assert recoveries, "the monitor saw the failed nodes"

    run_seeded(scenario, seed=seed)


def test_a_training_that_gains_nothing_is_slowed_and_ends_at_its_best_round(tmp_path):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await w.cluster(3, daa_enabled=True)
            status = await w.train(cluster, MANY, epochs=60, learning_rate=0.05)
            assert status.training_status == "early_stopped"
            assert status.training.current_round < 60
            assert status.training.served_round == status.training.best_round
            assert executed(status) == ["adapt_learning_rate", "early_stop"]
            told = [e for e in status.daa.events if e["rule"] == "adapt_learning_rate"]
            assert [e["decision"] for e in told] == ["intended", "executed"]
            event = told[-1]
            assert (event["before"], event["after"]) == (
                {"learning_rate": 0.05},
                {"learning_rate": 0.025},
            )

    run_seeded(scenario)


def test_equal_seeds_are_steered_equally_whatever_the_order_of_tasks(tmp_path):
    made = []

    async def scenario(place, seed):
        async with scheduled_world(place, seed=seed) as w:
            cluster = await w.cluster(2, daa_enabled=True)
            await w.train(cluster, MANY, epochs=14, learning_rate=0.2)
            versions = await w.versions(cluster)
            made.append([entry["weights_digest"] for entry in versions])
            status = await w.status(cluster)
            assert "adapt_learning_rate" in executed(status)

    for seed in (1, 2, 3):
        run_seeded(scenario, tmp_path / str(seed), seed, seed=seed)
    assert made[0] == made[1] == made[2]


def test_a_training_without_workers_waits_for_them_and_goes_on(tmp_path):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await w.cluster(0, daa_enabled=True)
            await w.deploy(cluster, "validator", layers=None, autonomy=0.5)
            for _ in range(2):
                await w.deploy(cluster, autonomy=0.0)
            await w.start(cluster, epochs=4)
            await w.rounds(cluster, 1)
            for slot in ("worker-0", "worker-1"):
                w.kill(slot)
            status = await w.until(cluster, lambda s: "pause_training" in executed(s))
            assert status.training_status == "running"
            assert "0 of the 1 workers" in status.training.lacks
            await anyio.sleep(60.0)
            assert (await w.status(cluster)).training_status == "running"
            await w.deploy(cluster, layers=None, autonomy=0.0)
            status = await w.done(cluster)
            assert status.training_status == "completed", status.training_error
            assert status.training.current_round == 4
            assert status.training.lacks is None

    run_seeded(scenario)


def test_a_pause_ends_where_nobody_comes(tmp_path):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await w.cluster(0, daa_enabled=True)
            await w.deploy(cluster, "validator", layers=None, autonomy=0.5)
            await w.deploy(cluster, autonomy=0.0)
            await w.start(cluster, epochs=40)
            await w.rounds(cluster, 1)
            w.kill("worker-0")
            began = anyio.current_time()
            status = await w.done(cluster)
            assert (status.training_status, status.training_error[:10]) == ("failed", "no_workers")
            assert 600.0 <= anyio.current_time() - began < 700.0

    run_seeded(scenario)


def test_nodes_that_are_dead_for_a_minute_leave_the_links(tmp_path):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await w.cluster(0, daa_enabled=True, topology="ring")
            for autonomy in (0.8, 0.8, 0.8, 0.0):
                await w.deploy(cluster, autonomy=autonomy)
            await w.connect(cluster)
            w.kill("worker-3")
            await anyio.sleep(50.0)
            assert executed(await w.status(cluster)) == []
            await anyio.sleep(30.0)
            status = await w.status(cluster)
            assert executed(status) == ["rebalance_shards"]
            assert (status.topology, status.declared_topology) == ("ring", "ring")
            assert [node.connections for node in status.nodes] == [2, 2, 2, 0]

    run_seeded(scenario)


def test_a_worker_that_lost_a_version_is_given_it(tmp_path):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await trained(w)
            live = await w.whole(cluster)
            slot = live.slots["worker-1"]
            for copy in list(slot.served):
                slot.note_served(copy, "other weights")
            live.changed()
            assert (await w.predict(cluster)).nodes_used == 2
            await anyio.sleep(3.0)
            status = await w.status(cluster)
            assert executed(status) == ["resync_node"]
            assert (await w.predict(cluster)).nodes_used == 3

    run_seeded(scenario)


def test_a_node_that_is_lost_for_good_gets_a_stand_in_from_95_hundredths_on(tmp_path):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await w.cluster(0, daa_enabled=True)
            for _ in range(3):
                await w.deploy(cluster, autonomy=0.95)
            for _ in range(6):
                w.kill("worker-1")
                await anyio.sleep(20.0)
            await anyio.sleep(200.0)
            status = await w.status(cluster)
            assert executed(status)[-1] == "deploy_spare"
            assert (status.total_nodes, status.active_nodes) == (4, 3)
            assert node_of(status, "worker-3").healthy
        async with scheduled_world(tmp_path) as w:
            await w.status(cluster)
            await w.connect(cluster)
            await anyio.sleep(200.0)
            status = await w.status(cluster)
            assert (status.total_nodes, status.active_nodes) == (4, 3), "one stand-in is enough"

    run_seeded(scenario)


@pytest.mark.parametrize(("autonomy", "learns"), [(0.75, False), (0.8, True)])
def test_labels_that_flip_start_one_training_and_accuracy_recovers(tmp_path, autonomy, learns):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await w.cluster(0, daa_enabled=True)
            for _ in range(2):
                await w.deploy(cluster, autonomy=autonomy)
            await w.train(cluster, epochs=6, learning_rate=0.1)
            assert await told(w, cluster, records(200, 1)) > 0.85
            await anyio.sleep(10.0)
            assert executed(await w.status(cluster)) == [], "there is no drift yet"
            assert await told(w, cluster, records(200, 2, flipped=True)) < 0.2
            await anyio.sleep(10.0)
            status = await w.done(cluster)
            events = [e for e in status.daa.events if e["rule"] == "learn_from_feedback"]
            expected = ["intended", "executed"] if learns else ["recommended"]
            assert [e["decision"] for e in events] == expected
            assert events[0]["evidence"]["drifts"] == 1
            if learns:
                assert status.training.learning.admitted, status.training.learning.reason
            right = await told(w, cluster, records(100, 3, flipped=True))
            assert (right > 0.8) is learns

    run_seeded(scenario)


def test_the_log_goes_on_after_a_restart_and_tells_when_it_was_altered(tmp_path):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await trained(w)
            w.kill("worker-1")
            await anyio.sleep(3.0)
        async with scheduled_world(tmp_path) as w:
            status = await w.status(cluster)
            assert status.daa.executed == 1
            await w.predict(cluster)
            w.kill("worker-2")
            await anyio.sleep(3.0)
            audit = await w.engine.audit(cluster)
            assert [entry["seq"] for entry in audit.entries] == [0, 1, 2, 3]
            assert audit.intact
            assert verify_audit(audit.entries).ok
            store = w.engine.context.store
            store._journal.write(
                lambda c: c.execute("UPDATE audit SET body=replace(body, 'worker-1', 'worker-9')")
            )
            assert not (await w.engine.audit(cluster)).intact
        async with scheduled_world(tmp_path) as w:
            status = await w.status(cluster)
            assert any("audit entry 0" in warning for warning in status.warnings)
            assert (await w.predict(cluster)).nodes_used == 3, "it costs the cluster nothing else"

    run_seeded(scenario)


def test_a_damaged_newest_entry_does_not_end_what_autonomy_does(tmp_path):
    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await trained(w)
            for slot in ("worker-1", "worker-2"):
                w.kill(slot)
                await anyio.sleep(4.0)
            w.engine.context.store._journal.write(
                lambda c: c.execute(
                    """UPDATE audit SET body=replace(body, '"seq":3', '"seq":0') WHERE seq=3"""
                )
            )
        async with scheduled_world(tmp_path) as w:
            await w.predict(cluster)
            w.kill("worker-1")
            await anyio.sleep(30.0)
            status = await w.status(cluster)
            assert any("audit entry 3" in warning for warning in status.warnings)
            assert (status.daa.executed, status.active_nodes) == (3, 3)
            assert [e["seq"] for e in (await w.engine.audit(cluster)).entries][-1] == 5

    run_seeded(scenario)


def test_a_refit_trains_at_the_rates_of_the_rounds_that_were_evaluated(tmp_path, monkeypatch):
    rates = {"rounds": {}, "refit": {}}  # of each round, which proofs ask for several times
    request = Exchange.request

    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await w.cluster(1)

            def seen(self, task):
                run = w.engine.cluster(cluster).run
                rates[run.training.phase][task.dropout_seed] = self.recipe.learning_rate
                if len(rates["rounds"]) == 3:
                    run.steer(learning_rate=0.005)
                return request(self, task)

            monkeypatch.setattr(Exchange, "request", seen)
            status = await w.train(
                cluster, series(), target="y", time_column="date", epochs=6, learning_rate=0.01
            )
            assert status.training.refit.state == "done", status.training.refit.error
            refit, rounds = list(rates["refit"].values()), list(rates["rounds"].values())
            assert set(refit) == {0.01, 0.005}
            assert refit == rounds[: len(refit)]

    run_seeded(scenario)


def test_every_decision_is_derived_again_from_the_stored_log_alone(tmp_path, monkeypatch, capsys):
    """By `verify`, after the server has ended. Another planner is noticed; a log without evidence is told."""

    async def scenario():
        async with scheduled_world(tmp_path) as w:
            cluster = await trained(w)
            for slot in ("worker-1", "worker-2"):
                w.kill(slot)
                await anyio.sleep(4.0)
            assert (await w.status(cluster)).daa.executed == 2

    run_seeded(scenario)
    settings = Settings(state_dir=tmp_path)
    assert verify_state(settings) == 0
    assert "\n2 decisions of autonomy, derived again" in capsys.readouterr().out
    with monkeypatch.context() as patched:
        patched.setattr(conditions, "restart_pause_s", lambda _restarts: 9.0)
        assert verify_state(settings) == 1
    assert "audit entry 0 decision, derived again" in capsys.readouterr().out
    without_evidence(tmp_path / "state.db")
    assert verify_state(settings) == 0
    assert "\n2 decisions cannot be derived again" in capsys.readouterr().out


def without_evidence(journal):
    """The log of an earlier version, which recorded less."""
    with closing(sqlite3.connect(journal)) as own, own:
        rows = own.execute("SELECT seq, body FROM audit ORDER BY seq").fetchall()
        last = GENESIS
        for seq, body in rows:
            left = {k: v for k, v in json.loads(body).items() if k not in ("sha", "seen", "place")}
            entry = sealed(last, left)
            last = entry["sha"]
            own.execute("UPDATE audit SET sha=?, body=? WHERE seq=?", (last, json_text(entry), seq))
