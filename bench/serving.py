"""Suites `startup`, `spawn` and `predict`: the real server over stdio, seen from outside."""

import subprocess
import sys
import time

import anyio

from bench.measure import Record, interleave, load, record, tree_pss_mb
from bench.server_process import RawServer, raw_server
from client import neural_server
from trading import DistributedNeuralTrader, FederatedTradingLearning, SyntheticMarket
from trading.system import DATASET
from trading.trader import ARCHITECTURES, NODE_GROUPS

NODES = sum(group.count for group in NODE_GROUPS)


def measure_startup(*, repeats: int) -> list[Record]:
    """From exec to the answer of `initialize`, to a first deployed node; from end of input to gone."""
    load_start = load()
    seconds: dict[str, list[float]] = {
        "initialize answered": [],
        "first node deployed": [],
        "end of input to exit": [],
        "python -c 'import mcp'": [],
        "python -c 'import torch'": [],
    }
    memory: list[float | None] = []

    def one(name: str) -> None:
        if name == "server":
            memory.append(_start_once(seconds))
        else:
            seconds[name].append(_import_s(name.split("import ")[1].rstrip("'")))

    interleave(["server", "python -c 'import mcp'", "python -c 'import torch'"], repeats, one)
    peak = max((reading for reading in memory if reading is not None), default=None)
    return [
        record(
            "startup",
            "one node",
            name,
            values,
            unit="s",
            repeats=repeats,
            load_start=load_start,
            peak_pss_mb=peak if name == "first node deployed" else None,
        )
        for name, values in seconds.items()
    ]


def measure_spawn(*, repeats: int) -> list[Record]:
    """Eleven nodes by eleven calls from a warm zygote, beside eleven processes that import torch."""
    load_start = load()
    warm_s: list[float] = []
    each_ms: list[float] = []
    exec_s: list[float] = []
    memory: list[float | None] = []

    def one(name: str) -> None:
        if name == "ours":
            memory.append(_spawn_once(warm_s, each_ms))
        else:
            exec_s.append(_exec_s(NODES))

    interleave(["ours", "exec"], repeats, one)
    common = {"repeats": repeats, "load_start": load_start}
    ratio = sorted(warm_s)[len(warm_s) // 2] / sorted(exec_s)[len(exec_s) // 2]
    return [
        record(
            "spawn",
            f"{NODES} nodes",
            "ours, warm zygote",
            warm_s,
            unit="s",
            config="sequential neural_node_deploy calls over stdio, confined, durable",
            ratio_to_reference=ratio,
            reference="exec",
            peak_pss_mb=max((reading for reading in memory if reading is not None), default=None),
            **common,
        ),
        record(
            "spawn",
            f"{NODES} nodes",
            "exec",
            exec_s,
            unit="s",
            config="as many fresh interpreters importing torch, started together",
            **common,
        ),
        record("spawn", "one node", "ours, warm zygote", each_ms, unit="ms", **common),
    ]


def measure_predict(*, calls: int) -> list[Record]:
    """Latency of one record through the tool, as the client and as the server measured it."""
    return anyio.run(_predict, calls)


async def _predict(calls: int) -> list[Record]:
    market = SyntheticMarket(seed=1)
    async with neural_server() as server:
        trader = DistributedNeuralTrader(server, seed=1)
        cluster_id = await trader.initialize_cluster()
        learning = FederatedTradingLearning(server, cluster_id)
        await learning.start_federated_training(DATASET, epochs=1)
        load_start = load()
        records = []
        for pause_s, name in ((0.0, "back to back"), (0.1, "every 100 ms")):
            client_ms, server_ms = [], []
            for _ in range(calls):
                asked = market.tick("BTC").record
                started_s = time.perf_counter()
                reply = await server.call(
                    "neural_predict_distributed",
                    cluster_id=cluster_id,
                    input_data=asked,
                    aggregation="ensemble",
                )
                elapsed_s = time.perf_counter() - started_s
                client_ms.append(elapsed_s * 1000)
                server_ms.append(reply["latency_ms"])
                await anyio.sleep(max(0.0, pause_s - elapsed_s))
            for where, values in (("client", client_ms), ("inside the server", server_ms)):
                records.append(
                    record(
                        "predict",
                        name,
                        where,
                        values,
                        unit="ms",
                        first=values[0],
                        load_start=load_start,
                        config="6 workers of 834,561 parameters, one record over stdio",
                    )
                )
        await server.call("neural_cluster_terminate", cluster_id=cluster_id)
    return records


def _start_once(seconds: dict[str, list[float]]) -> float | None:
    with raw_server() as server:
        server.initialize()
        seconds["initialize answered"].append(server.elapsed_s())
        _deploy(server, _new_cluster(server), "worker", "large", [])
        seconds["first node deployed"].append(server.elapsed_s())
        memory = tree_pss_mb(server.process.pid)
        closed_s = time.monotonic()
    seconds["end of input to exit"].append(time.monotonic() - closed_s)
    return memory


def _spawn_once(warm_s: list[float], each_ms: list[float]) -> float | None:
    with raw_server() as server:
        server.initialize()
        first = _new_cluster(server)
        _deploy(server, first, "worker", "large", [])
        server.tool("neural_cluster_terminate", cluster_id=first)
        cluster_id = _new_cluster(server)
        started_s = time.monotonic()
        for group in NODE_GROUPS:
            for _ in range(group.count):
                asked_s = time.monotonic()
                _deploy(server, cluster_id, group.role, group.model, list(group.capabilities))
                each_ms.append((time.monotonic() - asked_s) * 1000)
        warm_s.append(time.monotonic() - started_s)
        return tree_pss_mb(server.process.pid)


def _new_cluster(server: RawServer) -> str:
    return str(server.tool("neural_cluster_init", name="bench", architecture="hybrid")["id"])


def _deploy(
    server: RawServer, cluster_id: str, role: str, model: str, capabilities: list[str]
) -> None:
    server.tool(
        "neural_node_deploy",
        cluster_id=cluster_id,
        role=role,
        model=model,
        capabilities=capabilities or ["training", "inference"],
        layers=ARCHITECTURES[role],
    )


def _import_s(module: str) -> float:
    started_s = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.monotonic() - started_s


def _exec_s(count: int) -> float:
    started_s = time.monotonic()
    processes = [subprocess.Popen([sys.executable, "-c", "import torch"]) for _ in range(count)]
    for process in processes:
        if process.wait() != 0:
            raise SystemExit("import torch failed")
    return time.monotonic() - started_s
