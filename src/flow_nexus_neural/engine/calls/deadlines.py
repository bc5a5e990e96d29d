"""The only place that waits on a node.

Two deadlines per request: after *answer* the caller stops waiting and the node lives; after *hang* the node
is taken for frozen and killed through its handle.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio

from flow_nexus_neural.engine.patience import Deadline
from flow_nexus_neural.errors import NeuralError, NodeTimeout
from flow_nexus_neural.protocol.contract import AnsweredBy, R
from flow_nexus_neural.runtime.base import NodeHandle

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from flow_nexus_neural.runtime.base import Arrays

T = TypeVar("T")


PING = Deadline(2.0, None)
BUILD = Deadline(10.0, 30.0)
LOAD = Deadline(10.0, 30.0)
INFER = Deadline(300.0, 600.0)
CANCEL = Deadline(5.0, None)


async def ask(
    handle: NodeHandle, request: AnsweredBy[R], deadline: Deadline, arrays: "Arrays | None" = None
) -> "tuple[R, dict[str, NDArray[Any]]]":
    """Call a node and stop waiting in time.

    A node that stays silent for `hang_s` is killed before this raises.

    Raises:
        NodeTimeout: No answer within `answer_s` (or `hang_s` when that is shorter).
        NodeError: As `NodeHandle.call`.
    """
    return await in_time(handle, request.kind, deadline, partial(handle.call, request, arrays))


async def in_time(
    handle: NodeHandle, name: str, deadline: Deadline, call: Callable[[], Awaitable[T]]
) -> T:
    """Wait for any call to a node as `ask` does, under a name for the error."""
    with anyio.move_on_after(deadline.answer_s):
        return await call()
    hung = deadline.hang_s is not None and deadline.hang_s <= deadline.answer_s
    if deadline.hang_s is not None and not hung:
        hung = await _stays_silent(handle, deadline.hang_s - deadline.answer_s)
    if hung:
        await handle.stop(grace_s=0)
    raise NodeTimeout(
        f"node {handle.spec.slot} did not answer {name} within {deadline.answer_s:g} s"
        + (" and was killed" if hung else ""),
        hint="call neural_cluster_status to see the node's state",
        details={"slot": handle.spec.slot, "killed": hung},
    )


async def _stays_silent(handle: NodeHandle, patience_s: float) -> bool:
    """Whether even a ping goes unanswered for `patience_s`."""
    from flow_nexus_neural.protocol.messages import Ping

    with anyio.move_on_after(patience_s):
        try:
            await handle.call(Ping())
        except NeuralError:
            return False
        return False
    return True
