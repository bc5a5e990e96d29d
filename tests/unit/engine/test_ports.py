"""Work that hangs costs its caller, never the others."""

import asyncio  # noqa: TID251 - anyio cannot stop a loop without closing it
import threading

import anyio
import pytest

from flow_nexus_neural.engine.ports import in_abandonable_threads, in_threads
from tests.doubles.limits import HANG_S


@pytest.fixture
def hung():
    """An event on which threads hang; they go on when the test is over."""
    event = threading.Event()
    yield event
    event.set()


async def test_results_and_errors_come_back():
    offload = in_abandonable_threads(1)
    assert await offload(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await offload(divmod, 7, 0)
    assert await offload(divmod, 9, 2) == (4, 1)


async def test_a_caller_that_gives_up_leaves_a_hung_thread_behind(hung):
    offload = in_abandonable_threads(1)
    begun = threading.Event()

    def hang() -> None:
        begun.set()
        hung.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(offload, hang)
        await in_threads(1)(begun.wait)
        tasks.cancel_scope.cancel()  # with a thread that cannot be left, this would never end
    assert not hung.is_set()


async def test_hung_threads_keep_their_places_until_they_end(hung):
    offload = in_abandonable_threads(2)
    begun = [threading.Event(), threading.Event()]

    def hang(number: int) -> None:
        begun[number].set()
        hung.wait()

    async with anyio.create_task_group() as tasks:
        for number in range(2):
            tasks.start_soon(offload, hang, number)
        for event in begun:
            await in_threads(1)(event.wait)
        tasks.cancel_scope.cancel()
    ran = []
    with anyio.move_on_after(0.05):
        await offload(ran.append, 1)
    assert ran == []
    hung.set()
    await offload(ran.append, 2)
    assert ran == [2]


async def test_a_caller_that_gives_up_before_its_turn_takes_no_place(hung):
    offload = in_abandonable_threads(1)
    for _ in range(3):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await offload(hung.wait)
    assert await offload(divmod, 7, 2) == (3, 1)


def test_a_thread_left_behind_ends_although_the_event_loop_has_stopped_without_being_closed(hung):
    """The interpreter waits for such threads at its exit."""
    offload = in_abandonable_threads(1)
    begun = threading.Event()
    threads = []

    def hang() -> None:
        threads.append(threading.current_thread())
        begun.set()
        hung.wait()

    async def give_up() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(offload, hang)
            await in_threads(1)(begun.wait)
            tasks.cancel_scope.cancel()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(give_up())
    try:
        hung.set()
        threads[0].join(HANG_S)
        assert not threads[0].is_alive()
    finally:
        loop.close()
