"""Trains a cluster under raft in the state directory that is the only argument, until it is killed.

Prints the cluster's id once some rounds are committed.
"""

import sys
from pathlib import Path

import anyio

from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.settings import Settings
from tests.sim.simulated import World

ROUNDS = 3


async def main() -> None:
    async with Engine.open(Settings(state_dir=Path(sys.argv[1]))) as engine:
        w = World(engine, engine.context.runtime, None)
        cluster = await w.cluster(3, consensus="raft")
        await w.start(cluster, epochs=1000, patience=0)
        await w.rounds(cluster, ROUNDS)
        print(cluster, flush=True)  # noqa: T201 - what the test waits for
        await anyio.sleep_forever()


anyio.run(main)
