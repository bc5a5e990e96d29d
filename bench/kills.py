"""Kill the server at random while it trains, connects and predicts; compare with an undisturbed run.

python -m bench.kills [--kills 102] [--seed 0] [--out FILE]

For each way of training the server is first left alone; then the same calls are made on another state
directory and the server is killed with SIGKILL at random times: in the rounds, in the middle of a prediction
and of a connect that was sent and not answered, and while the other roles learn after the rounds. Whoever
starts it again asks for the status, and now and then for a prediction. The exit status is 1 when any of these
was not so:

* the training ended as the undisturbed one did, with weights of the same digest and the same prediction;
* a version that was told or that answered was there after the next start: none ever went back;
* no process of a killed server was left after two seconds;
* what is stored verifies, after every kill and at the end.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import process_tree
from bench.server_process import RawServer
from flow_nexus_neural.engine.storage.snapshot import copy_state_dir
from flow_nexus_neural.engine.storage.verification import verify

LAYERS = json.dumps(
    [{"type": "dense", "units": 32, "activation": "relu"}, {"type": "dense", "units": 3}]
)
ROUNDS = 30
TRAIN = {"dataset": "sklearn:wine", "epochs": ROUNDS, "patience": ROUNDS, "seed": 5}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "proofs": ({"consensus": "proof-of-learning"}, {"federated": True}),
    "one epoch": ({"consensus": "proof-of-learning", "topology": "ring"}, {"federated": False}),
    "byzantine": ({"consensus": "byzantine", "topology": "hierarchical"}, {"federated": True}),
    "raft": ({"consensus": "raft"}, {"federated": True, "aggregation_method": "fedadam"}),
    "gossip": ({"consensus": "gossip", "topology": "ring"}, {"federated": True}),
    "scaffold": (
        {"consensus": "raft", "topology": "ring"},
        {"federated": True, "aggregation_method": "scaffold", "optimizer": "sgd"},
    ),
}
"""By name: how the cluster is made, and how it is trained. No star: to connect one averages."""
MOMENTS = ("round", "predict", "round", "connect")
"""When the server is killed while the rounds run, in turn."""
IN_ROLES = 4
"""Kills of a way that are kept for what comes after the rounds."""
RECORD = [0.5] * 13
ROLES = ("aggregator", "validator")
WORKERS = 4
GONE_S = 2.0
LIMIT_S = 600.0


@dataclass
class Outcome:
    """What became of one way of training."""

    kills: int = 0
    moments: dict[str, int] = field(default_factory=dict)
    resumed: int = 0
    rounds_at_kills: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Server:
    """The real server on one state directory, again and again."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "flow_nexus_neural", "--state-dir", str(self.state_dir)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.rpc = RawServer(process, time.monotonic())
        self.rpc.initialize()

    def kill(self, outcome: Outcome) -> None:
        """End it by SIGKILL; nothing of it may be left."""
        pids = process_tree(self.rpc.process.pid)
        self.rpc.process.send_signal(signal.SIGKILL)
        self.rpc.process.wait()
        until = time.monotonic() + GONE_S
        while (left := [pid for pid in pids if _runs(pid)]) and time.monotonic() < until:
            time.sleep(0.02)
        if left:
            outcome.faults.append(f"{len(left)} processes were left after a kill")
        outcome.kills += 1
        self._close()

    def start_again(self, outcome: Outcome) -> None:
        """Check what is stored, and serve it."""
        with tempfile.TemporaryDirectory() as copy:
            copy_state_dir(self.state_dir, Path(copy))
            outcome.faults += [f"after a kill: {one}" for one in verify(Path(copy)).damages]
        self._start()

    def end(self) -> None:
        """Close its input and wait."""
        assert self.rpc.process.stdin is not None
        self.rpc.process.stdin.close()
        self.rpc.process.wait(timeout=60)
        self._close()

    def _close(self) -> None:
        for stream in (self.rpc.process.stdin, self.rpc.process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def begin(server: Server, way: str) -> str:
    """A cluster whose training runs; its id."""
    init, train = WAYS[way]
    made = server.rpc.tool("neural_cluster_init", name="kills", seed=7, daaEnabled=False, **init)
    cluster: str = made["cluster_id"]
    for _ in range(WORKERS):
        server.rpc.tool("neural_node_deploy", cluster_id=cluster, node_type="worker", layers=LAYERS)
    for role in ROLES:
        server.rpc.tool("neural_node_deploy", cluster_id=cluster, node_type=role)
    server.rpc.tool("neural_cluster_connect", cluster_id=cluster, topology=topology_of(way))
    server.rpc.tool("neural_train_distributed", cluster_id=cluster, **TRAIN, **train)
    return cluster


def topology_of(way: str) -> str:
    """How the nodes of a way are linked."""
    topology: str = WAYS[way][0].get("topology", "mesh")
    return topology


def status(server: Server, cluster: str, **more: Any) -> dict[str, Any]:
    """The status of a cluster."""
    return server.rpc.tool("neural_cluster_status", cluster_id=cluster, **more)


def ended(server: Server, cluster: str) -> dict[str, Any]:
    """The status when the training has ended."""
    until = time.monotonic() + LIMIT_S
    while True:
        found = status(server, cluster, wait_seconds=10, until="done")
        if found["training_status"] != "running" or time.monotonic() > until:
            return found


def is_running(server: Server, cluster: str) -> bool:
    """Whether its training has not ended."""
    running: bool = status(server, cluster)["training_status"] == "running"
    return running


def going_on(server: Server, cluster: str) -> None:
    """Wait until a round was committed since the server was started, or the training has ended."""
    before = status(server, cluster)["training"]["current_round"]
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        found = status(server, cluster, wait_seconds=5)
        if found["training_status"] != "running" or found["training"]["current_round"] > before:
            return


def after_rounds(server: Server, cluster: str) -> None:
    """Wait until something runs that comes after the rounds, or the training has ended."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        found = status(server, cluster)
        training = found["training"]
        rounds_done = training["current_round"] >= training["total_rounds"]
        if found["training_status"] != "running" or rounds_done:
            return
        time.sleep(0.02)


def result(server: Server, cluster: str, found: dict[str, Any]) -> tuple[Any, ...]:
    """What has to be equal."""
    training = found["training"]
    evidence = training["evidence"]
    answer = predicted(server, cluster)
    return (
        found["training_status"],
        training["current_round"],
        evidence["weights_digest_before"],
        evidence["weights_digest_after"],
        evidence["steps"],
        found["global_accuracy"],
        found["global_loss"],
        answer["prediction"],
    )


def predicted(server: Server, cluster: str) -> dict[str, Any]:
    """An answer by every node."""
    return server.rpc.tool("neural_predict_distributed", **question(cluster))


def question(cluster: str) -> dict[str, Any]:
    """What a prediction is asked with."""
    record = json.dumps(RECORD)
    return {"cluster_id": cluster, "input_data": record, "deadline_ms": 20_000}


def wait_for(
    moment: str, server: Server, cluster: str, way: str, draw: np.random.Generator
) -> None:
    """Come to a random time at which such a thing goes on."""
    if moment == "predict":
        server.rpc.send_tool("neural_predict_distributed", **question(cluster))
        time.sleep(draw.uniform(0.0, 0.1))
    elif moment == "connect":
        topology = topology_of(way)
        server.rpc.send_tool("neural_cluster_connect", cluster_id=cluster, topology=topology)
        time.sleep(draw.uniform(0.0, 0.5))
    elif moment == "roles":
        after_rounds(server, cluster)
        time.sleep(draw.uniform(0.0, 1.5))
    else:
        time.sleep(draw.uniform(0.05, 2.5))


def disturbed(
    state_dir: Path, way: str, kills: int, draw: np.random.Generator
) -> tuple[Outcome, Any]:
    """A training whose server is killed so many times, and what it came to."""
    outcome, server, newest = Outcome(), Server(state_dir), 0
    cluster = begin(server, way)
    for number in range(kills):
        in_rounds = number < kills - IN_ROLES
        moment = MOMENTS[number % len(MOMENTS)] if in_rounds else "roles"
        if number % 2 and in_rounds:  # else it may be killed while it comes back, again and again
            going_on(server, cluster)
        found = status(server, cluster)
        newest = max(newest, found["model_version"] or 0)
        wait_for(moment, server, cluster, way, draw)
        ran = moment in ("predict", "connect") or is_running(server, cluster)
        moment = moment if ran else "none: the training had ended"
        outcome.rounds_at_kills.append(found["training"]["current_round"])
        outcome.moments[moment] = outcome.moments.get(moment, 0) + 1
        server.kill(outcome)
        server.start_again(outcome)
        if number % 3 == 1 and newest:
            answer = predicted(server, cluster)
            if answer["model_version"] < newest:
                outcome.faults.append(f"version {answer['model_version']} answered after {newest}")
        found = status(server, cluster)
        if (found["model_version"] or 0) < newest:
            outcome.faults.append(f"version {found['model_version']} after {newest}")
    found = ended(server, cluster)
    outcome.resumed = (found["training"]["resumed"] or {"times": 0})["times"]
    came_to = result(server, cluster, found)
    server.end()
    outcome.faults += [f"at the end: {one}" for one in verify(state_dir).damages]
    return outcome, (came_to, found["training_error"])


def main() -> int:
    """Kill, compare, report; 1 after any fault."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=102, help="in all, divided among the ways")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--out", type=Path, help="write what was found as JSON")
    flags = parser.parse_args()
    draw, report = np.random.Generator(np.random.PCG64(flags.seed)), {}
    for way in flags.ways:
        with tempfile.TemporaryDirectory(prefix="flow-nexus-kills-") as scratch:
            whole = Server(Path(scratch) / "whole")
            cluster = begin(whole, way)
            expected = result(whole, cluster, ended(whole, cluster))
            whole.end()
            each = max(1, flags.kills // len(flags.ways))
            outcome, (found, error) = disturbed(Path(scratch) / "killed", way, each, draw)
        if found != expected:
            outcome.faults.append(f"came to {found} ({error}) and not to {expected}")
        report[way] = asdict(outcome)
        moments = ", ".join(f"{n} in {name}" for name, n in outcome.moments.items())
        print(
            f"{way}: {outcome.kills} kills ({moments}), went on {outcome.resumed} times,",
            end=" ",
            flush=True,
        )
        print("; ".join(outcome.faults) or "the same weights", flush=True)
    if flags.out is not None:
        load = os.getloadavg()
        flags.out.write_text(json.dumps({"load": load, "ways": report}, indent=2) + "\n")
    return int(any(one["faults"] for one in report.values()))


if __name__ == "__main__":
    sys.exit(main())
