"""The process that forks nodes: one thread, libraries imported and warmed up, no secrets.

Started by `runtime.local.zygote_process`:
`python -I -m flow_nexus_neural.node.zygote <control fd> <parent pid>`.
It serves one control socket (SEQPACKET, one JSON message each):

* in: `fork{id, node_id, incarnation, seed, memory_mb, cpu_s, nice, nofile, hostile, header_bytes,
  body_bytes}` with two descriptors, the node's stream socket and the writing end of its stderr pipe;
  `ping{id}`, which shows that it still obeys;
* out: `hello{...}` once, `forked{id, pid}` with a pidfd, `refused{id, reason}`, `pong{id}`, and
  `exit{pid, status, max_rss_bytes, cpu_s}` for every child.

When the control socket is closed the zygote exits; when the zygote exits every node is killed (PDEATHSIG).

A fork shares the warmed libraries copy-on-write: a node costs milliseconds and a few megabytes, and imports
nothing afterwards. The zygote must never run a second thread: a child would inherit locks held by a thread
that does not exist in it, and block on them for ever.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

from flow_nexus_neural.node.confinement.apply import Limits as ConfinementLimits
from flow_nexus_neural.node.confinement.apply import confine, run_probes
from flow_nexus_neural.node.confinement.libc import PR_SET_PDEATHSIG, prctl
from flow_nexus_neural.node.ending import NeverReturns, rehearse_last_words
from flow_nexus_neural.node.free_memory import return_free_memory
from flow_nexus_neural.node.loop import NodeLoop
from flow_nexus_neural.node.preparation import (
    ForkOrder,
    Preparation,
    hosting_of,
    prepare_torch,
    ready_of,
)
from flow_nexus_neural.protocol.codec import FrameLimits

_MAX_MESSAGE_BYTES: Final = 1 << 16
_STDERR: Final = 2
_NODE_SOCKET: Final = 3


def serve(control_fd: int, parent_pid: int, prepare: Callable[[], Preparation]) -> None:
    """Run the zygote until its control socket is closed; ends by SystemExit."""
    started = time.monotonic()
    control = socket.socket(fileno=control_fd)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # the parent died before prctl, so the signal will never come
        raise SystemExit(0)
    # Everything is imported before gc.freeze: what is loaded later would not be shared by the children.
    preparation = prepare()
    rehearse_last_words()
    gc.collect()
    return_free_memory()  # nodes would have what is free here beyond their limits
    gc.disable()
    # Without this the first full collection in a child writes to every object and so copies all shared pages.
    gc.freeze()
    n_threads = len(os.listdir("/proc/self/task"))
    if n_threads != 1:
        raise SystemExit(f"the zygote runs {n_threads} threads; forking would not be safe")
    zygote = _Zygote(control, preparation)
    zygote.send(
        {
            "kind": "hello",
            "pid": os.getpid(),
            "boot_s": time.monotonic() - started,
            "versions": dict(preparation.versions),
            "cpu_capability": preparation.cpu_capability,
            "modules": len(sys.modules),
        }
    )
    zygote.run()


class _Zygote:
    def __init__(self, control: socket.socket, preparation: Preparation) -> None:
        self._control = control
        self._preparation = preparation
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.settimeout(0)
        self._wake_write.settimeout(0)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            # Drain, then reap: a child that dies in between writes a new byte and is reaped next time.
            if self._wake_read.fileno() in ready:
                self._drain_wake_ups()
                self._reap()
            if self._control.fileno() in ready:
                self._serve_request()

    def send(self, message: Mapping[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        data = json.dumps(message).encode()
        try:
            socket.send_fds(self._control, [data], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            raise SystemExit(0) from None

    def _drain_wake_ups(self) -> None:
        try:
            while self._wake_read.recv(4096):
                pass
        except BlockingIOError:
            return

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait3(os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.send(
                {
                    "kind": "exit",
                    "pid": pid,
                    "status": os.waitstatus_to_exitcode(status),
                    "max_rss_bytes": usage.ru_maxrss * 1024,
                    "cpu_s": usage.ru_utime + usage.ru_stime,
                }
            )

    def _serve_request(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, _MAX_MESSAGE_BYTES, 2)
        except ConnectionResetError:
            raise SystemExit(0) from None
        if not data:
            raise SystemExit(0)
        fields = json.loads(data)
        if fields.pop("kind") == "ping":
            self.send({"kind": "pong", "id": fields["id"]})
            return
        order = ForkOrder(**fields)
        node_socket, stderr = descriptors
        try:
            self._fork(order, node_socket, stderr)
        finally:
            # The zygote must not keep them: the engine would never see the end of file of a dead node,
            # and the next child would inherit its sibling's socket.
            os.close(node_socket)
            os.close(stderr)

    def _fork(self, order: ForkOrder, node_socket: int, stderr: int) -> None:
        zygote_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as failure:
            self.send({"kind": "refused", "id": order.id, "reason": str(failure)})
            return
        if pid == 0:
            with NeverReturns():
                # The wake-up socket is shared with the zygote: a signal here would wake the zygote up.
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._control.detach()
                self._become_node(order, node_socket, stderr, zygote_pid)
        pidfd = os.pidfd_open(pid)  # before the child is reaped, while its number cannot be reused
        try:
            self.send({"kind": "forked", "id": order.id, "pid": pid}, (pidfd,))
        finally:
            os.close(pidfd)

    def _become_node(
        self, order: ForkOrder, node_socket: int, stderr: int, zygote_pid: int
    ) -> None:
        os.nice(order.nice)  # cannot be undone: `confine` sets RLIMIT_NICE to 0
        os.dup2(stderr, _STDERR)
        # node_socket may itself be number 3, where dup2 would do nothing: copy it to a free number first.
        os.dup2(os.dup(node_socket), _NODE_SOCKET)
        connection = socket.socket(fileno=_NODE_SOCKET)
        steps = confine(
            ConfinementLimits(
                memory_mb=order.memory_mb,
                cpu_s=order.cpu_s,
                nofile=order.nofile,
                hostile=order.hostile,
            ),
            keep_fds=(_STDERR, _NODE_SOCKET),
            expected_ppid=zygote_pid,
        )
        self._preparation.reseed(order.seed)
        gc.enable()  # switched off in the zygote, see `serve`
        service = self._preparation.make_service(order)
        probes = run_probes(hostile=order.hostile)
        ready = ready_of(order, self._preparation, steps, probes)
        limits = FrameLimits(header_bytes=order.header_bytes, body_bytes=order.body_bytes)
        hosting = hosting_of(order, self._preparation, ready)
        NodeLoop(connection, service, order.incarnation, limits, hosting).serve(ready)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the handler exists so that SIGCHLD writes to the wake-up socket."""


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), prepare_torch)
