"""Talks to one zygote: its hello, forks, exit reports, last words, and its end."""

import contextlib
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

from flow_nexus_neural.errors import NodeStartFailed, RuntimeUnavailable
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.runtime.process.exits import ExitReport, with_last_words
from flow_nexus_neural.runtime.process.kernel_memory import resident_bytes
from flow_nexus_neural.runtime.process.last_words import LastWords

_LOG: Final = logging.getLogger(__name__)
_MAX_MESSAGE_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class ZygoteInfo:
    """What the zygote said of itself when it was warm, and what the system says of it now.

    Attributes:
        boot_s: Seconds from its start to its hello, as it measured them.
        launch_s: The same as this side saw them, interpreter start included.
        modules: Modules imported; the number no node exceeds.
    """

    pid: int
    boot_s: float
    launch_s: float
    versions: Mapping[str, str]
    cpu_capability: str | None
    modules: int
    rss_bytes: int | None


@dataclass(slots=True, eq=False)
class Child:
    """A forked process.

    Attributes:
        pidfd: Refers to this process and no other, whatever becomes of its number; the owner closes it.
        reported: Set once the zygote has waited for it, or can no longer.
        report: What the zygote measured; None when it was lost first.
        unwatched: Its zygote is frozen: nobody will tell how it ended.
    """

    pid: int
    pidfd: int
    reported: anyio.Event = field(default_factory=anyio.Event)
    report: ExitReport | None = None
    unwatched: bool = False

    def kill(self) -> None:
        """SIGKILL. Does nothing once it is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


@dataclass(slots=True, eq=False)
class _Fork:
    """A child that was ordered and has not been reported yet."""

    answered: anyio.Event = field(default_factory=anyio.Event)
    child: Child | None = None
    refusal: str = ""
    given_up: bool = False

    def give_up(self) -> None:
        """Nobody waits any more: a child that exists already, or comes later, is killed."""
        self.given_up = True
        if self.child is not None:
            self.child.kill()
            os.close(self.child.pidfd)
            self.child = None


class ZygoteClient:
    """The server's end of one zygote. Run `run` in a task of its own; it ends when the zygote does.

    Attributes:
        grouped: Whether its owner has put it where its nodes shall run.
        retired: It was taken for frozen. It starts no node any more and ends with the last one that it
            started, since its end is the end of them all.
    """

    def __init__(self, process: ZygoteProcess) -> None:
        self.warm = anyio.Event()
        self.lost = anyio.Event()
        self.grouped = False
        self.retired = False
        self._process = process
        self._hello: Mapping[str, Any] | None = None
        self._launch_s = 0.0
        self._forks: dict[int, _Fork] = {}
        self._pongs: dict[int, anyio.Event] = {}
        self._last_id = 0
        self._children: dict[int, Child] = {}
        self._sending = anyio.Lock()
        self._last_words = LastWords("zygote")

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.process.pid

    @property
    def stderr_tail(self) -> str:
        """Its last words."""
        return self._last_words.text

    @property
    def launched_s(self) -> float:
        """Monotonic time of its start."""
        return self._process.launched_s

    def info(self) -> ZygoteInfo | None:
        """None before its hello and after its end."""
        if self._hello is None or self.lost.is_set():
            return None
        hello = self._hello
        return ZygoteInfo(
            pid=int(hello["pid"]),
            boot_s=float(hello["boot_s"]),
            launch_s=self._launch_s,
            versions=dict(hello["versions"]),
            cpu_capability=hello["cpu_capability"],
            modules=int(hello["modules"]),
            rss_bytes=resident_bytes(self.pid),
        )

    @property
    def owes_a_fork(self) -> bool:
        """Whether there is an order that it has not answered."""
        return bool(self._forks)

    def set_session_nice(self, nice: int) -> None:
        """Lower the priority of its session, so that this process gets a processor before its nodes do.

        It has a session of its own, and Linux shares processors among sessions first ("autogroup"): without
        this, the priority of a node would only count against other nodes. No effect where that is off.
        """
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/autogroup", "w") as file:
            file.write(str(nice))

    def kill(self) -> None:
        """End it, and with it all its nodes."""
        self._process.kill()

    async def obeys(self, patience_s: float) -> bool:
        """Whether it answers a ping in this time; no when it is gone.

        It is asked twice, for half of the time each: where this process was stopped itself, the first wait
        may be over before anything that came meanwhile has been read.
        """
        return await self._answers(patience_s / 2) or await self._answers(patience_s / 2)

    async def _answers(self, patience_s: float) -> bool:
        self._last_id += 1
        number, pong = self._last_id, anyio.Event()
        self._pongs[number] = pong
        try:
            with anyio.move_on_after(patience_s), contextlib.suppress(RuntimeUnavailable):
                await self._send(json.dumps({"kind": "ping", "id": number}).encode(), ())
                await pong.wait()
        finally:
            self._pongs.pop(number, None)
        return pong.is_set() and not self.lost.is_set()

    def retire(self) -> None:
        """Give up on it and let the nodes that it started live on; it ends now when there are none."""
        self.retired = True
        for fork in self._forks.values():
            fork.give_up()
            fork.answered.set()
        for child in self._children.values():
            child.unwatched = True
        self._end_when_unneeded()

    def let_go(self, child: Child) -> None:
        """A child has ended and everything of it is released."""
        if self._children.get(child.pid) is child:
            del self._children[child.pid]
        self._end_when_unneeded()

    def _end_when_unneeded(self) -> None:
        if self.retired and not self._children:
            self.kill()

    async def run(self) -> None:
        """Read until it is gone, then release it."""
        try:
            async with anyio.create_task_group() as tasks:
                stderr = self._process.process.stderr
                if stderr is not None:
                    tasks.start_soon(self._last_words.drain, stderr.fileno())
                await self._read()
                self._process.kill()
                await self._ended()
        finally:
            anyio.notify_closing(self._process.control)
            self._process.close()
            self._lose()

    async def fork(self, order: Mapping[str, int | str], descriptors: tuple[int, int]) -> Child:
        """Have a node forked.

        Cancelling gives up: should the child appear later, it is killed at once.

        Args:
            order: The fields of the message but its kind and id.
            descriptors: The node's socket and the writing end of its stderr, which stay the caller's.

        Raises:
            RuntimeUnavailable: If the zygote is gone or frozen; nothing was or will be started.
            NodeStartFailed: If the system refused another process.
        """
        self._last_id += 1
        number, fork = self._last_id, _Fork()
        message = json.dumps({"kind": "fork", "id": number, **order}).encode()
        await self._send(message, descriptors)
        self._forks[number] = fork
        try:
            await fork.answered.wait()
        except BaseException:  # a cancelled caller: the child is ended when it comes
            fork.give_up()
            raise
        if fork.refusal:
            raise NodeStartFailed(f"no process for a node: {fork.refusal}")
        if fork.child is None:
            raise self._gone()
        return fork.child

    def _gone(self) -> RuntimeUnavailable:
        became = "does not answer" if self.retired and not self.lost.is_set() else "is gone"
        return RuntimeUnavailable(
            with_last_words(
                f"the process that starts nodes (pid {self.pid}) {became}", self.stderr_tail
            ),
            hint="call again: it is started anew",
            details={"stderr_tail": self.stderr_tail},
        )

    async def _ended(self) -> None:
        """Wait until the kernel has taken it apart, so that `close` need not."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            await anyio.wait_readable(pidfd)
        finally:
            os.close(pidfd)

    async def _send(self, message: bytes, descriptors: tuple[int, ...]) -> None:
        async with self._sending:
            while not (self.lost.is_set() or self.retired):
                try:
                    socket.send_fds(self._process.control, [message], descriptors)
                except BlockingIOError:
                    await self._room_to_send()
                except OSError as failure:
                    raise self._gone() from failure
                else:
                    return
        raise self._gone()

    async def _room_to_send(self) -> None:
        """Wait for a slow zygote, or for its end."""
        with contextlib.suppress(anyio.ClosedResourceError):
            await anyio.wait_writable(self._process.control)

    async def _read(self) -> None:
        while True:
            await anyio.wait_readable(self._process.control)
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self._process.control, _MAX_MESSAGE_BYTES, 1
                )
            except BlockingIOError:
                continue
            except OSError as failure:
                _LOG.info("zygote %d: %s", self.pid, failure)
                return
            if not data:
                return
            self._take(json.loads(data), descriptors)

    def _take(self, message: Mapping[str, Any], descriptors: list[int]) -> None:
        match message["kind"]:
            case "hello":
                self._hello = message
                self._launch_s = time.monotonic() - self._process.launched_s
                self.warm.set()
            case "forked":
                self._take_child(self._forks.pop(message["id"]), message["pid"], descriptors)
            case "refused":
                fork = self._forks.pop(message["id"])
                fork.refusal = str(message["reason"])
                fork.answered.set()
            case "pong":
                pong = self._pongs.get(message["id"])
                if pong is not None:  # else it came too late
                    pong.set()
            case "exit":
                self._take_exit(self._children.pop(message["pid"], None), message)

    def _take_exit(self, child: Child | None, message: Mapping[str, Any]) -> None:
        if child is not None:
            child.report = ExitReport(
                returncode=int(message["status"]),
                max_rss_bytes=int(message["max_rss_bytes"]),
                cpu_s=float(message["cpu_s"]),
            )
            child.reported.set()
        self._end_when_unneeded()

    def _take_child(self, fork: _Fork, pid: int, descriptors: list[int]) -> None:
        if descriptors:
            fork.child = self._children[pid] = Child(pid=pid, pidfd=descriptors[0])
            if fork.given_up:
                fork.give_up()
        else:  # no free descriptor here; without its socket's other end the child exits by itself
            fork.refusal = "this process has no free file descriptor for another one"
        fork.answered.set()

    def _lose(self) -> None:
        """It is gone: nobody needs to wait for it any more."""
        self.lost.set()
        self.warm.set()
        for fork in self._forks.values():
            fork.answered.set()
        for child in self._children.values():
            child.reported.set()
        for pong in self._pongs.values():
            pong.set()
        self._forks.clear()
        self._children.clear()
