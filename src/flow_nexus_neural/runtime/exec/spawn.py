"""Starts one node's process by exec and connects it to this process.

They are connected by a socket pair if a child can inherit descriptors. Otherwise the node connects to a
loopback port and authenticates itself with a token from its standard input; the listener accepts one node.
"""

import hmac
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final

import anyio
from anyio.abc import ByteReceiveStream, Process

from flow_nexus_neural.errors import InternalError, NodeStartFailed
from flow_nexus_neural.runtime.process.environment import ENVIRONMENT
from flow_nexus_neural.runtime.process.exits import with_last_words
from flow_nexus_neural.runtime.process.last_words import LastWords

EXEC_COMMAND: Final = (sys.executable, "-I", "-m", "flow_nexus_neural.node.exec_node")
INHERITS_DESCRIPTORS: Final = sys.platform != "win32"
_TOKEN_BYTES: Final = 32
_TOKEN_S: Final = 2.0
_CONNECT_S: Final = 20.0
_LAST_BYTES_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Spawned:
    """A started process, this side's non-blocking end of its connection, and its stderr."""

    process: Process
    connection: socket.socket
    stderr: ByteReceiveStream

    async def abandon(self) -> None:
        """Kill the process and release its resources."""
        self.connection.close()
        await _end(self.process)


async def spawn(
    command: Sequence[str], order: Mapping[str, int | str], *, inherit: bool
) -> Spawned:
    """Start the process; it may still be importing its libraries when this returns.

    Args:
        command: Program and arguments.
        order: See `orders.order_of`.
        inherit: Pass one end of a socket pair; if false the process connects to a port.

    Raises:
        NodeStartFailed: If the system refuses, or the process does not connect; nothing is left behind.
    """
    try:
        return await (_with_pair if inherit else _with_port)(command, order)
    except (OSError, anyio.BrokenResourceError) as failure:
        raise NodeStartFailed(f"the process of a node could not be started: {failure}") from failure


async def _with_pair(command: Sequence[str], order: Mapping[str, int | str]) -> Spawned:
    with ExitStack() as theirs, ExitStack() as ours:
        connection, node_socket = socket.socketpair()
        ours.callback(connection.close)
        theirs.callback(node_socket.close)
        fd = node_socket.fileno()
        # `node_socket` is closed here in any case, or the end of the node would not end the stream.
        process = await _open(command, (fd,))
        await _send_order(process, {"order": dict(order), "wire": {"fd": fd}})
        ours.pop_all()
    return _spawned(process, connection)


async def _with_port(command: Sequence[str], order: Mapping[str, int | str]) -> Spawned:
    token = secrets.token_bytes(_TOKEN_BYTES)
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        listener.settimeout(0)
        wire = {"port": listener.getsockname()[1], "token": token.hex()}
        process = await _open(command, ())
        await _send_order(process, {"order": dict(order), "wire": wire})
        connection = None
        try:
            with anyio.move_on_after(_CONNECT_S):
                connection = await _accept(listener, token, process)
        finally:
            last_words = "" if connection else await _end(process)
    if connection is None:
        raise NodeStartFailed(
            with_last_words("the process of a node ended or stayed silent unconnected", last_words),
            hint="`flow-nexus-neural doctor` shows what works on this machine",
        )
    return _spawned(process, connection)


async def _accept(listener: socket.socket, token: bytes, process: Process) -> socket.socket | None:
    """The authenticated connection of the node; None if its process ends first.

    Any local process may connect to the port; connections without the token are closed.
    """
    found: list[socket.socket] = []

    async def listen() -> None:
        while not found:
            await anyio.wait_readable(listener)
            connection, _ = listener.accept()
            proven = False
            try:
                proven = await _authenticates(connection, token)
            finally:
                if not proven:
                    connection.close()
            if proven:
                found.append(connection)
        racing.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as racing:
            racing.start_soon(listen)
            await process.wait()
            racing.cancel_scope.cancel()
    except BaseException:  # also cancelled: a connection that came meanwhile is nobody's
        for connection in found:
            connection.close()
        raise
    return found[0] if found else None


async def _authenticates(connection: socket.socket, token: bytes) -> bool:
    connection.settimeout(0)
    said = b""
    with suppress(OSError), anyio.move_on_after(_TOKEN_S):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while len(said) < len(token):
            await anyio.wait_readable(connection)
            part = connection.recv(len(token) - len(said))
            if not part:
                break
            said += part
    return hmac.compare_digest(
        said, token
    )  # in constant time, so that timing does not reveal the token


async def _open(command: Sequence[str], pass_fds: tuple[int, ...]) -> Process:
    # Shielded: cancelled between start and return, the process would run on without an owner.
    with anyio.CancelScope(shield=True):
        process = await anyio.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=os.sep,
            env=_environment(),
            start_new_session=INHERITS_DESCRIPTORS,  # Ctrl-C in a terminal must reach the server only
            pass_fds=pass_fds,
        )
    return process  # noqa: RET504  # a scope may swallow, for all that types say


async def _send_order(process: Process, order: Mapping[str, Any]) -> None:
    """Write the order to the process's standard input; kill the process if that fails."""
    line = json.dumps(order).encode() + b"\n"
    try:
        if process.stdin is not None:
            await process.stdin.send(line)
            await process.stdin.aclose()
    except BaseException:  # also cancelled: no process stays that nobody has
        await _end(process)
        raise


async def _end(process: Process) -> str:
    """Kill the process and wait for it; return the end of its stderr."""
    heard = LastWords(f"node process {process.pid}")
    with anyio.CancelScope(shield=True):
        with suppress(ProcessLookupError):
            process.kill()
        with anyio.move_on_after(_LAST_BYTES_S):
            if process.stderr is not None:
                await heard.drain_stream(process.stderr)
        await process.aclose()
    return heard.text


def _spawned(process: Process, connection: socket.socket) -> Spawned:
    connection.settimeout(0)
    if process.stderr is None:
        raise InternalError("the process of a node was started without a pipe for its last words")
    return Spawned(process, connection, process.stderr)


def _environment() -> dict[str, str]:
    """A fresh environment, plus the one variable that Windows needs to open a socket."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    return {**ENVIRONMENT, **kept}
