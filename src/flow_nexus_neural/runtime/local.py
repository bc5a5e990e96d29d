"""Nodes as confined processes on this machine: the default runtime.

Use it as a context manager: its tasks live inside, and none outlives the block. They are shielded from
cancellation and end because what they watch ends, so a cancelled caller can lose neither node nor descriptor:

    async with LocalRuntime(settings, ZygoteProcess.launch()) as runtime:
        node = await runtime.start(spec)

The thread of the event loop must be the process's main thread (see `zygote_process`).
"""

import logging
import os
import resource
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Final, Self

import anyio
from anyio.abc import TaskGroup

from flow_nexus_neural.errors import NodeStartFailed, RuntimeUnavailable
from flow_nexus_neural.protocol.codec import MAX_BODY_BYTES, FrameLimits
from flow_nexus_neural.protocol.dispatch import Arrays
from flow_nexus_neural.runtime.base import Buffer, Isolation, NodeSpec, Region
from flow_nexus_neural.runtime.cgroups import GroupLimits, NodeGroup
from flow_nexus_neural.runtime.exits import with_last_words
from flow_nexus_neural.runtime.isolation import judge, platform_name, with_group
from flow_nexus_neural.runtime.kernel_memory import OutOfMemoryKills
from flow_nexus_neural.runtime.local_node import Lines, LocalNode
from flow_nexus_neural.runtime.memory import (
    MEMORY_FILES,
    CarriedBuffer,
    CarriedRegion,
    MemoryBuffer,
    MemoryRegion,
    view_of,
)
from flow_nexus_neural.runtime.orders import CARRIED_BODY_BYTES, order_of
from flow_nexus_neural.runtime.readiness import late, until_ready
from flow_nexus_neural.runtime.zygote_client import ZygoteClient, ZygoteInfo
from flow_nexus_neural.runtime.zygote_process import ZygoteProcess
from flow_nexus_neural.settings import Settings

_LOG: Final = logging.getLogger(__name__)
_BOOT_TIMEOUT_S: Final = 120.0
_HUNG_ZYGOTE_S: Final = 10.0
_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_BACKOFF_WINDOW_S: Final = 600.0
_REMOVAL_S: Final = 0.5
_REMOVAL_PAUSE_S: Final = 0.005
_DESCRIPTORS: Final = 1 << 16


class LocalRuntime:
    """Forks nodes from one warm zygote, and starts a new zygote when it died.

    Args:
        settings: What one node and all together may use, and whether a weaker node is refused.
        zygote: One that the main thread has already launched; None launches it on entry.
        launch: Starts a replacement.
        shared_memory: False makes arrays travel inside frames, as on systems without memory files.
    """

    name = "local"

    def __init__(
        self,
        settings: Settings,
        zygote: ZygoteProcess | None = None,
        *,
        launch: Callable[[], ZygoteProcess] = ZygoteProcess.launch,
        shared_memory: bool = MEMORY_FILES,
    ) -> None:
        self.capabilities = frozenset(
            {"sandbox", "shared_memory"} if shared_memory else {"sandbox"}
        )
        self._settings = settings
        self._first = zygote
        self._launch = launch
        self._shared_memory = shared_memory
        self._limits = FrameLimits(
            body_bytes=MAX_BODY_BYTES if shared_memory else CARRIED_BODY_BYTES
        )
        self._tasks: TaskGroup | None = None
        self._zygote: ZygoteClient | None = None
        self._launching = anyio.Lock()
        self._launches: deque[float] = deque()
        self._nodes: set[LocalNode] = set()
        self._closed = False
        self._last_isolation: Isolation | None = None
        self._group: NodeGroup | None = None
        self._grouping = anyio.Lock()
        self._memory_kills = OutOfMemoryKills()

    async def __aenter__(self) -> Self:
        _raise_descriptor_limit()
        self._tasks = await anyio.create_task_group().__aenter__()
        with suppress(RuntimeUnavailable):  # told to whoever wants a node; the rest works without
            self._adopt(self._first or self._launch())
        self._first = None
        return self

    async def _gather(self, zygote: ZygoteClient) -> None:
        """Before its first fork: put the zygote, and so every node, behind us and into one group."""
        async with self._grouping:
            if zygote.grouped:
                return
            zygote.grouped = True
            await anyio.to_thread.run_sync(self._gather_blocking, zygote)

    def _gather_blocking(self, zygote: ZygoteClient) -> None:
        zygote.stand_back(self._settings.node_nice)
        if not self._settings.cgroup:
            return
        if self._group is None:
            limits = GroupLimits(
                memory_mb=self._settings.total_memory_mb,
                nodes=self._settings.max_clusters * self._settings.max_nodes,
            )
            self._group = NodeGroup.create(limits, ours=(os.getpid(), zygote.pid))
            if self._group is not None:
                self._memory_kills = OutOfMemoryKills(self._group.kill_counters)
        if self._group is None:
            return
        try:
            self._group.add(zygote.pid)
        except OSError as refusal:  # its nodes' reports then say that nothing limits them together
            _LOG.warning("zygote %d is in no control group: %s", zygote.pid, refusal)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        await self.aclose()
        if self._tasks is None:
            return None
        return await self._tasks.__aexit__(kind, failure, trace)

    async def start(self, spec: NodeSpec, *, ready_timeout_s: float = 30.0) -> LocalNode:
        """Fork, confine and judge a node; see `base.NodeRuntime`."""
        zygote = await self._warm_zygote()
        try:
            return await self._start(zygote, spec, ready_timeout_s)
        except RuntimeUnavailable:
            zygote.kill()  # it died under this very request, which cannot have done anything
            await zygote.lost.wait()
        return await self._start(await self._warm_zygote(), spec, ready_timeout_s)

    def share(self, key: str, arrays: Arrays) -> Region:
        """Write arrays once into a sealed region; see `base.NodeRuntime`."""
        return MemoryRegion.of(key, arrays) if self._shared_memory else CarriedRegion(key, arrays)

    def buffer(self, key: str, layout: Sequence[tuple[str, str, tuple[int, ...]]]) -> Buffer:
        """Make a zeroed buffer of (name, dtype, shape) arrays."""
        return MemoryBuffer.of(key, layout) if self._shared_memory else CarriedBuffer(key, layout)

    def view(self, buffer: Buffer) -> Region:
        """Let a neighbour of a buffer's writer read it; see `base.NodeRuntime`."""
        return view_of(buffer)

    def zygote_info(self) -> ZygoteInfo | None:
        """Of the process that starts nodes; None while it is not warm."""
        return None if self._zygote is None else self._zygote.info()

    def isolation_preview(self) -> Isolation:
        """What nodes will get: what the last one got; `unknown` before the first."""
        return self._last_isolation or Isolation(
            level="unknown", layers={"platform": platform_name()}
        )

    async def aclose(self) -> None:
        """Stop every node in whatever state, then the zygote. Idempotent; runs to its end when cancelled."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as stopping:
                for node in tuple(self._nodes):
                    stopping.start_soon(_stop, node)
            zygote, first = self._zygote, self._first
            if first is not None:
                self._first = None
                first.close()
            if zygote is not None:
                zygote.kill()
                await zygote.lost.wait()
            for node in tuple(self._nodes):  # forked while the others stopped
                await node.wait_exit()
            self._nodes.clear()
            if self._group is not None:
                with anyio.move_on_after(_REMOVAL_S):
                    while not self._group.close():  # noqa: ASYNC110  # the kernel sets no event
                        await anyio.sleep(_REMOVAL_PAUSE_S)

    async def _warm_zygote(self) -> ZygoteClient:
        async with self._launching:
            if self._closed or self._tasks is None:
                raise RuntimeUnavailable("the runtime is not open")
            if self._zygote is None or self._zygote.lost.is_set():
                await self._relaunch()
            zygote = self._zygote
        if zygote is None:
            raise RuntimeUnavailable("the runtime is not open")
        patience_s = zygote.launched_s + _BOOT_TIMEOUT_S - time.monotonic()
        with anyio.move_on_after(max(patience_s, 0.0)):
            await zygote.warm.wait()
        if not zygote.warm.is_set():
            zygote.kill()
        if zygote.info() is None:
            raise RuntimeUnavailable(
                with_last_words(
                    f"the process that starts nodes (pid {zygote.pid}) did not come up",
                    zygote.stderr_tail,
                ),
                hint="run `flow-nexus-neural doctor` to see what its libraries say",
                details={"stderr_tail": zygote.stderr_tail},
            )
        await self._gather(zygote)
        return zygote

    async def _relaunch(self) -> None:
        now = time.monotonic()
        while self._launches and self._launches[0] < now - _BACKOFF_WINDOW_S:
            self._launches.popleft()
        if len(self._launches) >= len(_BACKOFF_S):
            raise RuntimeUnavailable(
                with_last_words(
                    f"the process that starts nodes died {len(self._launches)} times"
                    f" within {_BACKOFF_WINDOW_S:g} s",
                    "" if self._zygote is None else self._zygote.stderr_tail,
                ),
                hint="run `flow-nexus-neural doctor` to see why",
                details={"stderr_tail": "" if self._zygote is None else self._zygote.stderr_tail},
            )
        await anyio.sleep(_BACKOFF_S[len(self._launches)])
        if not self._closed:
            self._adopt(self._launch())
            self._launches.append(time.monotonic())

    async def _start(
        self, zygote: ZygoteClient, spec: NodeSpec, ready_timeout_s: float
    ) -> LocalNode:
        deadline = anyio.current_time() + ready_timeout_s
        node: LocalNode | None = None
        with anyio.CancelScope(deadline=deadline):
            node = await self._fork(zygote, spec)
        if node is None:
            if zygote.owes_a_fork_for_s() >= _HUNG_ZYGOTE_S:
                zygote.kill()  # it forks within milliseconds, or never again
            raise late(spec, ready_timeout_s)
        await until_ready(node, self._judge, deadline, ready_timeout_s)
        return node

    async def _judge(self, node: LocalNode) -> None:
        ready = await node.ready()
        node.runtime_version = ready.runtime
        found = judge(
            node.pid,
            ready.steps,
            ready.probes,
            self._settings.require_isolation,
            hostile=self._settings.hostile,
        )
        node.isolation = with_group(
            found, None if self._group is None else self._group.limits_on(node.pid)
        )
        node.note_ready()
        self._last_isolation = node.isolation

    async def _fork(self, zygote: ZygoteClient, spec: NodeSpec) -> LocalNode:
        with ExitStack() as theirs, ExitStack() as ours:
            try:
                connection, node_socket = socket.socketpair()
                ours.callback(connection.close)
                theirs.callback(node_socket.close)
                stderr, node_stderr = os.pipe()
            except OSError as failure:
                raise NodeStartFailed(
                    f"no descriptors for node {spec.slot}: {failure}"
                ) from failure
            ours.callback(os.close, stderr)
            theirs.callback(os.close, node_stderr)
            connection.settimeout(0)
            child = await zygote.fork(
                order_of(spec, self._settings, self._limits), (node_socket.fileno(), node_stderr)
            )
            ours.pop_all()
        lines = Lines(child, connection, stderr)
        node = LocalNode(spec, self._limits, lines, self._memory_kills.claim)
        self._nodes = {other for other in self._nodes if not other.gone}
        self._nodes.add(node)
        self._spawn(node.run)
        return node

    def _adopt(self, process: ZygoteProcess) -> None:
        self._zygote = ZygoteClient(process)
        self._spawn(self._zygote.run)

    def _spawn(self, run: Callable[[], Awaitable[None]]) -> None:
        if self._tasks is None:
            raise RuntimeUnavailable("the runtime is not open")
        self._tasks.start_soon(_to_its_end, run)


async def _to_its_end(run: Callable[[], Awaitable[None]]) -> None:
    with anyio.CancelScope(shield=True):
        await run()


async def _stop(node: LocalNode) -> None:
    await node.stop()


def _raise_descriptor_limit() -> None:
    """A node costs four descriptors here, a region one; the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
