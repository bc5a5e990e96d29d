"""Taking a worker out of everything because it was caught cheating or proves nothing."""

import logging

import anyio

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import StoreError

log = logging.getLogger(__name__)


async def quarantine(cluster: LiveCluster, slot: Slot, reason: str) -> None:
    """Stop a slot's process for good: the slot trains and serves no more until a deploy replaces it.

    The ledger names it. That this could not be recorded harms no round: the next one is not asked of it.
    """
    handle, node_id = slot.handle, slot.node_id
    slot.quarantine(reason)
    # First: whoever waits for the process's end must not take this for a failure of its own.
    slot.detach()
    cluster.changed()
    with anyio.CancelScope(shield=True):
        if handle is not None:
            await handle.stop(grace_s=0)
        await cluster.wiring.leave(slot, node_id)
        try:
            await cluster.ledger.record_membership(slot, "quarantined")
        except StoreError as failure:
            log.warning("that %s was quarantined is not recorded: %s", slot.name, failure)
    cluster.changed()
