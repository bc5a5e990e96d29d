"""Kill nodes and the process that starts them, at random and under load, while a client keeps asking.

python -m bench.soak [--minutes 10] [--seed 0] [--out FILE]

Five workers, a parameter server and a validator live through it: one task predicts without a pause, one reads
the status, one trains again and again, one changes the topology, one replaces what failed, and one kills or
freezes. Two workers are always spared, so that only the death of the process that starts nodes, which takes
all of them, excuses a prediction that nobody answers. Afterwards everything must be whole again. The exit
status is 1 when any of these was not so:

* nodes were harmed, most predictions were answered, nearly all while workers were spared, and answers were
  never missing for long;
* every prediction equals the one computed here from the stored weights that it names;
* every call returned in time, and every error was one that a caller is told to expect;
* the server's memory did not grow by more than 5 % after the first part of the storm;
* when all is quiet, the server holds no more descriptors than before and has no process but its nodes and the
  one that starts them; when it has ended, none is left.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from safetensors import safe_open

from bench.measure import process_tree
from bench.processes import command, descriptors, parent, resident_mb, started_at
from bench.soak_verdict import BACK_S, DEADLINE_MS, IN_TIME_S, Findings, victims
from client import Neural, Reply, ToolFailed, neural_server

WORKERS = 5
HIDDEN = (48, 32)
LAYERS = [
    *({"type": "dense", "units": units, "activation": "relu"} for units in HIDDEN),
    {"type": "dense", "units": 1, "activation": "linear"},
]
FEATURES, ROWS = 8, 600
FREEZE_SHARE = 0.15
ZYGOTE_EVERY_S = 150.0
"""The runtime gives up after five restarts in ten minutes; that is no fault to find here."""
WHOLE_AGAIN_S = 90.0
WEIGH_EVERY_S = 2.0
TOLERANCE = 1e-5
TOPOLOGIES = ("mesh", "ring", "star", "hierarchical")


class Weights:
    """Computes predictions from the files that a status names, in float64."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._known: dict[str, dict[str, Any]] = {}

    def note(self, status: Reply) -> None:
        """Read the weights of a bundle that is new."""
        serving = status["serving"]
        if serving is None or serving["bundle_sha"] in self._known or len(serving["files"]) != 1:
            return
        (file,) = serving["files"].values()
        try:
            with safe_open(self._state_dir / file, "np") as stored:
                header = json.loads(stored.metadata()["flow_nexus_neural"])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except OSError:
            return  # two versions later already
        self._known[serving["bundle_sha"]] = {"schema": header["schema"], "tensors": tensors}

    def predict(self, bundle_sha: str, row: list[float]) -> float | None:
        """The value for a row; None when the bundle's weights are not known."""
        known = self._known.get(bundle_sha)
        if known is None:
            return None
        schema, tensors = known["schema"], known["tensors"]
        mean, sd = (np.array([c[name][0] for c in schema["columns"]]) for name in ("mean", "sd"))
        h = np.clip((np.array(row) - mean) / sd, -6, 6)
        for number in range(len(HIDDEN) + 1):
            h = h @ tensors[f"layers.{number}.kernel"] + tensors[f"layers.{number}.bias"]
            h = np.maximum(h, 0) if number < len(HIDDEN) else h
        return float(h[0]) * float(schema["target_sd"]) + float(schema["target_mean"])


class Soak:
    """One cluster and everything that is done to it."""

    def __init__(self, server: Neural, pid: int, state_dir: Path, seed: int) -> None:
        self.found = Findings()
        self.pid = pid
        self.seen: dict[int, str] = {}
        self.cluster_id = ""
        self._server = server
        self._weights = Weights(state_dir)
        self._draw = np.random.Generator(np.random.PCG64(seed))
        self._data = self._make_data()
        self._nodes: list[Reply] = []
        self._harmed: set[int] = set()
        self._zygote_killed_s = -BACK_S
        self._answered_s = time.monotonic()

    def _make_data(self) -> Reply:
        x = self._draw.standard_normal((ROWS, FEATURES))
        y = np.tanh(x @ self._draw.standard_normal(FEATURES)) * 3 + 10
        return {"X": np.round(x, 4).tolist(), "y": np.round(y, 4).tolist()}

    async def call(self, tool: str, **arguments: Any) -> Reply | None:
        """Call a tool and judge how it went; None when it refused."""
        began_s = time.monotonic()
        reply: Reply | None = None
        try:
            reply = await self._server.call(tool, cluster_id=self.cluster_id, **arguments)
        except ToolFailed as failure:
            self.found.note_refusal(tool, str(failure))
        elapsed_s = time.monotonic() - began_s
        self.found.seconds.setdefault(tool, []).append(elapsed_s)
        if elapsed_s > IN_TIME_S[tool]:
            self.found.wrong.append(f"{tool} took {elapsed_s:.1f} s")
        return reply

    async def prepare(self) -> None:
        """Create, deploy, connect and train once."""
        created = await self._server.call("neural_cluster_init", name="soak", topology="mesh")
        self.cluster_id = created["cluster_id"]
        for role in ["worker"] * WORKERS + ["parameter_server", "validator"]:
            layers = LAYERS if role == "worker" else None
            await self.call("neural_node_deploy", role=role, layers=layers)
        await self.call("neural_cluster_connect", topology="mesh")
        await self._train_once()

    async def status(self) -> Reply | None:
        """The status; notes processes and weights."""
        status = await self.call("neural_cluster_status", detail="nodes")
        if status is not None:
            self._nodes = status["nodes"]
            self._weights.note(status)
            for pid in process_tree(self.pid):
                self.seen.setdefault(pid, started_at(pid))
        return status

    async def predict(self) -> None:
        """One prediction, computed again here."""
        row = [round(float(value), 3) for value in self._draw.standard_normal(FEATURES)]
        reply = await self.call(
            "neural_predict_distributed",
            input_data=row,
            aggregation="mean",
            deadline_ms=DEADLINE_MS,
        )
        self._note_prediction(answered=reply is not None)
        if reply is None:
            return
        expected = self._weights.predict(reply["bundle_sha"], row)
        if expected is None:
            await self.status()
            expected = self._weights.predict(reply["bundle_sha"], row)
        if expected is None:
            self.found.unproven += 1
        elif abs(reply["prediction"] - expected) > TOLERANCE * max(1.0, abs(expected)):
            self.found.wrong.append(
                f"predicted {reply['prediction']} where {expected} is right, by {reply['nodes_used']} nodes"
            )

    def _note_prediction(self, *, answered: bool) -> None:
        now_s = time.monotonic()
        excused = now_s - self._zygote_killed_s < BACK_S
        self.found.note_prediction(
            answered=answered, silent_s=now_s - self._answered_s, excused=excused
        )
        if answered:
            self._answered_s = now_s

    async def train(self) -> None:
        """One training, to its end."""
        await self._train_once()
        await anyio.sleep(0.5)

    async def _train_once(self) -> None:
        started = await self.call(
            "neural_train_distributed",
            dataset=self._data,
            epochs=8,
            batch_size=16,
            learning_rate=0.003,
            federated=True,
        )
        if started is None:
            return
        with anyio.move_on_after(300):
            while True:
                status = await self.status()
                if status is not None and status["training_status"] != "running":
                    self.found.done[f"trainings {status['training_status']}"] += 1
                    if status["training_error"] is not None:
                        self.found.errors[f"training: {status['training_error'][:120]}"] += 1
                    return
                await anyio.sleep(0.1)
        self.found.wrong.append("a training did not end in 300 s")

    async def connect(self) -> None:
        """Another topology."""
        reply = await self.call(
            "neural_cluster_connect", topology=str(self._draw.choice(TOPOLOGIES))
        )
        self.found.done["connects"] += reply is not None
        await anyio.sleep(float(self._draw.uniform(1, 4)))

    async def heal(self) -> None:
        """Replace what is failed now: a list that another task read may be of nodes that came back."""
        status = await self.status()
        for node in status["nodes"] if status is not None else ():
            if node["status"] == "failed":
                deployed = await self.call(
                    "neural_node_deploy", role=node["role"], replace_node_id=node["slot"]
                )
                self.found.done["replacements"] += deployed is not None
        await anyio.sleep(0.3)

    async def harm(self) -> None:
        """Kill or freeze a node that the server says is its own."""
        await anyio.sleep(float(self._draw.exponential(1.2)))
        status = await self.status()
        ours = set(process_tree(self.pid))
        chosen = victims(status["nodes"] if status is not None else (), self._harmed)
        chosen = [pid for pid in chosen if pid in ours]
        if not chosen:
            return
        frozen = self._draw.random() < FREEZE_SHARE
        victim = int(self._draw.choice(chosen))
        self._harmed.add(victim)
        self._signal(victim, signal.SIGSTOP if frozen else signal.SIGKILL)
        self.found.done["nodes frozen" if frozen else "nodes killed"] += 1

    async def harm_zygote(self) -> None:
        """Kill the process that starts nodes, and so every node."""
        await anyio.sleep(ZYGOTE_EVERY_S * float(self._draw.uniform(0.2, 1.0)))
        for pid in process_tree(self.pid)[1:]:
            if "node.zygote" in command(pid) and parent(pid) == self.pid:
                self._zygote_killed_s = time.monotonic()
                self._signal(pid, signal.SIGKILL)
                self.found.done["zygotes killed"] += 1
        await anyio.sleep(ZYGOTE_EVERY_S * 0.5)

    async def weigh(self) -> None:
        """The server's own memory now and then."""
        self.found.resident_mb.append(resident_mb(self.pid))
        await anyio.sleep(WEIGH_EVERY_S)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return  # somebody was faster

    async def whole(self) -> None:
        """Wait until every node is healthy, every edge works and nothing trains."""
        with anyio.move_on_after(WHOLE_AGAIN_S):
            while True:
                status = await self.status()
                if status is not None and status["training_status"] != "running":
                    if all(node["healthy"] for node in status["nodes"]):
                        break
                    await self.heal()
                await anyio.sleep(0.2)
            reply = await self.call("neural_cluster_connect", topology="ring")
            reply = await self.call("neural_cluster_connect", topology="mesh")
            edges = [] if reply is None else reply["edges"]
            n = WORKERS + 2
            if len(edges) != n * (n - 1) // 2 or not all(edge["latency_ms"] for edge in edges):
                self.found.wrong.append(f"{len(edges)} edges work in the end")
            for _ in range(20):
                await self.predict()
            return
        self.found.wrong.append(f"not whole again after {WHOLE_AGAIN_S:g} s")

    async def storm(self, minutes: float) -> None:
        """Do everything at once for some time, then judge it."""
        self.found.begin()
        self._answered_s = time.monotonic()
        with anyio.move_on_after(minutes * 60):
            async with anyio.create_task_group() as tasks:
                works = (self.predict, self.train, self.connect, self.heal, self.harm)
                for work in (*works, self.harm_zygote, self.weigh):
                    tasks.start_soon(self.for_ever, work)
        silent_s = time.monotonic() - self._answered_s
        self.found.outage_s = max(self.found.outage_s, silent_s)
        self.found.judge()

    async def for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again."""
        while True:
            await work()
            await anyio.lowlevel.checkpoint()

    def extra_processes(self) -> list[str]:
        """What runs below the server and is neither a node of the status nor the zygote."""
        nodes = {node["pid"] for node in self._nodes}
        others = [pid for pid in process_tree(self.pid)[1:] if pid not in nodes]
        return [
            f"{pid} {command(pid)!r}"
            for pid in others
            if not (parent(pid) == self.pid and "node.zygote" in command(pid))
        ]


async def soak(minutes: float, seed: int, scratch: Path | None = None) -> Findings:
    """Run it all; what was found."""
    with tempfile.TemporaryDirectory(prefix="flow-nexus-soak-", dir=scratch) as state_dir:
        before = set(process_tree(os.getpid()))
        async with neural_server("--state-dir", state_dir, "--log-level", "error") as server:
            (pid,) = [
                child
                for child in process_tree(os.getpid())
                if child not in before and parent(child) == os.getpid()
            ]
            run = Soak(server, pid, Path(state_dir), seed)
            await run.prepare()
            await run.whole()
            held = descriptors(pid)
            await run.storm(minutes)
            await run.whole()
            _compare(run, held, descriptors(pid))
        await _all_gone(run)
        return run.found


def _compare(run: Soak, before: Counter[str], after: Counter[str]) -> None:
    leaked = after - before
    if leaked.total() > 0:
        run.found.wrong.append(f"{leaked.total()} more descriptors: {dict(leaked)}")
    extra = run.extra_processes()
    if extra:
        run.found.wrong.append(f"processes that are nobody's: {extra}")


async def _all_gone(run: Soak) -> None:
    with anyio.move_on_after(5):
        while any(started_at(pid) == started for pid, started in run.seen.items()):  # noqa: ASYNC110 - processes set no event
            await anyio.sleep(0.05)
    left = [pid for pid, started in run.seen.items() if started_at(pid) == started]
    if left:
        run.found.wrong.append(f"processes that outlived the server: {left}")
    run.found.done["processes seen"] = len(run.seen)


def main() -> None:
    """Read the command line, run, tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--scratch", type=Path, default=None, help="where the state directory is")
    given = parser.parse_args()
    found = anyio.run(soak, given.minutes, given.seed, given.scratch)
    text = json.dumps(found.summary(), indent=1)
    if given.out is not None:
        given.out.write_text(text + "\n")
    print(text)
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
