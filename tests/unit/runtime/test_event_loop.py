"""A thread that asks an event loop for something never outlives it."""

import asyncio  # noqa: TID251 - anyio cannot stop a loop without closing it
import threading

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from flow_nexus_neural.runtime import event_loop as module
from flow_nexus_neural.runtime.event_loop import answered, soon
from tests.doubles.limits import HANG_S

pytestmark = pytest.mark.anyio


async def test_a_thread_is_answered_by_the_loop_with_the_result_or_the_error():
    token, here = anyio.lowlevel.current_token(), threading.get_ident()
    ask = anyio.to_thread.run_sync
    assert await ask(answered, token, threading.get_ident) == here
    assert await ask(answered, token, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await ask(answered, token, divmod, 7, 0)


async def test_whoever_does_not_wait_is_heard_too():
    heard = anyio.Event()
    await anyio.to_thread.run_sync(soon, anyio.lowlevel.current_token(), heard.set)
    with anyio.fail_after(HANG_S):
        await heard.wait()


def test_a_thread_that_waits_for_a_loop_that_has_stopped_ends_when_it_is_closed(monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.001)
    loop, refused = asyncio.new_event_loop(), []

    async def token():
        return anyio.lowlevel.current_token()

    stopped = loop.run_until_complete(token())

    def ask():
        try:
            answered(stopped, divmod, 7, 2)
        except RuntimeError as failure:
            refused.append(failure)

    thread = threading.Thread(target=ask)
    thread.start()
    loop.close()
    thread.join(HANG_S)
    assert not thread.is_alive()
    assert len(refused) == 1
    with pytest.raises(RuntimeError):
        soon(stopped, print)
