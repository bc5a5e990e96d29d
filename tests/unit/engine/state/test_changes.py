"""Waiting for a change: all are woken, none for nothing, and no change between two looks is missed."""

import anyio
import pytest

from flow_nexus_neural.engine.state.changes import Changes
from tests.doubles.limits import HANG_S

pytestmark = pytest.mark.anyio


async def test_a_change_that_came_before_the_wait_is_not_missed():
    changes = Changes()
    seen = changes.count
    changes.bump()
    with anyio.fail_after(HANG_S):
        await changes.wait_beyond(seen)


async def test_one_change_wakes_every_waiter():
    changes, woken = Changes(), []

    async def wait(name):
        await changes.wait_beyond(0)
        woken.append(name)

    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(wait, name)
            await anyio.wait_all_tasks_blocked()
            assert woken == []
            changes.bump()
    assert sorted(woken) == ["a", "b", "c"]


async def test_who_has_seen_more_than_there_is_sleeps_on_through_the_changes_before():
    changes, woken = Changes(), []

    async def wait():
        await changes.wait_beyond(2)
        woken.append(changes.count)

    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            for _ in range(2):
                changes.bump()
                await anyio.wait_all_tasks_blocked()
                assert woken == []
            changes.bump()
    assert woken == [3]


async def test_a_waiter_that_gives_up_does_not_take_the_others_with_it():
    changes, woken = Changes(), []

    async def wait():
        await changes.wait_beyond(0)
        woken.append(True)

    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            with anyio.move_on_after(0.01) as impatient:
                await changes.wait_beyond(0)
            assert impatient.cancelled_caught
            changes.bump()
    assert woken == [True]
