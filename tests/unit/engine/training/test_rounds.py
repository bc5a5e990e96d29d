"""Rounds over any division of rows: the same course gives the same bytes, and nothing of it is committed."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from flow_nexus_neural.engine.ports import REAL_PORTS
from flow_nexus_neural.engine.training.preparation import prepare_training
from flow_nexus_neural.engine.training.rounds import Rounds
from flow_nexus_neural.errors import NoWorkers
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def course_of(w, **more):
    """The rounds that a training of this cluster would run."""
    prepared = await prepare_training(w.cluster, w.train_request(**more), 0)
    course = prepared.course(prepared.data.parts["train"])
    return Rounds(w.cluster, course, dict(prepared.networks), prepared.shards)


async def advance(rounds, number):
    work = await rounds.work(number)
    rounds.networks = rounds.renewed(work.states)


async def whole(rounds, n=3):
    """All rounds from the start; the bytes of the weights."""
    await rounds.begin()
    for number in range(1, n + 1):
        await rounds.run(partial(advance, rounds, number))
    await rounds.release()
    return rounds.networks["c0"].state.params.tobytes()


async def test_the_same_course_gives_the_same_bytes_and_commits_nothing(tmp_path):
    async with running(tmp_path, 2) as w:
        first, second = await whole(await course_of(w)), await whole(await course_of(w))
        other = await whole(await course_of(w, seed=7))
        assert first == second != other
        assert w.committed is None
        assert await w.ledger("version") == []


async def test_a_course_ends_where_the_training_ends_that_commits_every_round(tmp_path):
    async with running(tmp_path, 2) as w:
        alone = await whole(await course_of(w, epochs=3))
        await w.train(epochs=3)
        assert w.committed.networks["c0"].state.params.tobytes() == alone


async def test_it_starts_from_given_weights_and_leaves_them_as_they_were(tmp_path):
    async with running(tmp_path, 1) as w:
        rounds = await course_of(w)
        await rounds.begin()
        drawn = rounds.networks["c0"]
        given = drawn.with_state(replace(drawn.state, params=drawn.state.params + 1))
        rounds.networks["c0"] = given
        before = given.state.params.copy()
        await rounds.run(partial(advance, rounds, 1))
        assert np.array_equal(given.state.params, before)
        assert not np.array_equal(rounds.networks["c0"].state.params, before)


async def test_what_is_released_is_forgotten_by_the_nodes(tmp_path):
    services = []

    def make(spec):
        services.append((spec.slot, LinearService()))
        return services[-1][1]

    async with running(tmp_path, 2, service=make) as w:
        await whole(await course_of(w))
        members = [service for slot, service in services if slot in w.slots.names()]
        kept = {key.partition(":")[0] for service in members for key in service.regions}
        assert not kept & {"shard", "publish", "base"}


async def test_a_try_that_fails_is_tried_again_so_often_and_no_more(tmp_path):
    tries = []

    async def failing():
        tries.append(1)
        raise NoWorkers("nobody", hint="deploy")

    async with running(tmp_path, 1, ports=REAL_PORTS) as w:
        rounds = await course_of(w)
        with pytest.raises(NoWorkers, match="nobody"):
            await rounds.run(failing)
        assert len(tries) == REAL_PORTS.patience.attempts


async def test_a_worker_that_is_lost_in_a_round_is_done_without(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 2, faults=faults) as w:
        rounds = await course_of(w)
        await rounds.begin()
        await w.kill("worker-1")
        await rounds.run(partial(advance, rounds, 1))
        assert [slot.name for slot, _ in rounds.members()] == ["worker-0"]
