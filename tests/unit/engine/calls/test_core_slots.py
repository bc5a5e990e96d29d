"""Turns to train: never more than places, in order, and nobody keeps one for ever."""

import anyio
import pytest

from flow_nexus_neural.engine.calls.core_slots import TrainingTurns, patience
from tests.doubles.limits import HANG_S

pytestmark = pytest.mark.anyio


async def test_no_more_train_at_one_time_than_there_are_places():
    turns, now, most, order = TrainingTurns(2), 0, 0, []

    async def train(number):
        nonlocal now, most
        turn = await turns.take()
        now, most = now + 1, max(most, now + 1)
        order.append(number)
        await anyio.lowlevel.checkpoint()
        now -= 1
        turn.give_back()

    async with anyio.create_task_group() as group:
        for number in range(7):
            group.start_soon(train, number)
    assert (most, sorted(order)) == (2, list(range(7)))


async def test_a_frozen_holder_lets_the_next_one_in_when_its_patience_ends():
    turns = TrainingTurns(1)
    frozen = await turns.take()
    async with anyio.create_task_group() as group:
        group.start_soon(frozen.give_back_after, 0.01)
        with anyio.fail_after(HANG_S):
            following = await turns.take()
    following.give_back()


async def test_giving_a_place_back_twice_makes_no_second_place():
    turns = TrainingTurns(1)
    first = await turns.take()
    first.give_back()
    first.give_back()
    await turns.take()
    with anyio.move_on_after(0.05) as waited:
        await turns.take()
    assert waited.cancelled_caught


async def test_whoever_gives_up_waiting_holds_no_place():
    turns = TrainingTurns(1)
    holder = await turns.take()
    with anyio.move_on_after(0.01):
        await turns.take()
    holder.give_back()
    with anyio.fail_after(HANG_S):
        await turns.take()


def test_patience_follows_what_the_past_predicts():
    assert patience([]) == 5.0
    assert patience([0.1, 0.2, 0.3]) == 2.0
    assert patience([2.0, 3.0, 4.0]) == 9.0
