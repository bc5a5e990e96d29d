"""Calls from a thread into an event loop that may be ending.

A loop that has stopped but is not yet closed still takes calls and answers none: a thread that waited then
would hang for ever, and the interpreter waits for its threads before it ends.
"""

import concurrent.futures
from collections.abc import Callable
from typing import Any, Final, TypeVar

import anyio.lowlevel

LOOK_S: Final = 1.0
"""How often a thread that waits looks whether the loop is still there."""

T = TypeVar("T")


def soon(event_loop: anyio.lowlevel.EventLoopToken, function: Callable[[], object]) -> None:
    """Have the event loop call the function, from any thread, without waiting for it.

    Raises:
        RuntimeError: The loop is closed.
    """
    native: Any = event_loop.native_token
    asyncio = hasattr(native, "call_soon_threadsafe")
    (native.call_soon_threadsafe if asyncio else native.run_sync_soon)(function)


def answered(
    event_loop: anyio.lowlevel.EventLoopToken, function: Callable[..., T], *arguments: object
) -> T:
    """The function's result, called on the event loop while this thread waits.

    Raises:
        RuntimeError: The loop was closed meanwhile.
    """
    answer: concurrent.futures.Future[T] = concurrent.futures.Future()

    def call() -> None:
        try:
            answer.set_result(function(*arguments))
        except Exception as failure:  # noqa: BLE001 - raised in the thread that asked
            answer.set_exception(failure)

    soon(event_loop, call)
    while not concurrent.futures.wait([answer], timeout=LOOK_S).done:
        soon(event_loop, lambda: None)
    return answer.result()
