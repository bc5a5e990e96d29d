"""What the next round rests on leads, from files and rows alone, to what the training has in memory."""

import numpy as np
import pytest

from flow_nexus_neural.engine.training.continuing import read_standpoint, read_starts
from flow_nexus_neural.errors import StoreCorrupt
from tests.unit.engine.running import rows, running, virtual_time

RISING = 0.5
"""A learning rate at which the loss rises now and then, and stays finite."""


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def rounds_done(w, n):
    while w.cluster.state.latest_training.advance.rounds_done < n:
        await w.cluster.changes.wait_beyond(w.cluster.changes.count)


async def begun(w, *, after, **train):
    await w.engine.train(w.train_request(**train))
    await rounds_done(w, after)
    return w.cluster.run, w.cluster.state.latest_training


def same(one, other):
    assert one.keys() == other.keys()
    for key, network in one.items():
        assert (network.digest, network.slots) == (other[key].digest, other[key].slots)
        for name, array in network.state.arrays.items():
            assert array.tobytes() == other[key].state.arrays[name].tobytes()


async def test_the_networks_of_the_next_round_are_those_that_were_committed(tmp_path):
    async with running(tmp_path, 2) as w:
        run, training = await begun(w, after=3, epochs=20)
        found = await read_standpoint(w.cluster, training)
        same(found.networks, w.committed.networks)
        assert training.advance.continuation.dealt == tuple(run.rounds.exchange.shards)


async def test_before_the_first_round_they_are_those_of_the_start(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train(epochs=2)
        await w.engine.train(w.train_request(epochs=3))
        training = w.cluster.state.latest_training
        found = await read_standpoint(w.cluster, training)
        same(found.networks, w.committed.networks)
        assert found.best is None


async def test_who_was_asked_is_known_round_for_round(tmp_path):
    async with running(tmp_path, 3) as w:
        more = {"federated": True, "clients_per_round": 2, "epochs": 20}
        _, training = await begun(w, after=5, **more)
        continuation = training.advance.continuation
        assert (
            sum(times for _, times in continuation.asked.values())
            == 2 * training.advance.rounds_done
        )


async def test_the_best_round_is_read_with_its_weights(tmp_path):
    async with running(tmp_path, 2) as w:
        more = {"dataset": rows(200), "validation_size": 0.2, "learning_rate": RISING}
        run, training = await begun(w, after=3, epochs=12, **more)
        while training.advance.best_round in (None, training.advance.rounds_done):
            await rounds_done(w, training.advance.rounds_done + 1)
        found = await read_standpoint(w.cluster, training)
        same(found.best, run._best)
        assert found.best["c0"].digest != found.networks["c0"].digest


async def test_control_variates_are_read_for_every_slot(tmp_path):
    async with running(tmp_path, 2, init={"consensus": "raft"}) as w:
        more = {"federated": True, "aggregation_method": "scaffold", "epochs": 20}
        run, training = await begun(w, after=2, **more)
        found = await read_standpoint(w.cluster, training)
        mine = run.rounds.networks["c0"].state.server.controls
        read = found.networks["c0"].state.server.controls
        assert mine.keys() == read.keys() == {"worker-0", "worker-1"}
        assert all(np.array_equal(mine[slot], read[slot]) for slot in mine)


async def test_a_start_that_somebody_had_trained_is_read_and_another_is_drawn_anew(tmp_path):
    async with running(tmp_path, 2) as w:
        first = await w.train(epochs=2)
        before = w.committed
        _, second = await begun(w, after=2, epochs=20)
        assert (await read_starts(w.cluster, first))["c0"].state is None
        starts = await read_starts(w.cluster, second)
        assert starts["c0"].digest == before.networks["c0"].digest
        w.engine.context.checkpoints.path(starts["c0"].blob).unlink()
        with pytest.raises(StoreCorrupt, match=starts["c0"].blob):
            await read_starts(w.cluster, second)


async def test_what_follows_the_rounds_begins_from_shared_weights_whoever_answers_with_own_ones(
    tmp_path,
):
    async with running(tmp_path, 3) as w:
        more = {"dataset": rows(480), "learning_rate": 0.02, "federated": True}
        training = await w.train(epochs=10, **more)
        assert training.personalisation.kept
        found = await read_standpoint(w.cluster, training)
        assert list(found.networks) == ["c0"]
        assert found.networks["c0"].slots == ("worker-0", "worker-1", "worker-2")
