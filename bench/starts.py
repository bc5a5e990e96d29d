"""Eleven nodes from a warm zygote, by the runtime alone: no server, no journal."""

import time

import anyio

from bench.measure import Record, interleave, load, record
from flow_nexus_neural.runtime.base import NodeHandle, NodeSpec
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.settings import Settings

NODES = 11
IN_TURN, TOGETHER = "one after another", "all at once"


def measure_starts(*, repeats: int) -> list[Record]:
    """Time until all are confined, probed, judged and ready."""
    return anyio.run(_measure, repeats)


async def _measure(repeats: int) -> list[Record]:
    taken_ms: dict[str, list[float]] = {IN_TURN: [], TOGETHER: []}
    order: list[str] = []
    interleave(taken_ms, repeats, order.append)
    levels: set[str] = set()
    async with LocalRuntime(Settings()) as runtime:
        await (await runtime.start(_spec(0))).stop()
        load_start = load()
        for name in order:
            started_s = time.perf_counter()
            nodes = await (_in_turn if name == IN_TURN else _together)(runtime)
            taken_ms[name].append((time.perf_counter() - started_s) * 1e3)
            levels |= {node.isolation.level for node in nodes}
            for node in nodes:
                await node.stop(grace_s=0)
    return [
        record(
            "overhead",
            f"{NODES} nodes ready",
            name,
            taken,
            unit="ms",
            repeats=repeats,
            load_start=load_start,
            config=f"isolation {', '.join(sorted(levels))}",
        )
        for name, taken in taken_ms.items()
    ]


def _spec(number: int) -> NodeSpec:
    return NodeSpec(f"node-{number}", f"worker-{number}", 1, seed=number)


async def _in_turn(runtime: LocalRuntime) -> list[NodeHandle]:
    return [await runtime.start(_spec(number)) for number in range(NODES)]


async def _together(runtime: LocalRuntime) -> list[NodeHandle]:
    nodes: list[NodeHandle] = []

    async def one(number: int) -> None:
        nodes.append(await runtime.start(_spec(number)))

    async with anyio.create_task_group() as group:
        for number in range(NODES):
            group.start_soon(one, number)
    return nodes
