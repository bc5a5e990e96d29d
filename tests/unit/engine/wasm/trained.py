"""A trained cluster whose nodes count as processes, and the moment at which all of it is measured."""

from contextlib import asynccontextmanager
from dataclasses import replace

from flow_nexus_neural.engine.wasm import serving
from tests.sim.simulated import world


@asynccontextmanager
async def trained(tmp_path, workers=2, **more):
    """A trained cluster whose nodes count as processes."""
    async with world(tmp_path) as w:
        w.runtime.capabilities = replace(w.runtime.capabilities, processes=True)
        cluster_id = await w.cluster(workers, **{"wasm_optimization": True} | more)
        await w.train(cluster_id, epochs=1)
        yield w, cluster_id


async def measured(w, cluster_id):
    return await w.until(
        cluster_id,
        lambda s: (
            not any(n.reason in (serving.NOT_YET, serving.LATER) for n in s.wasm.nodes.values())
        ),
    )
