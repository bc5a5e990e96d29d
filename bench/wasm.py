"""WebAssembly beside PyTorch: single networks in this process, and a prediction of a cluster of 11 nodes.

    python -m bench.wasm            # prints two tables; times are medians of one run, in turn

The first table is in one process, without a node: CPU time of a call, and how many times faster WebAssembly
is (below 1: slower). The second is what a caller of the engine waits for, by nodes and by WebAssembly.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import anyio
import numpy as np
import torch

from flow_nexus_neural.engine.engine import Engine
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

BATCHES = (1, 8, 32, 100)
CALLS = 40
RELU = {"activation": "relu"}
FLAT, SERIES = InputSpec(vector_length=0, n_scalars=50), InputSpec(vector_length=50, n_scalars=0)
NETWORKS = {
    "dense 50-64-32-1": (FLAT, [{"type": "dense", "units": u, **RELU} for u in (64, 32)]),
    "dense 50-512-256-1": (FLAT, [{"type": "dense", "units": u, **RELU} for u in (512, 256)]),
    "convolutional, 50 steps": (
        SERIES,
        [
            {"type": "conv1d", "filters": 16, "kernel_size": 3, **RELU},
            {"type": "conv1d", "filters": 32, "kernel_size": 3, **RELU},
            {"type": "global_average_pooling1d"},
            {"type": "dense", "units": 16, **RELU},
        ],
    ),
    "LSTM of 32, 50 steps": (SERIES, [{"type": "lstm", "units": 32}]),
    "LSTM of 256 and attention, 50 steps": (
        SERIES,
        [
            {"type": "lstm", "units": 256, "return_sequences": True},
            {"type": "attention", "heads": 8, "key_dim": 64},
            {"type": "dense", "units": 128, **RELU},
            {"type": "dense", "units": 64, "activation": "tanh"},
        ],
    ),
    "aggregator 256-128-1": (
        InputSpec(vector_length=0, n_scalars=64),
        [{"type": "dense", "units": 256, **RELU}, {"type": "dense", "units": 128, **RELU}],
    ),
    "validator 64-32-1": (
        InputSpec(vector_length=0, n_scalars=20),
        [{"type": "dense", "units": 64, **RELU}, {"type": "dense", "units": 32, **RELU}],
    ),
    "parameter server 512-256-1": (
        InputSpec(vector_length=0, n_scalars=54),
        [{"type": "dense", "units": 512, **RELU}, {"type": "dense", "units": 256, **RELU}],
    ),
}


def timed(spec, layers):
    """Microseconds of PyTorch and WebAssembly by batch, and how far their outputs are apart."""
    plan = plan_network(
        parse_layers(layers).layers, input=spec, task="binary", n_outputs=1, max_parameters=10**7
    ).plan
    state = initial_weights(plan, 1)
    network, weights = Network(plan), Weights(plan)
    weights.load(*state)
    compiled = compile_network(plan)
    module = LoadedNetwork(compiled, assemble(compiled.text))
    module.load(named_tensors(plan, *state))
    found, apart = {}, 0.0
    for batch in BATCHES:
        x = np.random.default_rng(batch).normal(size=(batch, *spec.row_shape)).astype(np.float32)
        apart = max(apart, float(np.abs(infer(network, weights, x) - module.infer(x)).max()))
        by_torch, by_wasm = [], []
        for _ in range(CALLS):
            began = time.thread_time()
            infer(network, weights, x)
            between = time.thread_time()
            module.infer(x)
            by_torch.append(between - began)
            by_wasm.append(time.thread_time() - between)
        times = by_torch, by_wasm
        found[batch] = tuple(median(kept[5:]) * 1e6 for kept in times)
    return found, apart


async def cluster_ms(workers=11, calls=200):
    """Milliseconds of a prediction, p50 and p99, by nodes and by WebAssembly, of one cluster in turn."""
    data = {"X": np.random.default_rng(0).normal(size=(400, 3)).round(4).tolist()}
    data["y"] = [int(sum(row) > 0) for row in data["X"]]
    async with Engine.open(Settings(state_dir=Path(tempfile.mkdtemp()))) as engine:
        made = await engine.init_cluster(InitRequest(name="bench", topology="star", seed=1))
        name = made.cluster_id
        layers = [{"type": "dense", "units": u, **RELU} for u in (32, 16)]
        await engine.deploy_node(DeployRequest(cluster_id=name, layers=layers, count=workers))
        await engine.connect(ConnectRequest(cluster_id=name))
        await engine.train(TrainRequest(cluster_id=name, dataset=data, epochs=2))
        status = StatusRequest(cluster_id=name, detail="full", wait_seconds=5)
        while not (await engine.status(status)).wasm.active:
            pass
        await anyio.sleep(1.0)
        cluster, times = engine.cluster(name), {"torch": [], "wasm": []}
        backends = cluster.backends
        for number in range(2 * calls):
            kind = ("torch", "wasm")[number % 2]
            cluster.backends = backends if kind == "wasm" else None
            began = time.perf_counter()
            answer = await engine.predict(
                PredictRequest(cluster_id=name, input_data=[1.0, 0.0, -1.0])
            )
            if answer.backends == {kind: workers}:
                times[kind].append((time.perf_counter() - began) * 1e3)
    return {kind: (len(t), *np.percentile(t, (50, 99))) for kind, t in times.items()}


def main():
    torch.set_num_threads(1)
    print("| network | " + " | ".join(f"batch {b}" for b in BATCHES) + " | apart |")
    print("| --- |" + " --- |" * (len(BATCHES) + 1))
    for name, (spec, layers) in NETWORKS.items():
        found, apart = timed(spec, layers)
        cells = [f"{w:.0f} us, x{t / w:.2f}" for t, w in found.values()]
        print(f"| {name} | " + " | ".join(cells) + f" | {apart:.0e} |", flush=True)
    for kind, (count, p50, p99) in anyio.run(cluster_ms).items():
        print(f"11 nodes, {kind}: p50 {p50:.2f} ms, p99 {p99:.2f} ms over {count}")


if __name__ == "__main__":
    main()
