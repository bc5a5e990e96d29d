"""What runs as one Ray actor on every machine: starts the host's process and passes messages on.

The driver makes an actor of the class; Ray itself is not needed here. Calls come in several threads.
"""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Final

from flow_nexus_neural.errors import Fenced, RuntimeUnavailable
from flow_nexus_neural.runtime.process.environment import ENVIRONMENT
from flow_nexus_neural.runtime.ray.wire import DRIVER, Splitter, pack, readdressed, unpack

HOST_COMMAND: Final = (sys.executable, "-I", "-m", "flow_nexus_neural.runtime.ray.host_process")
_CHUNK_BYTES: Final = 1 << 20
_MOST_BYTES: Final = 64 << 20
"""Answers of one poll, unless a single one is longer."""
_ENDED: Final = b""


class HostAgent:
    """The host's end of the driver's calls.

    Its work is numbered, and it refuses a number that is not the next one: a call that was given up may
    still be executed, and must not be executed after its successor. Where nobody has asked for answers for
    `lease_s`, the driver has taken this host for lost: it ends itself with all nodes.

    Args:
        number: Of this agent at its driver; stamped on every answer.
        lease_s: How long it lives without a driver.

    Attributes:
        host_pid: Of the process that runs the nodes.
    """

    def __init__(self, number: int, lease_s: float) -> None:
        self._number = number
        self._lease_s = lease_s
        self._done = 0
        self._posting = threading.Lock()
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._asked_s = time.monotonic()
        self._connection: socket.socket | None = None
        self.host_pid: int | None = None

    def begin(self, settings: bytes, zygote: bytes) -> bytes:
        """Start the host's process; returns its hello as JSON.

        Args:
            settings: Of the server, as JSON.
            zygote: The command that starts a zygote, as a JSON list; empty for the ordinary one.
        """
        self._connection, theirs = socket.socketpair()
        command = [*HOST_COMMAND, str(theirs.fileno()), str(os.getpid()), *json.loads(zygote)]
        # This thread starts the process, since the kernel ends the process with the thread that started it.
        threading.Thread(
            target=self._keep, args=(command, theirs, self._connection), daemon=True
        ).start()
        threading.Thread(target=self._watch, daemon=True).start()
        for part in pack(DRIVER, {"kind": "settings", "settings": json.loads(settings)}):
            self._connection.sendall(part)
        hello = self._answers.get()
        if hello == _ENDED:
            raise RuntimeUnavailable("the process that runs a host's nodes ended at its start")
        return json.dumps(dict(unpack(hello).header)).encode()

    def post(self, number: int, messages: bytes) -> int:
        """Pass messages on to the host's process, in the order of their numbers.

        Raises:
            Fenced: The number is not the next one.
        """
        with self._posting:
            if number != self._done + 1:
                raise Fenced(f"message {number} comes after message {self._done}")
            self._done = number
            if self._connection is not None:
                self._connection.sendall(messages)
        return number

    def poll(self, patience_s: float) -> bytes:
        """Whole messages of the host's process, as soon as there are any.

        Raises:
            RuntimeUnavailable: The process has ended.
        """
        self._asked_s = time.monotonic()
        found: list[bytes] = []
        with suppress(queue.Empty):
            found.append(self._answers.get(timeout=patience_s))
            while sum(map(len, found)) < _MOST_BYTES and found[-1] != _ENDED:
                found.append(self._answers.get_nowait())
        if found and found[-1] == _ENDED:
            self._answers.put(_ENDED)
            if len(found) == 1:
                raise RuntimeUnavailable("the process that runs a host's nodes has ended")
        return b"".join(found)

    def _keep(self, command: list[str], theirs: socket.socket, ours: socket.socket) -> None:
        """Start the process and read what it says, until it has ended."""
        environment = {**ENVIRONMENT, "PATH": os.environ.get("PATH", os.defpath)}
        splitter = Splitter()
        with theirs:
            process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        self.host_pid = process.pid
        try:
            while data := ours.recv(_CHUNK_BYTES):
                for raw in splitter.feed(data):
                    self._answers.put(readdressed(raw, self._number))
        except OSError:
            pass  # it was killed
        finally:
            process.kill()
            process.wait()
            self._answers.put(_ENDED)

    def _watch(self) -> None:
        while time.monotonic() - self._asked_s < self._lease_s:
            time.sleep(min(self._lease_s / 4, 1.0))
        os._exit(1)
