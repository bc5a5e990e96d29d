"""What the engine takes from outside: time, ids, threads, patience, and points at which tests make it fail.

A real server uses `REAL_PORTS`. A simulation passes others, so that a seed alone decides what happens.
"""

import math
import secrets
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from flow_nexus_neural.engine.patience import USUAL_PATIENCE, Patience
from flow_nexus_neural.runtime.event_loop import soon

T = TypeVar("T")

FailPoint = Callable[[str], None]
"""Called with the name of a point in a durable write; tests end the process or raise there."""


class Offload(Protocol):
    """Runs blocking work so that the event loop keeps answering."""

    def __call__(self, function: Callable[..., T], /, *arguments: object) -> Awaitable[T]:
        """The function's result. Once begun it is carried out, also when the caller is cancelled."""
        ...


def in_threads(n_threads: int) -> Offload:
    """Run work in worker threads, at most so many at one time."""
    limiter = anyio.CapacityLimiter(n_threads)

    async def offload(function: Callable[..., T], /, *arguments: object) -> T:
        return await anyio.to_thread.run_sync(function, *arguments, limiter=limiter)

    return offload


def in_abandonable_threads(n_threads: int) -> Offload:
    """Run work that may hang, such as reading a file, in threads of their own, at most so many at one time.

    A cancelled caller goes on at once. The thread that it leaves behind keeps its place until it ends, so
    that there are never more of them, however many calls hang.
    """
    places = anyio.Semaphore(n_threads)
    unlimited = anyio.CapacityLimiter(math.inf)  # the places are the limit

    async def offload(function: Callable[..., T], /, *arguments: object) -> T:
        await places.acquire()
        event_loop = anyio.lowlevel.current_token()
        begun = threading.Lock()  # taken by the thread, or by a caller that is cancelled before

        def work() -> T:
            if not begun.acquire(blocking=False):
                raise anyio.ClosedResourceError
            try:
                return function(*arguments)
            finally:
                with suppress(RuntimeError):  # the event loop may be closed by now
                    soon(event_loop, places.release)  # whoever waited for it could hang

        try:
            return await anyio.to_thread.run_sync(work, limiter=unlimited, abandon_on_cancel=True)
        finally:
            if begun.acquire(blocking=False):
                places.release()

    return offload


def inline(_n_threads: int) -> Offload:
    """Run work on the event loop itself, for schedules that a seed decides."""

    async def offload(function: Callable[..., T], /, *arguments: object) -> T:
        await anyio.lowlevel.checkpoint()
        return function(*arguments)

    return offload


def nothing_fails(_point: str) -> None:
    """The fail point of every real server."""


def system_timestamp() -> str:
    """Now, as ISO 8601 in UTC to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def loop_time() -> float:
    """Seconds of the event loop's clock, also in its worker threads, which cannot read it."""
    try:
        return anyio.current_time()
    except RuntimeError:  # no event loop runs in this thread
        return anyio.from_thread.run_sync(anyio.current_time)


@dataclass(frozen=True)
class Ports:
    """The outside world as the engine uses it.

    Attributes:
        clock: Seconds of a monotonic clock. Waiting (`anyio.sleep`, deadlines) follows the event loop's
            clock, which must be the same one.
        timestamp: Now, as ISO 8601 in UTC, for people.
        random_bits: A non-negative integer of so many random bits, for ids and tokens.
        offload: Makes a place for blocking work with so many threads.
        offload_data: The same for work that may hang and is then left behind.
        fail_point: Called at every point of a durable write.
        patience: How long the engine waits for nodes.
    """

    clock: Callable[[], float] = loop_time
    timestamp: Callable[[], str] = system_timestamp
    random_bits: Callable[[int], int] = secrets.randbits
    offload: Callable[[int], Offload] = in_threads
    offload_data: Callable[[int], Offload] = in_abandonable_threads
    fail_point: FailPoint = nothing_fails
    patience: Patience = USUAL_PATIENCE

    def new_id(self, prefix: str) -> str:
        """A fresh id such as `dnc_4f1c09a7be21`."""
        return f"{prefix}_{self.random_bits(48):012x}"


REAL_PORTS = Ports()
