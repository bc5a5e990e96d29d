"""Starts one node's process by exec and gives both ends of its connection to their owners.

A socket pair where a child can inherit descriptors. Elsewhere the node connects to a loopback port, once, and
proves by a token from its standard input that it is the one; the listener is closed before it is believed.
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
    """A started process, this side's non-blocking end of its connection, and its last words."""

    process: Process
    connection: socket.socket
    stderr: ByteReceiveStream

    async def abandon(self) -> None:
        """End it and release what belongs to it."""
        self.connection.close()
        await _end(self.process)


async def spawn(
    command: Sequence[str], order: Mapping[str, int | str], *, inherit: bool
) -> Spawned:
    """Start it; its libraries may still be importing when this returns.

    Args:
        command: Program and arguments.
        order: See `orders.order_of`.
        inherit: Give it one end of a socket pair; False makes it connect.

    Raises:
        NodeStartFailed: If the system refuses, or it does not connect; nothing is left behind.
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
        process = await _open(command, (fd,))
        await _told(process, {"order": dict(order), "wire": {"fd": fd}})
        ours.pop_all()
    return _spawned(process, connection)


async def _with_port(command: Sequence[str], order: Mapping[str, int | str]) -> Spawned:
    token = secrets.token_bytes(_TOKEN_BYTES)
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        listener.settimeout(0)
        wire = {"port": listener.getsockname()[1], "token": token.hex()}
        process = await _open(command, ())
        await _told(process, {"order": dict(order), "wire": wire})
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
    """The node's connection, whoever else may try; None when its process ends first."""
    found: list[socket.socket] = []

    async def listen() -> None:
        while not found:
            await anyio.wait_readable(listener)
            connection, _ = listener.accept()
            proven = False
            try:
                proven = await _proves_itself(connection, token)
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
    except BaseException:
        for connection in found:
            connection.close()
        raise
    return found[0] if found else None


async def _proves_itself(connection: socket.socket, token: bytes) -> bool:
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
    return hmac.compare_digest(said, token)


async def _open(command: Sequence[str], pass_fds: tuple[int, ...]) -> Process:
    # Shielded: a process that exists is never lost on the way to its owner.
    with anyio.CancelScope(shield=True):
        process = await anyio.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=os.sep,
            env=_environment(),
            start_new_session=INHERITS_DESCRIPTORS,  # an interrupt at a terminal is ours to handle
            pass_fds=pass_fds,
        )
    return process  # noqa: RET504  # a scope may swallow, for all that types say


async def _told(process: Process, order: Mapping[str, Any]) -> None:
    """Send a process its order, or end it."""
    line = json.dumps(order).encode() + b"\n"
    try:
        if process.stdin is not None:
            await process.stdin.send(line)
            await process.stdin.aclose()
    except BaseException:
        await _end(process)
        raise


async def _end(process: Process) -> str:
    """Kill it and wait; gives its last words."""
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
    """Nothing of ours, but for what Windows needs to open a socket."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    return {**ENVIRONMENT, **kept}
