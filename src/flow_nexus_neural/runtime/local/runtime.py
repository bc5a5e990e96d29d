"""Nodes as confined processes on this machine: the default runtime.

Use it as a context manager:

    async with LocalRuntime(settings, ZygoteProcess.launch()) as runtime:
        node = await runtime.start(spec)

The thread of the event loop must be the process's main thread (see `zygote_process`).
"""

import logging
import math
import os
import resource
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Final, Self
from weakref import WeakValueDictionary

import anyio
from typing_extensions import override

from flow_nexus_neural.errors import NodeStartFailed, NodeUnavailable, RuntimeUnavailable
from flow_nexus_neural.protocol.codec import MAX_BODY_BYTES, FrameLimits
from flow_nexus_neural.runtime.base import Capabilities, NodeSpec
from flow_nexus_neural.runtime.connection.memory import MEMORY_FILES
from flow_nexus_neural.runtime.connection.readiness import isolation_of
from flow_nexus_neural.runtime.local.cgroups import GroupLimits, NodeGroup
from flow_nexus_neural.runtime.local.node import Lines, LocalNode
from flow_nexus_neural.runtime.local.shared_process import HostedNode, SharedProcess
from flow_nexus_neural.runtime.local.zygote_client import Child, ZygoteClient, ZygoteInfo
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.runtime.managed import ManagedRuntime, processors
from flow_nexus_neural.runtime.process.exits import with_last_words
from flow_nexus_neural.runtime.process.isolation import best_level, with_group
from flow_nexus_neural.runtime.process.kernel_memory import OutOfMemoryKills
from flow_nexus_neural.runtime.process.orders import CARRIED_BODY_BYTES, order_of
from flow_nexus_neural.settings import Settings

_LOG: Final = logging.getLogger(__name__)
_BOOT_TIMEOUT_S: Final = 120.0
_PING_EVERY_S: Final = 5.0
_FROZEN_S: Final = 5.0
_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_BACKOFF_WINDOW_S: Final = 600.0
_REMOVAL_S: Final = 0.5
_REMOVAL_PAUSE_S: Final = 0.005
_DESCRIPTORS: Final = 1 << 16


class LocalRuntime(ManagedRuntime[HostedNode | LocalNode]):
    """Forks nodes from one warm zygote, and starts a new zygote when it died or froze.

    The end of a zygote is the end of its nodes. So one that is frozen is left alone until its last node has
    ended, while a new one starts the others.

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
        super().__init__(
            Capabilities(
                places=processors(),
                isolation=best_level(),
                shared_memory=shared_memory,
                groups=shared_memory,
                peer_views=shared_memory,
                processes=True,
            )
        )
        self._settings = settings
        self._first = zygote
        self._launch = launch
        self._limits = FrameLimits(
            body_bytes=MAX_BODY_BYTES if shared_memory else CARRIED_BODY_BYTES
        )
        self._zygote: ZygoteClient | None = None
        self._retired: list[ZygoteClient] = []
        self._launching = anyio.Lock()
        self._launches: deque[float] = deque()
        self._group: NodeGroup | None = None
        self._grouping = anyio.Lock()
        self._memory_kills = OutOfMemoryKills()
        self._shared: dict[str, SharedProcess] = {}
        self._joining: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    @override
    async def __aenter__(self) -> Self:
        _raise_descriptor_limit()
        await super().__aenter__()
        with suppress(
            RuntimeUnavailable
        ):  # the first start of a node reports it; the rest works without
            self._adopt(self._first or self._launch())
        self._first = None
        return self

    async def _prepare_zygote(self, zygote: ZygoteClient) -> None:
        """Before the first fork: lower the zygote's priority and group it; its nodes inherit both."""
        async with self._grouping:
            if zygote.grouped:
                return
            zygote.grouped = True
            await anyio.to_thread.run_sync(self._prepare_zygote_blocking, zygote)

    def _prepare_zygote_blocking(self, zygote: ZygoteClient) -> None:
        zygote.set_session_nice(self._settings.node_nice)
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

    async def start(
        self, spec: NodeSpec, *, ready_timeout_s: float = 30.0
    ) -> HostedNode | LocalNode:
        """Fork, confine and judge a node; see `base.NodeRuntime`."""
        if spec.group is not None and self.capabilities.groups:
            turn = self._joining.setdefault(spec.group, anyio.Lock())
            async with turn:
                return await self._start_in_group(spec, spec.group, ready_timeout_s)
        return await self._start_forked(replace(spec, group=None, group_size=1), ready_timeout_s)

    async def _start_in_group(
        self, spec: NodeSpec, group: str, ready_timeout_s: float
    ) -> HostedNode | LocalNode:
        """Bring a node into the process of its group, or fork one for it; one at a time."""
        shared = self._shared.get(group)
        if shared is not None and shared.guide() is not None:
            try:
                return await self._bring_up(
                    partial(self._join, shared, spec), spec, ready_timeout_s
                )
            except NodeUnavailable:  # its last node has just left, or it has died: nothing was done
                self._shared.pop(group, None)
        return await self._start_forked(spec, ready_timeout_s)

    async def _start_forked(self, spec: NodeSpec, ready_timeout_s: float) -> HostedNode | LocalNode:
        zygote = await self._obedient_zygote()
        try:
            return await self._bring_up(partial(self._fork, zygote, spec), spec, ready_timeout_s)
        except RuntimeUnavailable:  # it died or froze under this very request, which did nothing
            if not zygote.retired:
                zygote.kill()
                await zygote.lost.wait()
        zygote = await self._obedient_zygote()
        return await self._bring_up(partial(self._fork, zygote, spec), spec, ready_timeout_s)

    def zygote_info(self) -> ZygoteInfo | None:
        """Of the process that starts nodes; None while it is not warm."""
        return None if self._zygote is None else self._zygote.info()

    @override
    async def _release(self) -> None:
        # The zygote ends only after its nodes: its death kills every node at once, and a node that is asked
        # to stop has a moment to end by itself. The group comes last: the kernel keeps it while anyone is in.
        first, self._first = self._first, None
        if first is not None:
            first.close()
        for zygote in [*self._retired, *filter(None, [self._zygote])]:
            zygote.kill()
            await zygote.lost.wait()
        for node in self.nodes:  # forked while the others stopped
            await node.wait_exit()
        if self._group is not None:
            with anyio.move_on_after(_REMOVAL_S):
                while not self._group.close():  # noqa: ASYNC110  # the kernel sets no event
                    await anyio.sleep(_REMOVAL_PAUSE_S)

    async def _obedient_zygote(self) -> ZygoteClient:
        """A zygote that has just shown that it obeys; one that does not is replaced."""
        zygote = await self._warm_zygote()
        if await zygote.obeys(_FROZEN_S):
            return zygote
        self._retire(zygote)
        return await self._warm_zygote()

    async def _watch(self, zygote: ZygoteClient) -> None:
        """Ping a zygote now and then: one that is frozen is found before somebody waits for it."""
        await zygote.warm.wait()
        while not (zygote.lost.is_set() or zygote.retired):
            with anyio.move_on_after(_PING_EVERY_S):
                await zygote.lost.wait()
            if not await zygote.obeys(_FROZEN_S):
                self._retire(zygote)

    def _retire(self, zygote: ZygoteClient) -> None:
        """Start no node with it any more; the next start launches another. Its nodes live on."""
        if zygote.lost.is_set() or zygote.retired:
            return
        if self._zygote is zygote:
            self._zygote = None
        self._retired = [other for other in self._retired if not other.lost.is_set()]
        self._retired.append(zygote)
        _LOG.warning(
            "the process that starts nodes (pid %d) has not answered for %g s and is replaced;"
            " the nodes that it started live on",
            zygote.pid,
            _FROZEN_S,
        )
        zygote.retire()

    async def _warm_zygote(self) -> ZygoteClient:
        async with self._launching:
            self._require_open()
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
                hint="call again: it is started anew; `flow-nexus-neural doctor` shows what its"
                " libraries say",
                details={"stderr_tail": zygote.stderr_tail},
            )
        await self._prepare_zygote(zygote)
        return zygote

    async def _relaunch(self) -> None:
        now = time.monotonic()
        while self._launches and self._launches[0] < now - _BACKOFF_WINDOW_S:
            self._launches.popleft()
        if len(self._launches) >= len(_BACKOFF_S):
            raise RuntimeUnavailable(
                with_last_words(
                    f"the process that starts nodes died or froze {len(self._launches)} times"
                    f" within {_BACKOFF_WINDOW_S:g} s",
                    "" if self._zygote is None else self._zygote.stderr_tail,
                ),
                hint=f"call again in {math.ceil(self._launches[0] + _BACKOFF_WINDOW_S - now)} s;"
                " `flow-nexus-neural doctor` shows what works on this machine",
                details={"stderr_tail": "" if self._zygote is None else self._zygote.stderr_tail},
            )
        await anyio.sleep(_BACKOFF_S[len(self._launches)])
        if not self._closed:
            self._adopt(self._launch())
            self._launches.append(time.monotonic())

    @override
    async def _measure(self, node: HostedNode | LocalNode) -> None:
        found = await isolation_of(node, self._settings)
        node.isolation = with_group(
            found, None if self._group is None else self._group.limits_on(node.pid)
        )
        if isinstance(node, HostedNode):
            node.process.tell_members()

    async def _join(self, shared: SharedProcess, spec: NodeSpec) -> HostedNode | LocalNode:
        """Have a process serve one more node.

        Raises:
            NodeUnavailable: It takes none any more.
        """
        guide = shared.guide()
        if guide is None:
            raise NodeUnavailable(f"the process that {spec.slot} was to share has ended")
        try:
            connection, node_socket = socket.socketpair()
        except OSError as failure:
            raise NodeStartFailed(f"no descriptors for node {spec.slot}: {failure}") from failure
        connection.settimeout(0)
        node = HostedNode(spec, self._limits, shared, connection)
        self._keep(node, node.run)
        with node_socket:
            try:
                await node.enter(guide, node_socket.fileno())
            except BaseException:  # also cancelled: nobody else has the connection
                node.abandon()
                raise
        return node

    async def _fork(self, zygote: ZygoteClient, spec: NodeSpec) -> HostedNode | LocalNode:
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
            order = order_of(spec, self._settings, self._limits)
            child = await zygote.fork(order, (node_socket.fileno(), node_stderr))
            ours.pop_all()
        if spec.group is not None:
            name, most = spec.group, spec.group_size
            shared = SharedProcess(name, most, child, stderr, self._memory_kills.claim)
            self._shared[name] = shared
            hosted = HostedNode(spec, self._limits, shared, connection)
            self._spawn(partial(self._serve_group, name, zygote, child, shared))
            self._keep(hosted, hosted.run)
            return hosted
        node = self._lone_node(spec, Lines(child, connection, stderr))
        self._keep(node, partial(_serve, zygote, child, node))
        return node

    def _lone_node(self, spec: NodeSpec, lines: Lines) -> LocalNode:
        """The engine's end of a node that has a process of its own."""
        return LocalNode(spec, self._limits, lines, self._memory_kills.claim)

    async def _serve_group(
        self, name: str, zygote: ZygoteClient, child: Child, shared: SharedProcess
    ) -> None:
        """As `_serve`; a group whose process has ended is forgotten, unless another has taken its place."""
        try:
            await _serve(zygote, child, shared)
        finally:
            if self._shared.get(name) is shared:
                del self._shared[name]

    @override
    def _not_started(self, spec: NodeSpec, ready_timeout_s: float) -> NodeStartFailed:
        zygote = self._zygote
        if zygote is None or not zygote.owes_a_fork:
            return super()._not_started(spec, ready_timeout_s)
        return NodeStartFailed(
            f"node {spec.slot} was not started: the process that starts nodes (pid {zygote.pid})"
            f" has not answered within {ready_timeout_s:g} s",
            hint=f"call neural_node_deploy again: one that is silent for {_FROZEN_S:g} s is replaced",
            details={"slot": spec.slot},
        )

    def _adopt(self, process: ZygoteProcess) -> None:
        self._zygote = ZygoteClient(process)
        self._spawn(self._zygote.run)
        self._spawn(partial(self._watch, self._zygote))


async def _serve(zygote: ZygoteClient, child: Child, process: LocalNode | SharedProcess) -> None:
    try:
        await process.run()
    finally:
        zygote.let_go(child)


def _raise_descriptor_limit() -> None:
    """A node costs four descriptors here, a region one; the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
