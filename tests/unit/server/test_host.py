"""The engine is opened once, on demand, and closed once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from flow_nexus_neural.errors import InternalError, ShuttingDown, StateDirLocked
from flow_nexus_neural.server.host import EngineHost
from tests.doubles.engine_double import EngineDouble
from tests.doubles.limits import HANG_S


class Openings:
    """Counts what happens to engines, and can refuse or delay an opening."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.refuse_with: list[Exception] = []
        self.gate: anyio.Event | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[EngineDouble]:
        if self.gate is not None:
            await self.gate.wait()
        if self.refuse_with:
            raise self.refuse_with.pop(0)
        self.opened += 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            try:
                yield EngineDouble()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.lowlevel.checkpoint()
                self.closed += 1
                tasks.cancel_scope.cancel()


async def test_no_engine_is_opened_until_somebody_asks():
    openings = Openings()
    async with EngineHost(openings.open).running() as host:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert host.loaded is None
    assert openings.opened == 0


async def test_concurrent_first_calls_wait_for_one_opening():
    openings = Openings()
    openings.gate = anyio.Event()
    engines = []

    async with EngineHost(openings.open).running() as host:

        async def ask() -> None:
            engines.append(await host.engine())

        with anyio.fail_after(HANG_S):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(ask)
                openings.gate.set()
        assert host.loaded is engines[0]
        assert await host.engine() is engines[0]
    assert (openings.opened, openings.closed) == (1, 1)
    assert len(engines) == 10
    assert len(set(map(id, engines))) == 1


async def test_a_refused_opening_is_told_to_every_waiting_caller_and_the_next_call_tries_again():
    openings = Openings()
    openings.gate = anyio.Event()
    openings.refuse_with = [StateDirLocked("held by pid 7")]
    refusals = []

    async with EngineHost(openings.open).running() as host:

        async def ask() -> None:
            with pytest.raises(StateDirLocked) as caught:
                await host.engine()
            refusals.append(caught.value)

        with anyio.fail_after(HANG_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                tasks.start_soon(ask)
                await anyio.lowlevel.checkpoint()
                openings.gate.set()
            assert await host.engine() is host.loaded
    assert len(refusals) == 2
    assert (openings.opened, openings.closed) == (1, 1)


async def test_an_error_in_a_group_of_one_is_told_as_itself():
    openings = Openings()
    openings.refuse_with = [
        ExceptionGroup("tasks", [ExceptionGroup("more", [StateDirLocked("pid 7")])])
    ]
    async with EngineHost(openings.open).running() as host:
        with anyio.fail_after(HANG_S), pytest.raises(StateDirLocked):
            await host.engine()


async def test_an_unexpected_failure_of_the_opening_becomes_an_incident():
    openings = Openings()
    openings.refuse_with = [ImportError("no module named secret")]
    async with EngineHost(openings.open).running() as host:
        with anyio.fail_after(HANG_S), pytest.raises(InternalError) as caught:
            await host.engine()
    assert "secret" not in caught.value.message


async def test_an_engine_that_breaks_is_replaced_at_the_next_call():
    broken = anyio.Event()
    opened = []

    @asynccontextmanager
    async def open_fragile() -> AsyncIterator[EngineDouble]:
        engine = EngineDouble()
        opened.append(engine)

        async def break_down() -> None:
            await broken.wait()
            raise RuntimeError("a task of the engine failed")

        async with anyio.create_task_group() as tasks:
            if len(opened) == 1:
                tasks.start_soon(break_down)
            yield engine
            tasks.cancel_scope.cancel()

    async with EngineHost(open_fragile).running() as host:
        with anyio.fail_after(HANG_S):
            assert await host.engine() is opened[0]
            broken.set()
            while host.loaded is not None:
                await anyio.lowlevel.checkpoint()
            assert await host.engine() is opened[1]


async def test_the_engine_is_closed_to_its_end_even_if_the_host_is_cancelled():
    openings = Openings()
    with anyio.CancelScope() as scope:
        async with EngineHost(openings.open).running() as host:
            await host.engine()
            scope.cancel()
            await anyio.sleep_forever()
    assert (openings.opened, openings.closed) == (1, 1)


async def test_a_caller_that_gives_up_does_not_harm_the_opening():
    openings = Openings()
    openings.gate = anyio.Event()
    async with EngineHost(openings.open).running() as host:
        with anyio.move_on_after(0):
            await host.engine()
        openings.gate.set()
        with anyio.fail_after(HANG_S):
            await host.engine()
    assert openings.opened == 1


async def test_before_and_after_running_a_call_is_refused():
    host = EngineHost(Openings().open)
    with pytest.raises(ShuttingDown):
        await host.engine()
    async with host.running():
        pass
    with pytest.raises(ShuttingDown):
        await host.engine()


async def test_listeners_hear_of_changes_from_the_first_opening_on():
    openings = Openings()
    heard: list[str] = []
    host = EngineHost(openings.open)
    host.on_change(heard.append)
    async with host.running():
        engine = await host.engine()
        for listener in engine.listeners:
            listener("dnc_1")
    assert heard == ["dnc_1"]


async def test_a_companion_runs_beside_the_host_and_ends_with_it():
    ended = []
    started = anyio.Event()

    async def companion() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    host = EngineHost(Openings().open)
    host.beside(companion)
    with anyio.fail_after(HANG_S):
        async with host.running():
            await started.wait()
    assert ended == [True]
