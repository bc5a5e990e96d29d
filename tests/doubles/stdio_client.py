"""Talk to a server process over pipes, line by line, each wait under a deadline."""

import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from flow_nexus_neural.settings import ENV_PREFIX
from tests.doubles.limits import HANG_S, PREDICT_MS

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "pipes", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class PipeClient:
    """The client's end of a server's standard streams."""

    def __init__(self, write_fd: int, read_fd: int) -> None:
        self._write_fd = write_fd
        self._read_fd = read_fd
        self._buffer = b""
        self._number = 0
        self.lines: list[bytes] = []

    def send(self, message: dict[str, Any]) -> None:
        self.send_bytes(json.dumps(message).encode() + b"\n")

    def send_bytes(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._write_fd, line) :]

    def receive(self, limit_s: float = HANG_S) -> dict[str, Any]:
        deadline_s = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            left_s = deadline_s - time.monotonic()
            readable, _, _ = select.select([self._read_fd], [], [], max(left_s, 0))
            assert readable, f"no line within {limit_s} s; got {self._buffer!r}"
            chunk = os.read(self._read_fd, 1 << 16)
            assert chunk, f"the server closed its output after {self._buffer!r}"
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        self.lines.append(line)
        return json.loads(line)

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its reply; notifications that come between are kept in `lines`."""
        self._number += 1
        number = self._number
        self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return self.answer(number)

    def answer(self, number: int | str) -> dict[str, Any]:
        """The reply to the request of this id."""
        while True:
            message = self.receive()
            if message.get("id") == number and "method" not in message:
                return message

    def initialize(self) -> dict[str, Any]:
        client = {"name": "pipes", "version": "1"}
        reply = self.request(
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client},
        )
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return reply["result"]

    def call(self, tool: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
        reply = self.request("tools/call", {"name": tool, "arguments": arguments, **more})
        assert "result" in reply, reply
        return reply["result"]

    def result(self, tool: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = self.call(tool, arguments, **more)
        assert not answer.get("isError"), answer["content"][0]["text"]
        return answer["structuredContent"]


class ServerProcess:
    """A server as our own child."""

    def __init__(self, command: list[str], cwd: Path, stderr: Path) -> None:
        self.stderr_path = stderr
        variables = {f"{ENV_PREFIX}PREDICT_DEADLINE_MS": str(PREDICT_MS)} | os.environ
        with stderr.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=cwd,
                env=variables,
            )
        self.client = PipeClient(self.process.stdin.fileno(), self.process.stdout.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            for child in task.read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def wait_until(condition: Callable[[], bool], what: str) -> float:
    """Wait for a condition; returns the seconds it took."""
    started_s = time.monotonic()
    while not condition():
        assert time.monotonic() - started_s < HANG_S, f"not within {HANG_S:g} s: {what}"
        select.select([], [], [], 0.01)
    return time.monotonic() - started_s
