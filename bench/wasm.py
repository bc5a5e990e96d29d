"""WebAssembly beside PyTorch: single networks, what a cluster chooses, and what a caller waits for.

    python -m bench.wasm            # prints four tables; all times are medians of one run, in turn

1. One process, no node: CPU time of a call, called several times in a row, and how many times faster
   WebAssembly is (below 1: slower).
2. The same for one record, each call after one of the other: what a call costs when the processor holds
   nothing of it.
3. One node of a cluster: what was chosen for each batch, and how long node and module then take.
4. A prediction of eleven nodes: by their processes and by WebAssembly, inside the engine and at a client.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import anyio
import numpy as np
import torch

from bench.measure import load
from client import neural_server
from flow_nexus_neural.coordination.backend_choice import BUCKETS, Choice
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.prediction.fan_out import FanOut
from flow_nexus_neural.engine.prediction.question import MAX_DEADLINE_S, Question
from flow_nexus_neural.engine.requests import (
    ConnectRequest,
    DeployRequest,
    InitRequest,
    PredictRequest,
    StatusRequest,
    TrainRequest,
)
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.node.initializers import initial_weights
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.service import infer
from flow_nexus_neural.node.weights import Weights
from flow_nexus_neural.protocol.digest import named_tensors
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.settings import Settings
from flow_nexus_neural.wasm.compile.network import compile_network
from flow_nexus_neural.wasm.machine import LoadedNetwork, assemble
from trading.trader import ARCHITECTURES

BLOCKS, TURNS, QUESTIONS, PREDICTIONS = 30, 400, 20, 200
BLOCK_S = 0.5e-3
RELU = {"activation": "relu"}
SERIES = InputSpec(vector_length=50, n_scalars=0)


def dense(*units):
    return [{"type": "dense", "units": u, **RELU} for u in units]


def scalars(n):
    return InputSpec(vector_length=0, n_scalars=n)


CONVOLUTIONAL = [
    {"type": "conv1d", "filters": 16, "kernel_size": 3, **RELU},
    {"type": "conv1d", "filters": 32, "kernel_size": 3, **RELU},
    {"type": "global_average_pooling1d"},
    *dense(16),
]
LSTM = [{"type": "lstm", "units": 32}]
ROLES = {
    "validator": (scalars(20), ARCHITECTURES["validator"]),
    "aggregator": (scalars(64), ARCHITECTURES["aggregator"]),
    "parameter server": (scalars(54), ARCHITECTURES["parameter_server"]),
}
"""Networks of the complete example, with as many inputs as they have there."""
NETWORKS = {
    **ROLES,
    "dense 50-64-32-1": (scalars(50), dense(64, 32)),
    "dense 50-512-256-1": (scalars(50), dense(512, 256)),
    "convolutional, 50 steps": (SERIES, CONVOLUTIONAL),
    "LSTM of 32, 50 steps": (SERIES, LSTM),
    "worker, 50 steps": (SERIES, ARCHITECTURES["worker"]),
}
CHOSEN = {
    "dense 20-64-32-1": (1, dense(64, 32)),
    "dense 20-512-256-1": (1, dense(512, 256)),
    "convolutional, 20 steps": (20, CONVOLUTIONAL),
    "LSTM of 32, 20 steps": (20, LSTM),
    "GRU of 64, 20 steps": (20, [{"type": "gru", "units": 64}]),
}
"""Steps and layers."""


class Pair:
    """One network as PyTorch eager and as WebAssembly: from an array of rows to an array of outputs."""

    def __init__(self, spec, layers):
        parsed = parse_layers(layers).layers
        plan = plan_network(
            parsed, input=spec, task="binary", n_outputs=1, max_parameters=10**7
        ).plan
        state = initial_weights(plan, 1)
        self.spec, self.network, self.weights = spec, Network(plan), Weights(plan)
        self.weights.load(*state)
        compiled = compile_network(plan)
        self.module = LoadedNetwork(compiled, assemble(compiled.text))
        self.module.load(named_tensors(plan, *state))

    def rows(self, batch):
        draw = np.random.default_rng(batch)
        return draw.normal(size=(batch, *self.spec.row_shape)).astype(np.float32)

    def by_torch(self, x):
        return infer(self.network, self.weights, x)

    def by_wasm(self, x):
        return self.module.infer(x)

    def in_a_row_us(self, batch):
        """CPU time of a call by either, blocks of several calls in turn."""
        x, calls, found = self.rows(batch), (self.by_torch, self.by_wasm), ([], [])
        repeats = [max(1, int(BLOCK_S / shortest_s(call, x))) for call in calls]
        for _ in range(BLOCKS):
            for call, n, kept in zip(calls, repeats, found, strict=True):
                call(x)
                began_s = time.thread_time()
                for _ in range(n):
                    call(x)
                kept.append((time.thread_time() - began_s) / n * 1e6)
        return [median(kept) for kept in found]

    def in_turn_us(self):
        """Time of a call for one record by either, each after one of the other."""
        x, by_torch, by_wasm = self.rows(1), [], []
        for _ in range(TURNS):
            began_s = time.perf_counter()
            self.by_torch(x)
            between_s = time.perf_counter()
            self.by_wasm(x)
            by_wasm.append(time.perf_counter() - between_s)
            by_torch.append(between_s - began_s)
        return median(by_torch) * 1e6, median(by_wasm) * 1e6


def shortest_s(call, x):
    def one():
        began_s = time.perf_counter()
        call(x)
        return time.perf_counter() - began_s

    return min(one() for _ in range(5))


async def trained(engine, layers, *, steps=1, count=1):
    """A trained cluster all of whose nodes have been measured."""
    draw = np.random.default_rng(0).normal(size=(400, 20 if steps == 1 else 3)).round(4)
    data = {"X": draw.tolist(), "y": [int(row.sum() > 0) for row in draw]}
    name = (
        await engine.init_cluster(InitRequest(name="bench", topology="star", seed=1))
    ).cluster_id
    await engine.deploy_node(DeployRequest(cluster_id=name, layers=layers, count=count))
    await engine.connect(ConnectRequest(cluster_id=name))
    window = None if steps == 1 else steps
    await engine.train(TrainRequest(cluster_id=name, dataset=data, epochs=1, window=window))
    while True:
        status = await engine.status(StatusRequest(cluster_id=name, detail="full", wait_seconds=5))
        reasons = [node.reason or "" for node in status.wasm.nodes.values()]
        if status.training_status != "running" and not any("measured" in one for one in reasons):
            return name, status.wasm.nodes["worker-0"]


async def chosen(engine, name, node):
    """By batch what was chosen, and milliseconds of a question to the node and to the module, in turn."""
    cluster = engine.cluster(name)
    serving, slots, committed = cluster.backends, list(cluster.slots), cluster.committed
    everywhere = Choice(backend=dict.fromkeys(BUCKETS, "wasm"))
    measured = serving._measured  # noqa: SLF001 - what lost must be timed too
    measured.update({slot: replace(known, choice=everywhere) for slot, known in measured.items()})
    shape = committed.loaded_into(slots[0].name).plan.input.row_shape
    for batch in BUCKETS:
        x = np.random.default_rng(batch).normal(size=(batch, *shape)).astype(np.float32)
        times = {"torch": [], "wasm": []}
        for number in range(2 * QUESTIONS):
            question = Question(committed, x.copy(), usual=True, by_nodes=number % 2 == 0)
            fan_out, began_s = FanOut(cluster, question), time.perf_counter()
            await fan_out.ask(slots, MAX_DEADLINE_S, None, len(slots))
            taken_ms = (time.perf_counter() - began_s) * 1e3
            for kind in set(fan_out.backends.values()) if number > 3 else ():
                times[kind].append(taken_ms)
        yield node.backend[str(batch)], [median(kept) for kept in times.values() if kept]


async def choices():
    print("| one node | " + " | ".join(f"batch {b}" for b in BUCKETS) + " |")
    print("| --- |" + " --- |" * len(BUCKETS))
    async with Engine.open(Settings(state_dir=Path(tempfile.mkdtemp()))) as engine:
        for title, (steps, layers) in CHOSEN.items():
            name, node = await trained(engine, layers, steps=steps)
            cells = [
                f"{backend}: {' / '.join(f'{one:.2f}' for one in ms)} ms"
                async for backend, ms in chosen(engine, name, node)
            ]
            print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


async def engine_ms():
    """Milliseconds of predictions by eleven nodes inside the engine, by either, in turn."""
    async with Engine.open(Settings(state_dir=Path(tempfile.mkdtemp()))) as engine:
        name, _ = await trained(engine, dense(32, 16), count=11)
        cluster, times = engine.cluster(name), {"torch": [], "wasm": []}
        backends, record = cluster.backends, [0.5] * 20
        for number in range(2 * PREDICTIONS):
            cluster.backends = (None, backends)[number % 2]
            began_s = time.perf_counter()
            answer = await engine.predict(PredictRequest(cluster_id=name, input_data=record))
            for kind in answer.backends:
                times[kind].append((time.perf_counter() - began_s) * 1e3)
        return times


async def client_ms():
    """Milliseconds of the same at a client over stdio, and CPU time of client and server for each."""
    async with neural_server() as server:
        draw = np.random.default_rng(0).normal(size=(400, 20)).round(4)
        data = {"X": draw.tolist(), "y": [int(row.sum() > 0) for row in draw]}
        name = (await server.call("neural_cluster_init", name="b", topology="star", seed=1))["id"]
        await server.call("neural_node_deploy", cluster_id=name, count=11, layers=dense(32, 16))
        await server.call("neural_cluster_connect", cluster_id=name)
        await server.call("neural_train_distributed", cluster_id=name, dataset=data, epochs=1)
        while True:
            status = await server.call(
                "neural_cluster_status", cluster_id=name, detail="full", wait_seconds=2
            )
            if "measured" not in json.dumps(status["wasm"]["nodes"]).replace("_measured", ""):
                break
        at_client, in_server, began_s = [], [], time.process_time()
        for _ in range(PREDICTIONS):
            asked_s = time.perf_counter()
            answer = await server.call(
                "neural_predict_distributed", cluster_id=name, input_data=[0.5] * 20
            )
            at_client.append((time.perf_counter() - asked_s) * 1e3)
            in_server.append(answer["latency_ms"])
        client_cpu_ms = (time.process_time() - began_s) / PREDICTIONS * 1e3
        return at_client, in_server, client_cpu_ms


def main():
    torch.set_num_threads(1)
    print(
        f"load {load():.1f}\n| network | "
        + " | ".join(f"batch {b}" for b in BUCKETS)
        + " | apart |"
    )
    print("| --- |" + " --- |" * (len(BUCKETS) + 1))
    pairs = {name: Pair(*given) for name, given in NETWORKS.items()}
    for name, pair in pairs.items():
        cells, apart = [], 0.0
        for batch in BUCKETS:
            slow_us, fast_us = pair.in_a_row_us(batch)
            x = pair.rows(batch)
            apart = max(apart, float(np.abs(pair.by_torch(x) - pair.by_wasm(x)).max()))
            cells.append(f"{fast_us:.0f}, x{slow_us / fast_us:.1f}")
        print(f"| {name} | " + " | ".join(cells) + f" | {apart:.0e} |", flush=True)
    print("\none record, calls in turn: microseconds of PyTorch and of WebAssembly")
    for name in ROLES:
        slow_us, fast_us = pairs[name].in_turn_us()
        print(f"{name}: {slow_us:.1f}, {fast_us:.1f}, x{slow_us / fast_us:.1f}", flush=True)
    print("\nwhat was chosen: milliseconds of the node / of the module")
    anyio.run(choices)
    for kind, ms in anyio.run(engine_ms).items():
        print(f"11 nodes, {kind}, in the engine: {quantiles(ms)}")
    at_client, in_server, client_cpu_ms = anyio.run(client_ms)
    print(f"11 nodes, wasm, at the client: {quantiles(at_client)}; its CPU {client_cpu_ms:.1f} ms")
    print(f"of that in the engine: {quantiles(in_server)}; load {load():.1f}")


def quantiles(ms: Sequence[float]):
    p50, p99 = np.percentile(ms, (50, 99))
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms over {len(ms)}"


if __name__ == "__main__":
    main()
