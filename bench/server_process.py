"""The real server as a subprocess, spoken to by hand or by the client of the examples."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}


class RawServer:
    """Lines of JSON-RPC, so that no client's own start-up is measured."""

    def __init__(self, process: "subprocess.Popen[str]", launched_s: float) -> None:
        self.process = process
        self.launched_s = launched_s
        self._next_id = 0

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request, skip notifications, return the result."""
        self._next_id += 1
        self._send({"id": self._next_id, "method": method, "params": params})
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            message = json.loads(line)
            if message.get("id") == self._next_id:
                if "error" in message or message["result"].get("isError"):
                    raise SystemExit(f"{method} failed: {line[:500]}")
                result: dict[str, Any] = message["result"]
                return result
        raise SystemExit("the server ended")

    def initialize(self) -> None:
        """The handshake of the 2025-11-25 protocol."""
        self.request("initialize", INITIALIZE)
        self._send({"method": "notifications/initialized"})

    def tool(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool; return its structured content."""
        result = self.request("tools/call", {"name": name, "arguments": arguments})
        content: dict[str, Any] = result["structuredContent"]
        return content

    def trained(self, cluster_id: str) -> dict[str, Any]:
        """The status when the training has ended. Exits where it ended with an error."""
        status: dict[str, Any] = {"training_status": "running"}
        while status["training_status"] == "running":
            status = self.tool(
                "neural_cluster_status", cluster_id=cluster_id, wait_seconds=25, until="done"
            )
        if status["training_error"]:
            raise SystemExit(f"training failed: {status['training_error']}")
        return status

    def send_tool(self, name: str, /, **arguments: Any) -> None:
        """Send a call of which nobody waits for the answer."""
        self._next_id += 1
        params = {"name": name, "arguments": arguments}
        self._send({"id": self._next_id, "method": "tools/call", "params": params})

    def elapsed_s(self) -> float:
        """Seconds since the process was launched."""
        return time.monotonic() - self.launched_s

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()


@contextmanager
def raw_server(*flags: str) -> Iterator[RawServer]:
    """Launch a server on a temporary state directory; close its stdin at the end and wait for it."""
    with tempfile.TemporaryDirectory(prefix="flow-nexus-bench-") as state_dir:
        launched_s = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "flow_nexus_neural", "--state-dir", state_dir, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield RawServer(process, launched_s)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=30)
            assert process.stdout is not None
            process.stdout.close()
