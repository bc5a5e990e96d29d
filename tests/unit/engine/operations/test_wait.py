import anyio
import pytest

from flow_nexus_neural.engine.operations.wait import wait_for_change
from flow_nexus_neural.engine.requests import StatusRequest
from flow_nexus_neural.errors import TrainingNotFound
from tests.doubles.limits import HANG_S
from tests.unit.engine.building import cluster_state, live, point, training


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def cluster(anyio_backend):
    return live(cluster_state(anyio.current_time))


def request(wait_seconds=20, **more):
    return StatusRequest(cluster_id="dnc_1", wait_seconds=wait_seconds, **more)


async def waited(cluster, asked, act, progress=None):
    """What a waiter gets for what happens while it waits."""
    result = []

    async def wait():
        result.append(await wait_for_change(cluster, asked, progress))

    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await act(result)
    return result[0]


async def test_without_patience_nothing_is_waited_for(cluster):
    assert await wait_for_change(cluster, request(0), None) == (False, False)


async def test_the_end_of_nothing_is_not_waited_for(cluster):
    assert await wait_for_change(cluster, request(until="done"), None) == (False, False)
    cluster.state.trainings.append(training(status="completed"))
    asked = request(until="done", training_id="trn_1")
    cluster.state.preparing = True  # another one is being prepared; the asked one has ended
    assert await wait_for_change(cluster, asked, None) == (False, False)


async def test_a_change_ends_the_wait_at_once(cluster):
    async def act(result):
        assert result == []
        cluster.changes.bump()

    assert await waited(cluster, request(), act) == (True, False)


async def test_changes_that_are_no_end_do_not_end_the_wait_for_the_end(cluster):
    cluster.state.trainings.append(training())
    cluster.state.preparing = True

    async def act(result):
        for _ in range(3):
            cluster.changes.bump()
            await anyio.wait_all_tasks_blocked()
        assert result == []
        cluster.state.preparing = False
        cluster.changes.bump()

    assert await waited(cluster, request(until="done"), act) == (True, False)


async def test_a_wait_that_runs_out_says_so_and_whether_anything_happened(cluster):
    assert await wait_for_change(cluster, request(0.01), None) == (False, True)
    cluster.state.trainings.append(training())
    cluster.state.preparing = True

    async def act(result):
        cluster.changes.bump()

    assert await waited(cluster, request(0.2, until="done"), act) == (True, True)


async def test_an_unknown_training_is_refused_before_any_wait(cluster):
    with anyio.CancelScope() as scope:
        scope.cancel()  # from here on whatever waits is given up
        with pytest.raises(TrainingNotFound, match="it has none"):
            await wait_for_change(cluster, request(25, training_id="trn_9"), None)
    assert not scope.cancelled_caught


async def test_a_waiter_is_told_the_rounds_their_loss_and_the_time_left_once_a_round_was_timed(
    cluster,
):
    told = []

    async def progress(done, total, message):
        told.append((done, total, message))

    cluster.state.trainings.append(training())
    cluster.state.preparing = True

    async def act(result):
        for number in (1, 2):
            made = cluster.state.trainings[0]
            done = point(number, val_loss=0.5 / number)
            made.commit_round(made.advance.after(done, 1, "d"), done, 2.0)
            cluster.changes.bump()
            await anyio.wait_all_tasks_blocked()
        cluster.state.preparing = False
        cluster.changes.bump()

    await waited(cluster, request(until="done"), act, progress)
    assert told[:3] == [
        (0, 10, "round 0/10"),
        (1, 10, "round 1/10 loss 0.500 about 18 s left"),
        (2, 10, "round 2/10 loss 0.250 about 16 s left"),
    ]
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
