"""Asking a slot: deadlines and counters, in one place."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from flow_nexus_neural.engine.calls.deadlines import ask, in_time
from flow_nexus_neural.engine.patience import Deadline, Patience
from flow_nexus_neural.engine.state.advice import next_step
from flow_nexus_neural.engine.state.metrics import Category, Metrics
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import NodeError, NodeUnavailable
from flow_nexus_neural.protocol.contract import AnsweredBy, R
from flow_nexus_neural.runtime.base import Buffer, NodeHandle, Region

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from flow_nexus_neural.runtime.base import Arrays


class NodeCalls:
    """Calls to the nodes of one cluster, counted under one category of traffic."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Callable[[], float],
        category: Category,
        patience: Patience,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._category = category
        self._patience = patience

    async def ask(
        self,
        slot: Slot,
        request: AnsweredBy[R],
        deadline: Deadline,
        arrays: "Arrays | None" = None,
    ) -> "tuple[R, dict[str, NDArray[Any]]]":
        """Ask a slot's living process; the class of the request determines that of the reply.

        Raises:
            NodeError: Of whatever kind; the failure is counted in the cluster's error rate.
        """
        handle = living(slot)
        failed = 1.0
        slot.begin_call()
        try:
            reply, reply_arrays = await ask(handle, request, deadline, arrays)
            failed = 0.0
            slot.heard(self._clock())
            return reply, reply_arrays
        finally:
            slot.end_call()
            self._metrics.node_calls.add(failed)
            self._metrics.count_frames(self._category, handle)

    async def grant(self, slot: Slot, region: Region | Buffer) -> None:
        """Let a slot's process use a region; one that does not answer is killed. Raises `NodeError`."""
        handle = living(slot)
        await in_time(handle, "grant", self._patience.grant, partial(handle.grant, region))
        self._metrics.count_frames(self._category, handle)

    async def revoke(self, slot: Slot, *keys: str) -> None:
        """Make a slot's process forget regions; a process that is gone has forgotten them."""
        handle = slot.handle
        if handle is None or not keys:
            return
        try:
            await in_time(handle, "revoke", self._patience.grant, partial(handle.revoke, *keys))
        except NodeError:
            return
        finally:
            self._metrics.count_frames(self._category, handle)

    def pulled(self, nbytes: int) -> None:
        """A process read this many bytes from a region of another."""
        self._metrics.count_payload(self._category, nbytes)


def living(slot: Slot) -> NodeHandle:
    """The handle of a slot's process.

    Raises:
        NodeUnavailable: It has none.
    """
    if slot.handle is None:
        raise NodeUnavailable(
            f"node {slot.name} has no process: {slot.last_error or slot.state}",
            hint=next_step([slot], "see its state with neural_cluster_status"),
        )
    return slot.handle
