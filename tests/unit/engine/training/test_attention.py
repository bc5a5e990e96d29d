"""A training waits until autonomy has seen what happened; never for longer than that, and for nobody."""

import anyio
import pytest

from flow_nexus_neural.engine.training.attention import attended
from tests.unit.engine.building import cluster_state, live

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_where_nobody_looks_nobody_is_waited_for():
    assert not await attended(live(cluster_state()))


async def test_a_look_that_is_over_ends_the_waiting_and_an_older_one_does_not():
    made, done = live(cluster_state()), []
    made.state.autonomy.note_seen(0)
    made.changed()

    async def wait():
        done.append(await attended(made))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        made.looked.bump()
        await anyio.wait_all_tasks_blocked()
        assert done == []
        made.state.autonomy.note_seen(1)
        made.looked.bump()
    assert done == [True]


async def test_nobody_is_waited_for_any_more_once_nobody_looks():
    made = live(cluster_state())
    made.state.autonomy.note_seen(0)
    made.changed()
    async with anyio.create_task_group() as group:
        group.start_soon(attended, made)
        await anyio.wait_all_tasks_blocked()
        made.state.autonomy.note_seen(None)
        made.looked.bump()
