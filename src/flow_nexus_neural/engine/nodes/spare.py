"""A process of the engine's own, which is no member of a cluster: it computes what no member may judge."""

import anyio

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.limits import cpu_s, memory_mb
from flow_nexus_neural.engine.nodes.supervision import supervise
from flow_nexus_neural.engine.state.slot_spec import SlotSpec
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.runtime.base import NodeSpec
from flow_nexus_neural.vocabulary import ModelSize

MODEL: ModelSize = "large"
"""Resource class: it may have to build the network of any worker."""


async def start_spare(cluster: LiveCluster, name: str) -> Slot:
    """Start a node for the engine's own use, confined like every other; `stop_spare` ends it.

    Returns:
        A slot that is in no book of slots, with a living process.

    Raises:
        NodeError, IsolationUnavailable: It did not come up; nothing is left of it.
    """
    settings = cluster.context.settings
    spec = SlotSpec(
        role="validator",
        node_type="validator",
        model=MODEL,
        capabilities=(),
        autonomy=0.0,
        template="",
        layers=(),
        layers_source="default",
    )
    slot = Slot(name=name, spec=spec, node_id=cluster.context.new_id("node"))
    slot.begin_start()
    node = NodeSpec(
        node_id=slot.node_id,
        slot=name,
        incarnation=slot.incarnation,
        seed=seed64((cluster.spec.seed, 0), 0, name, slot.incarnation, "init"),
        memory_mb=memory_mb(settings, MODEL),
        cpu_s=cpu_s(settings, MODEL),
    )
    handle = await cluster.context.runtime.start(
        node, ready_timeout_s=settings.node_ready_timeout_s
    )
    slot.attach(handle, cluster.clock())
    slot.move("syncing")
    slot.become_healthy(cluster.context.timestamp())
    cluster.context.spawn(supervise, cluster, slot, handle)
    return slot


async def stop_spare(slot: Slot) -> None:
    """End it; completes even if the caller is cancelled."""
    handle = slot.handle
    slot.detach()
    if handle is not None:
        with anyio.CancelScope(shield=True):
            await handle.stop(grace_s=0)
