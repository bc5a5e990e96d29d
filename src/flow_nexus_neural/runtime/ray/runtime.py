"""Nodes on the machines of a Ray cluster.

Use it as a context manager:

    async with RayRuntime(settings) as runtime:
        node = await runtime.start(spec)

The driver joins or starts the cluster; it is started again, at most every few seconds, when it has ended.
Nodes are spread over the hosts. What is known of the hosts comes from the driver; nothing here blocks on Ray.
"""

import logging
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, Final, Self

import anyio
from typing_extensions import override

from flow_nexus_neural.errors import RuntimeUnavailable
from flow_nexus_neural.protocol.codec import FrameLimits
from flow_nexus_neural.protocol.dispatch import Arrays
from flow_nexus_neural.runtime.base import Capabilities, NodeSpec, Region
from flow_nexus_neural.runtime.managed import ManagedRuntime
from flow_nexus_neural.runtime.process.orders import CARRIED_BODY_BYTES
from flow_nexus_neural.runtime.ray.hosts import Host, least_loaded
from flow_nexus_neural.runtime.ray.link import Link
from flow_nexus_neural.runtime.ray.memory import HostRegion
from flow_nexus_neural.runtime.ray.node import RayNode, not_placed
from flow_nexus_neural.runtime.ray.session import prepare, require_ray
from flow_nexus_neural.runtime.ray.wire import DRIVER, Message, unpack
from flow_nexus_neural.settings import SECRETS, Settings

_LOG: Final = logging.getLogger(__name__)
SILENCE_S: Final = 20.0
"""A host that has not answered a call for this long is lost."""
_CONNECT_S: Final = 180.0
_PAUSE_S: Final = 5.0
_OBJECT_STORE_BYTES: Final = 512 << 20
_LEVELS: Final = ("strict", "seccomp", "process")


class RayRuntime(ManagedRuntime[RayNode]):
    """Starts nodes by the agents of all hosts.

    Args:
        settings: Address of the cluster, and what one node and all of a host may use.
        zygote: The command that starts a host's zygote; empty for the ordinary one.
        silence_s: After which a host that does not answer is lost.
    """

    name = "ray"

    def __init__(
        self, settings: Settings, *, zygote: Sequence[str] = (), silence_s: float = SILENCE_S
    ) -> None:
        super().__init__(Capabilities(places=1, isolation="process", processes=True))
        self._settings = settings
        self._zygote = tuple(zygote)
        self._silence_s = silence_s
        self._limits = FrameLimits(body_bytes=CARRIED_BODY_BYTES)
        self._link: Link | None = None
        self._connecting = anyio.Lock()
        self._hosts: dict[int, Host] = {}
        self._placed: dict[int, tuple[Host, RayNode]] = {}
        self._numbers = count(1)
        self._given_up: deque[int] = deque()
        self._refused_hosts: list[str] = []

    @override
    async def __aenter__(self) -> Self:
        require_ray()
        await super().__aenter__()
        try:
            await self._connect()
        except BaseException:  # also cancelled: no driver stays that nobody has
            await self.__aexit__(None, None, None)
            raise
        return self

    @property
    def hosts(self) -> list[Host]:
        """Those that answer."""
        return list(self._hosts.values())

    async def start(self, spec: NodeSpec, *, ready_timeout_s: float = 30.0) -> RayNode:
        """Have a host fork, confine and judge a node; see `base.NodeRuntime`."""
        self._require_open()
        async with self._connecting:
            if self._link is None or self._link.lost.is_set():
                await self._connect_again()
        alone = replace(spec, group=None, group_size=1)
        return await self._bring_up(
            partial(self._begin, alone, ready_timeout_s), alone, ready_timeout_s
        )

    @override
    def share(self, key: str, arrays: Arrays) -> Region:
        """Copy arrays; every host that needs them is sent them once."""
        return HostRegion(key, arrays, self._given_up.append)

    async def _begin(self, spec: NodeSpec, ready_timeout_s: float) -> RayNode:
        self._require_open()
        host = least_loaded(self._hosts.values(), (place for place, _ in self._placed.values()))
        if host is None:
            raise not_placed(spec)
        number = next(self._numbers)
        node = RayNode(spec, self._limits, host, number)
        self._placed[number] = host, node
        self._keep(node, partial(self._until_gone, number, node))
        node.order(ready_timeout_s)
        return node

    async def _until_gone(self, number: int, node: RayNode) -> None:
        await node.run()
        del self._placed[number]

    @override
    async def _measure(self, node: RayNode) -> None:
        await node.up()

    async def _connect(self) -> None:
        """Start a driver and wait until it has an agent on every host.

        Raises:
            RuntimeUnavailable: It could not connect, or found no host.
        """
        session = await anyio.to_thread.run_sync(prepare, self._settings.state_dir, os.environ)
        config = {
            "address": self._settings.ray_address,
            "session_dir": str(session.directory),
            "object_store_bytes": _OBJECT_STORE_BYTES,
            "silence_s": self._silence_s,
            "settings": self._settings.model_dump(mode="json", exclude=set(SECRETS)),
            "zygote": self._zygote,
        }
        self._refused_hosts.clear()
        link = self._link = Link(session, config)
        up = anyio.Event()
        self._spawn(partial(self._serve, link, up))
        with anyio.move_on_after(_CONNECT_S):
            await up.wait()
        if self._hosts:
            self.capabilities = replace(
                self.capabilities,
                places=sum(host.cores for host in self._hosts.values()),
                isolation=max((host.isolation for host in self._hosts.values()), key=_rank),
            )
            return
        why = "; ".join(self._refused_hosts) or _last_line(session.log_tail())
        link.stream.close()
        raise RuntimeUnavailable(
            f"no host of the Ray cluster {self._settings.ray_address} can be used: {why}",
            hint=f"see {session.log}; docs/scaling.md says how a cluster is started",
        )

    async def _connect_again(self) -> None:
        _LOG.warning("the Ray driver has ended and is started again")
        await anyio.sleep(_PAUSE_S)
        self._require_open()
        await self._connect()

    async def _serve(self, link: Link, up: anyio.Event) -> None:
        """Read what the driver says until it has ended; then every host is lost."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(link.stream.write)
                async for raw in link.stream.messages():
                    self._take(unpack(raw), up)
                tasks.cancel_scope.cancel()
        finally:
            link.lost.set()
            for number in list(self._hosts):
                self._lose(number, "the Ray driver has ended")
            link.stream.close()
            up.set()
            await anyio.to_thread.run_sync(link.end)

    def _take(self, message: Message, up: anyio.Event) -> None:
        told = message.header
        host = self._hosts.get(message.host)
        kind = str(told["kind"])
        if message.host == DRIVER:
            self._take_of_driver(kind, told, up)
        elif kind == "joined" and self._link is not None:
            self._hosts[message.host] = Host(message.host, told, self._link.stream)
        elif host is None:
            return  # it was lost: what still comes of it counts for nothing
        elif kind == "lost":
            self._lose(message.host, str(told["why"]))
        elif kind == "readings":
            self._drop_regions()
            for one in told["nodes"]:
                self._of(one["node"], lambda node, one=one: node.note(one))
        else:
            self._of(told["node"], lambda node: node.take(kind, told, message.body))

    def _take_of_driver(self, kind: str, told: Any, up: anyio.Event) -> None:
        if kind == "up":
            up.set()
        elif kind == "no_host":
            self._refused_hosts.append(f"{told['address']}: {told['why']}")
            _LOG.warning("host %s cannot be used: %s", told["address"], told["why"])

    def _of(self, number: int, act: Any) -> None:
        placed = self._placed.get(number)
        if placed is not None:
            act(placed[1])

    def _lose(self, number: int, why: str) -> None:
        host = self._hosts.pop(number)
        host.lost = True
        if not self._closed:
            _LOG.warning("host %s is lost: %s", host.placement.address, why)
        for place, node in list(self._placed.values()):
            if place is host:
                node.lose(why)

    def _drop_regions(self) -> None:
        # Regions are given up by whoever holds them last, in any thread; hosts are told here.
        while self._given_up:
            region = self._given_up.popleft()
            for host in self._hosts.values():
                host.drop(region)

    @override
    async def _release(self) -> None:
        link = self._link
        if link is not None:
            link.leave()
            await link.lost.wait()


def _rank(level: str) -> int:
    """Higher for a weaker level of isolation."""
    return _LEVELS.index(level) if level in _LEVELS else len(_LEVELS)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "the driver said nothing"
