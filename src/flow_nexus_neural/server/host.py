"""Opens the engine at the first tool call, and keeps it open until the server stops.

Listing the tools must neither import numpy and the engine nor lock the state directory. The first call opens
the engine; concurrent calls wait for the same opening. If opening fails (for example because another server
holds the state directory), every waiting caller gets the error, and the next call tries again.
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from flow_nexus_neural.engine.surface import EngineSurface
from flow_nexus_neural.errors import NeuralError, ShuttingDown
from flow_nexus_neural.server.errors import known_error

if TYPE_CHECKING:
    from flow_nexus_neural.server.stored_answers import StoredAnswers

OpenEngine = Callable[[], AbstractAsyncContextManager[EngineSurface]]
Listener = Callable[[str], None]
Companion = Callable[[], Coroutine[Any, Any, None]]


class _Opening:
    """One attempt to open the engine, for which callers wait."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.engine: EngineSurface | None = None
        self.error: NeuralError | None = None


class EngineHost:
    """Opens the engine on demand and closes it once.

    The engine owns a task group, which must be entered and exited by the same task. That is the task of
    `running`, not the one of a tool call.

    Args:
        open_engine: Returns the engine's context manager; the engine is imported inside this function.
        stored: Answers what can be read while another server has the state directory; None for nothing.
    """

    def __init__(self, open_engine: OpenEngine, stored: "StoredAnswers | None" = None) -> None:
        self._open_engine = open_engine
        self.stored = stored
        self._opening: _Opening | None = None
        self._wanted = anyio.Event()
        self._stopping: anyio.Event | None = None
        self._listeners: list[Listener] = []
        self._companions: list[Companion] = []

    def on_change(self, listener: Listener) -> None:
        """Call `listener(cluster_id)` for every change, whenever the engine is open."""
        self._listeners.append(listener)

    def beside(self, companion: Companion) -> None:
        """Run a task as long as the host runs; it is cancelled when the host stops."""
        self._companions.append(companion)

    @property
    def loaded(self) -> EngineSurface | None:
        """The engine if it is open; never opens it."""
        return None if self._opening is None else self._opening.engine

    async def engine(self) -> EngineSurface:
        """The open engine; the first call opens it.

        Raises:
            ShuttingDown: If the host is not running or is stopping.
            NeuralError: If the engine cannot be opened.
        """
        if self._stopping is None or self._stopping.is_set():
            raise ShuttingDown("the server is not running any more", hint="Start the server again")
        if self._opening is None:
            self._opening = _Opening()
            self._wanted.set()
        opening = self._opening
        await opening.done.wait()
        if opening.engine is None:
            raise opening.error or ShuttingDown(
                "the server stopped while it was starting its engine"
            )
        return opening.engine

    @asynccontextmanager
    async def running(self) -> AsyncIterator["EngineHost"]:
        """Serve `engine()` inside the block; after the block the engine is closed and no node is left."""
        self._stopping = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep, self._stopping)
            for companion in self._companions:
                tasks.start_soon(companion)
            try:
                yield self
            finally:
                self._stopping.set()
                self._wanted.set()  # wakes `_keep` if no tool was ever called
                tasks.cancel_scope.cancel()  # the companions; `_keep` is shielded and ends by itself

    async def _keep(self, stopping: anyio.Event) -> None:
        with anyio.CancelScope(
            shield=True
        ):  # cleaning up must not be cut short by a cancelled server
            while not stopping.is_set():
                await self._wanted.wait()
                self._wanted = anyio.Event()
                if self._opening is not None and not stopping.is_set():
                    await self._open_until(stopping, self._opening)

    async def _open_until(self, stopping: anyio.Event, opening: _Opening) -> None:
        """Keep the engine open until the host stops; if opening fails, the next call tries again."""
        try:
            async with self._open_engine() as engine:
                for listener in self._listeners:
                    engine.on_change(listener)
                opening.engine = engine
                opening.done.set()
                await stopping.wait()
        except Exception as failure:  # noqa: BLE001 - reported to the waiting callers, like any tool failure
            opening.error = known_error(failure, subject="opening the engine")
        finally:
            # Cleared before the waiting callers wake up, so that their next call starts a new attempt.
            self._opening = None
            opening.done.set()
