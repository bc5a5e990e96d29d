"""A node that is started as a process of its own, on platforms where no zygote can fork it.

Started by `runtime.exec.runtime` as `python -I -m flow_nexus_neural.node.exec_node`. Its standard input
brings one line of JSON, `{"order": {...}, "wire": {...}}`. The wire names an inherited descriptor (`fd`), or
a loopback port and the token that proves to the runtime who has connected (`port`, `token`).

It imports and warms up everything, as the zygote does once for all nodes, then confines itself with what the
platform offers and sends Ready. It exits when its socket is closed: only Linux has a parent-death signal.
"""

import json
import os
import select
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from typing_extensions import override

from flow_nexus_neural.node.confinement.apply import Limits as ConfinementLimits
from flow_nexus_neural.node.confinement.apply import Steps, run_probes
from flow_nexus_neural.node.ending import NeverReturns, rehearse_last_words
from flow_nexus_neural.node.loop import NodeLoop
from flow_nexus_neural.node.preparation import ForkOrder, Preparation, prepare_torch, ready_of
from flow_nexus_neural.node.wire import Ancillary, Wire
from flow_nexus_neural.protocol.codec import FrameLimits

if sys.platform == "linux":
    # On Linux sandboxed nodes come from the zygote; this imitates a platform without a sandbox.
    from flow_nexus_neural.node.confinement.without_wall import confine_without_wall as confine
else:
    from flow_nexus_neural.node.confinement.apply import confine

_STDERR: Final = 2
_NODE_SOCKET: Final = 3
_MAX_ORDER_BYTES: Final = 1 << 14
_CONNECT_S: Final = 10.0


class StreamWire(Wire):
    """A node's wire over any stream socket, without descriptors: frames carry their arrays in the body."""

    @override
    def _read(self, buffer: bytearray, *, wait: bool) -> tuple[int, list[Ancillary]]:
        if not wait and not select.select([self._connection], [], [], 0)[0]:
            raise BlockingIOError
        return self._connection.recv_into(buffer), []

    @override
    def _write(self, window: list[memoryview]) -> int:
        return self._connection.send(window[0])


class StreamLoop(NodeLoop):
    """A node's loop over such a wire."""

    wire_class = StreamWire


def serve(prepare: Callable[[], Preparation]) -> None:
    """Become the node that standard input describes; never returns."""
    parent_pid = os.getppid()
    with NeverReturns():
        fields = json.loads(sys.stdin.buffer.readline(_MAX_ORDER_BYTES))
        order = ForkOrder(id=0, **fields["order"])
        connection = _connect(fields["wire"])
        preparation = prepare()
        rehearse_last_words()
        # Niceness and confinement come after the imports, which need files and the full share of the CPU.
        if sys.platform != "win32":
            os.nice(order.nice)
        steps = _confine(order, connection, parent_pid)
        preparation.reseed(order.seed)
        service = preparation.make_service(order)
        ready = ready_of(order, preparation, steps, run_probes(hostile=order.hostile))
        limits = FrameLimits(header_bytes=order.header_bytes, body_bytes=order.body_bytes)
        StreamLoop(connection, service, order.incarnation, limits).serve(ready)


def _connect(wire: Mapping[str, Any]) -> socket.socket:
    if "fd" in wire:
        inherited = socket.socket(fileno=int(wire["fd"]))
        if inherited.fileno() == _NODE_SOCKET:
            return inherited
        os.dup2(inherited.fileno(), _NODE_SOCKET)  # the same number as in a forked node
        inherited.close()
        return socket.socket(fileno=_NODE_SOCKET)
    connection = socket.create_connection(("127.0.0.1", int(wire["port"])), timeout=_CONNECT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(bytes.fromhex(wire["token"]))
    connection.settimeout(None)
    return connection


def _confine(order: ForkOrder, connection: socket.socket, parent_pid: int) -> Steps:
    limits = ConfinementLimits(
        memory_mb=order.memory_mb, cpu_s=order.cpu_s, nofile=order.nofile, hostile=order.hostile
    )
    return confine(limits, keep_fds=(_STDERR, connection.fileno()), expected_ppid=parent_pid)


if __name__ == "__main__":
    serve(prepare_torch)
