"""Clients of the data that train by themselves: more of them than nodes, each with its own rows and draws."""

import numpy as np
import pytest

from flow_nexus_neural.engine.reports import ClientsReport
from flow_nexus_neural.engine.training import client_rounds
from flow_nexus_neural.errors import InvalidArguments, NoWorkers, UnsupportedCombination
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.sim.simulated import DATA as WITHOUT_CLIENTS
from tests.sim.simulated import world

pytestmark = pytest.mark.anyio

CLIENTS = 23
BATCH, RATE, EPOCHS = 4, 0.1, 2
SHORT = {
    "epochs": 3,
    "optimizer": "sgd",
    "learning_rate": RATE,
    "batch_size": BATCH,
    "local_epochs": EPOCHS,
    "validation_size": 0,
    "partition": "each_client",
}
LINEAR = ({"type": "dense", "units": 1},)


def of_clients(clients=CLIENTS, features=3):
    """Inline data of clients of unequal sizes."""
    draw = np.random.Generator(np.random.PCG64(4))
    found = {}
    for k in range(clients):
        rows = 4 + k % 7
        y = np.arange(rows) % 2
        x = draw.standard_normal((rows, features)) + 1.5 * y[:, None]
        found[f"c{k:02}"] = {"X": np.round(x, 4).tolist(), "y": y.tolist()}
    return {"clients": found}


DATA = of_clients()


async def trained(tmp_path, workers, name="state", faults=None, init=None, **more):
    async with world(tmp_path / name, faults) as w:
        cluster = await w.cluster(workers, **init or {})
        status = await w.train(cluster, DATA, **SHORT | more)
        entries = await w.round_versions(cluster)
    assert status.training_status == "completed", status.training_error
    return status, entries


def told_of(status):
    return ClientsReport.model_validate(status.training.aggregation["clients"])


def weights(entries):
    return [entry["weights_digest"] for entry in entries]


async def refusal(tmp_path, data=DATA, init=None, layers=None, **more):
    async with world(tmp_path / "refused") as w:
        cluster = await w.cluster(3, **init or {})
        if layers is not None:
            await w.deploy(cluster, layers=layers)
        with pytest.raises((InvalidArguments, NoWorkers, UnsupportedCombination)) as refused:
            await w.start(cluster, data, **SHORT | more)
    return f"{refused.value.message}. {refused.value.hint}"


async def test_every_client_trains_once_a_round_on_whichever_node(tmp_path):
    status, entries = await trained(tmp_path, 3)
    clients = told_of(status)
    assert (clients.total, clients.asked, clients.trained) == (CLIENTS, CLIENTS, CLIENTS)
    assert clients.per_node == {"worker-0": 8, "worker-1": 8, "worker-2": 7}
    assert clients.missed == []
    assert clients.moved == []
    assert entries[-1]["evidence"]["clients"]["per_node"] == clients.per_node
    assert status.training.heterogeneity is not None


async def test_after_a_restart_who_took_part_is_null_and_not_missing(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, DATA, **SHORT)
        assert told_of(status).trained == CLIENTS
    async with world(tmp_path) as w:
        status = await w.status(cluster)
        assert status.training.aggregation["clients"] is None


@pytest.mark.parametrize("consensus", ["raft", "proof-of-learning"])
async def test_the_weights_are_the_same_bytes_whatever_the_number_of_nodes(tmp_path, consensus):
    init = {"consensus": consensus}
    one = weights((await trained(tmp_path, 1, "one", init=init))[1])
    assert one == weights((await trained(tmp_path, 5, "five", init=init))[1])
    assert len(set(one)) == SHORT["epochs"]


def by_hand(rows, clients, params, run, number):
    """Federated averaging of logistic regressions, by rows, in float64."""
    total, summed = 0, np.zeros(len(params))
    for client, own in clients.items():
        w = params.astype(np.float64)
        x = np.concatenate([rows.x[own].astype(np.float64), np.ones((len(own), 1))], axis=1)
        y = rows.y[own]
        for epoch in range(EPOCHS):
            seed = seed64(run, number, client, epoch, "order")
            order = np.random.Generator(np.random.PCG64(seed)).permutation(len(own))
            for start in range(0, len(own), BATCH):
                batch = order[start : start + BATCH]
                p = 1 / (1 + np.exp(-x[batch] @ w))
                w = w - RATE * x[batch].T @ (p - y[batch]) / len(batch)
        summed += len(own) * w
        total += len(own)
    return summed / total


async def test_a_round_is_federated_averaging_over_the_clients_as_one_process_does_it(
    tmp_path, monkeypatch
):
    seen = []
    real = client_rounds.client_round

    async def watched(setting, number, members, clients):
        work = await real(setting, number, members, clients)
        (made,) = work.states.values()
        seen.append((setting, number, members[0][1].state.params, clients, made.params))
        return work

    monkeypatch.setattr(client_rounds, "client_round", watched)
    async with world(tmp_path) as w:
        cluster = await w.cluster(4, layers=LINEAR)
        status = await w.train(cluster, DATA, **SHORT, refit=False)
    assert status.training_status == "completed", status.training_error
    assert len(seen) == SHORT["epochs"]
    for setting, number, before, clients, after in seen:
        rows = setting.exchange._rows
        expected = by_hand(rows, clients, before, setting.run, number)
        assert np.abs(after - before).max() > 1e-3
        np.testing.assert_allclose(after, expected, rtol=0, atol=1e-6)


async def test_a_sample_of_clients_takes_turns(tmp_path):
    status, entries = await trained(tmp_path, 3, clients_per_round=9)
    told = [entry["evidence"]["clients"] for entry in entries]
    assert [one["trained"] for one in told] == [9, 9, 9]
    assert told_of(status).total == CLIENTS
    assert len(set(weights(entries))) == SHORT["epochs"]


async def test_more_clients_a_round_than_workers_means_the_clients_of_the_data(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        report = await w.start(cluster, DATA, **SHORT | {"partition": None}, clients_per_round=9)
        await w.done(cluster)
    assert report.config.partition == "each_client"
    assert report.config.clients_per_round == 9


async def test_who_leaves_it_at_merged_clients_is_told_so(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        report = await w.start(cluster, DATA, **SHORT | {"partition": None})
        await w.done(cluster)
    assert report.config.partition == "client"
    assert any("partition each_client trains every client" in said for said in report.warnings)


@pytest.mark.parametrize("workers", [2, 3])
async def test_a_node_that_is_killed_among_its_clients_changes_no_byte_and_is_named(
    tmp_path, workers
):
    whole = weights((await trained(tmp_path, workers, "whole", init={"consensus": "raft"}))[1])
    faults = FaultPlan().kill("worker-1", "train", nth=3)
    status, entries = await trained(tmp_path, workers, "killed", faults, init={"consensus": "raft"})
    assert weights(entries) == whole
    told = entries[0]["evidence"]["clients"]
    assert (told["trained"], told["n_missed"], told["n_moved"]) == (CLIENTS, 0, 1)
    (moved,) = told["moved"]
    assert moved["client"] == f"c{2 * workers + 1:02}"
    assert moved["nodes"][0] == "worker-1"
    assert "worker-1" in moved["reason"]
    assert told_of(status).trained == CLIENTS


async def test_a_client_that_no_node_can_train_is_missed_and_named(tmp_path):
    """Whoever is asked for the second client dies: after three nodes the round does without it."""
    faults = FaultPlan()
    faults.kill("worker-1", "train", nth=1).kill("worker-2", "train", nth=2)
    faults.kill("worker-3", "train", nth=2)
    _, entries = await trained(
        tmp_path, 9, faults=faults, init={"consensus": "raft"}, epochs=1, clients_per_round=CLIENTS
    )
    told = entries[0]["evidence"]["clients"]
    assert told["trained"] + told["n_missed"] == CLIENTS
    assert {name for one in told["moved"] + told["missed"] for name in one["nodes"]} >= {
        "worker-1",
        "worker-2",
        "worker-3",
    }


async def test_a_round_of_too_few_clients_is_tried_again(tmp_path):
    faults = FaultPlan()
    for slot in ("worker-0", "worker-1", "worker-2"):
        faults.kill(slot, "train", nth=1)
    _, entries = await trained(tmp_path, 3, faults=faults, init={"daa_enabled": True})
    assert all(entry["evidence"]["clients"]["trained"] == CLIENTS for entry in entries)


async def test_privacy_clips_and_counts_each_client_of_the_data(tmp_path):
    privacy = {"mode": "central_dp", "noise_multiplier": 2.0, "clip_norm": 0.5}
    status, entries = await trained(
        tmp_path, 3, privacy=privacy, clients_per_round=12, init={"consensus": "raft"}
    )
    told = entries[-1]["evidence"]["privacy"]
    assert told["clients"] == 12
    assert told["noise_std_of_mean"] == pytest.approx(2.0 * 0.5 / 12)
    assert (
        status.training.privacy.sums == 2
    )  # 3 rounds of 12 of 23: some took part twice, nobody more
    assert status.training.privacy.unit.startswith(
        "client: all training rows of one client of the data"
    )


async def test_two_kinds_of_protected_clients_are_not_counted_together(tmp_path):
    privacy = {"mode": "central_dp", "noise_multiplier": 2.0}
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, consensus="raft")
        await w.train(cluster, DATA, **SHORT, privacy=privacy)
        with pytest.raises(UnsupportedCombination, match="not those of this training"):
            await w.start(cluster, DATA, **SHORT | {"partition": "client"}, privacy=privacy)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"aggregation_method": "krum"}, "a lying one makes the updates of all clients"),
        ({"aggregation_method": "scaffold"}, "an array as large as the network for each client"),
        ({"init": {"consensus": "byzantine"}}, "a lying one makes the updates of all clients"),
        ({"init": {"consensus": "gossip"}}, "weights of its own"),
        ({"init": {"consensus": "raft"}, "secure_aggregation": True}, "secure_aggregation"),
        ({"privacy": {"mode": "record_dp", "noise_multiplier": 1.0}}, "record_dp"),
        ({"data": WITHOUT_CLIENTS}, "needs data with clients"),
        ({"data": WITHOUT_CLIENTS}, "a column of one table names no clients"),
        ({"clients_per_round": CLIENTS + 1}, "above the 23 clients of the data"),
        ({"clients_per_round": CLIENTS + 1}, "that can train. lower it, or leave it out"),
        (
            {"min_nodes_per_round": CLIENTS + 1},
            "needs 24 clients of the data and 23 take part. lower min",
        ),
        ({"layers": LINEAR}, "equal networks"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value.items()))[0],
)
async def test_what_clients_in_turns_cannot_do_is_refused_with_the_reason(tmp_path, more, why):
    assert why in await refusal(tmp_path, **more)
