"""A million rows of twenty columns: how long, how much memory, and what other callers notice of it.

python -m bench.large_data      a CSV file and an NPZ file, about a minute; exit status 1 beyond the limits

While the data set is read and one epoch is trained, a second stream of calls asks for the status and pings.
The slowest of those replies is what a caller would have waited for.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.doubles.stdio_client import PipeClient

COLUMNS = 20
MAX_MB = 2_000
MAX_REPLY_MS = 100.0
LINES_AT_ONCE = 10_000
PAUSE_S = 0.01


@dataclass
class Replies:
    """Calls beside the long one, and how long each took."""

    client: PipeClient
    ms: list[float] = field(default_factory=list)
    late: dict[str, Any] = field(default_factory=dict)

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One call; replies to other calls that come meanwhile are kept in `late`."""
        name = f"beside-{len(self.ms)}"
        began_s = time.perf_counter()
        self.client.send({"jsonrpc": "2.0", "id": name, "method": method, "params": params})
        while (reply := self.client.receive()).get("id") != name:
            self.late[str(reply.get("id"))] = reply
        self.ms.append((time.perf_counter() - began_s) * 1e3)
        return reply


def write_files(folder: Path, rows: int) -> list[str]:
    """The same data twice: the label says whether the first two columns add up to more than 0."""
    draw = np.random.Generator(np.random.PCG64(0))
    x = np.round(draw.standard_normal((rows, COLUMNS), dtype=np.float32), 4)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    np.savez(folder / "large.npz", X=x, y=y)
    line = ",".join(["%.4f"] * COLUMNS) + ",%d\n"
    with (folder / "large.csv").open("w") as file:
        file.write(",".join(f"f{column}" for column in range(COLUMNS)) + ",y\n")
        for start in range(0, rows, LINES_AT_ONCE):
            part = slice(start, start + LINES_AT_ONCE)
            lines = zip(x[part].tolist(), y[part].tolist(), strict=True)
            file.write("".join(line % (*values, label) for values, label in lines))
    return ["large.csv", "large.npz"]


def peak_mb(pid: int) -> float:
    """Peak resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"process {pid} has no VmHWM")


def measure(name: str, folder: Path) -> Iterator[tuple[str, float, float]]:
    """Name, value and limit of what was measured."""
    command = [
        sys.executable,
        "-m",
        "flow_nexus_neural",
        "--state-dir",
        str(folder / f"state of {name}"),
    ]
    with subprocess.Popen(
        [*command, "--data-dir", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        client = PipeClient(server.stdin.fileno(), server.stdout.fileno())
        client.initialize()
        cluster_id = client.result("neural_cluster_init", {"name": name})["id"]
        layers = [{"type": "dense", "units": 8}]
        client.result("neural_node_deploy", {"cluster_id": cluster_id, "layers": layers})
        train = {"cluster_id": cluster_id, "dataset": name, "epochs": 1, "batch_size": 512}
        status = {"cluster_id": cluster_id, "detail": "summary"}
        params = {"name": "neural_train_distributed", "arguments": train}
        client.send({"jsonrpc": "2.0", "id": "train", "method": "tools/call", "params": params})
        replies, began_s = Replies(client), time.perf_counter()
        prepared_s, training = 0.0, "none"
        while training in ("none", "running"):
            time.sleep(PAUSE_S)
            replies.ask("ping", {})
            call = {"name": "neural_cluster_status", "arguments": status}
            found = replies.ask("tools/call", call)["result"]["structuredContent"]
            training = found["training_status"]
            if "train" in replies.late and not prepared_s:
                prepared_s = time.perf_counter() - began_s
                answer = replies.late["train"]["result"]
                if answer.get("isError"):
                    raise RuntimeError(answer["content"][0]["text"])
        if training != "completed":
            raise RuntimeError(str(found["training_error"]))
        yield "seconds to read, split and scale", prepared_s, float("inf")
        yield "seconds to the end of the epoch", time.perf_counter() - began_s, float("inf")
        yield "peak memory of the server, MB", peak_mb(server.pid), MAX_MB
        yield f"slowest of {len(replies.ms)} replies beside it, ms", max(replies.ms), MAX_REPLY_MS
        server.stdin.close()


def main() -> int:
    """Measure and compare with the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    within = True
    with tempfile.TemporaryDirectory() as folder:
        for name in write_files(Path(folder), rows):
            print(f"{name}, {rows:,} rows by {COLUMNS} columns")
            for what, value, limit in measure(name, Path(folder)):
                within = within and value <= limit
                print(f"  {what:<44} {value:10.1f}{'' if value <= limit else f'  above {limit:g}'}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
