"""Processor time of one prediction through the tool: what the server and what all its nodes take, per call.

python -m bench.predict_cost [--calls 300] [--only dense document]

Eleven nodes answer single records over stdio, one call after the other, with aggregation `ensemble`: eleven
dense workers, or the roles and networks of the document. Unlike latency, processor time counts nothing of
what other processes of the machine do; the client's own is left out.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.measure import load
from bench.server_process import RawServer, raw_server
from trading import SyntheticMarket
from trading.trader import ARCHITECTURES, NODE_GROUPS

BLOCK: Final = 20
"""Calls between two readings of the clocks; the median of the blocks is printed."""
MARKET: Final = "crypto_market_historical_data#rows=1000"
DENSE: Final = [{"type": "dense", "units": 64, "activation": "relu"}]


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--only", nargs="*", choices=CLUSTERS, default=tuple(CLUSTERS))
    given = parser.parse_args()
    print(f"load average {load()}; medians of blocks of {BLOCK} calls, ms of processor time a call")
    for name in given.only:
        with raw_server() as server:
            server.initialize()
            cluster_id = CLUSTERS[name](server)
            print(_line(name, _measure(server, cluster_id, given.calls)), flush=True)


def _dense(server: RawServer) -> str:
    cluster_id = str(server.tool("neural_cluster_init", name="dense", seed=1)["cluster_id"])
    server.tool("neural_node_deploy", cluster_id=cluster_id, count=11, layers=DENSE)
    return _trained(server, cluster_id)


def _document(server: RawServer) -> str:
    made = server.tool(
        "neural_cluster_init",
        name="document",
        topology="hierarchical",
        architecture="hybrid",
        consensus="byzantine",
        seed=1,
    )
    for group in NODE_GROUPS:
        server.tool(
            "neural_node_deploy",
            cluster_id=made["cluster_id"],
            role=group.role,
            model=group.model,
            capabilities=list(group.capabilities),
            count=group.count,
            layers=ARCHITECTURES[group.role],
        )
    return _trained(server, made["cluster_id"])


CLUSTERS: Final = {"dense": _dense, "document": _document}


def _trained(server: RawServer, cluster_id: str) -> str:
    server.tool(
        "neural_train_distributed", cluster_id=cluster_id, dataset=MARKET, epochs=1, refit=False
    )
    server.trained(cluster_id)
    return cluster_id


def _measure(server: RawServer, cluster_id: str, calls: int) -> dict[str, list[float]]:
    """By whom, per block: processor milliseconds a call; and the client's wall milliseconds of every call."""
    market = SyntheticMarket(seed=1)
    found: dict[str, list[float]] = {"server": [], "nodes": [], "latency": []}
    for block in range(-1, max(1, calls // BLOCK)):
        before = _cpu_ms(server.process.pid)
        for _ in range(BLOCK):
            began_s = time.perf_counter()
            server.tool(
                "neural_predict_distributed",
                cluster_id=cluster_id,
                input_data=market.tick("BTC").record,
                aggregation="ensemble",
            )
            if block >= 0:
                found["latency"].append((time.perf_counter() - began_s) * 1e3)
        after = _cpu_ms(server.process.pid)
        if block >= 0:  # the first one warms up
            for who, spent_ms in after.items():
                found[who].append((spent_ms - before[who]) / BLOCK)
    return found


def _cpu_ms(pid: int) -> dict[str, float]:
    """Of the server with its threads, and of all processes below it that live."""
    below = sum(_run_ms(child) for child in _descendants(pid))
    return {"server": _run_ms(pid), "nodes": below}


def _run_ms(pid: int) -> float:
    """What the scheduler counted, in nanoseconds, over all threads that live."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        except OSError:
            continue
    return total / 1e6


def _descendants(pid: int) -> Iterator[int]:
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _line(name: str, found: dict[str, list[float]]) -> str:
    latency = sorted(found["latency"])
    p50, p99 = (latency[round(share * (len(latency) - 1))] for share in (0.5, 0.99))
    server, nodes = (statistics.median(found[who]) for who in ("server", "nodes"))
    return (
        f"{name}: server {server:.2f}, nodes {nodes:.2f}; latency at the client p50 {p50:.1f},"
        f" p99 {p99:.1f} ms of {len(latency)} calls"
    )


if __name__ == "__main__":
    main()
