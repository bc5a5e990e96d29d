"""Waits for a started node to say that it is ready, or leaves nothing of it behind."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from flow_nexus_neural.errors import Fenced, NodeDied, NodeStartFailed, ProtocolViolation
from flow_nexus_neural.runtime.base import NodeExit, NodeSpec
from flow_nexus_neural.runtime.exits import with_last_words
from flow_nexus_neural.runtime.node_end import NodeEnd

Node = TypeVar("Node", bound=NodeEnd)


async def until_ready(
    node: Node,
    judge: Callable[[Node], Awaitable[None]],
    deadline: float,
    ready_timeout_s: float,
) -> None:
    """Return once the node is ready and has been judged; otherwise it is killed, and gone.

    Args:
        node: Just started.
        judge: Waits for its Ready and measures what confines it; raises when that is too little.
        deadline: On the event loop's clock.
        ready_timeout_s: For the message: how long that was.

    Raises:
        NodeStartFailed: It raised, exited or stayed silent.
        IsolationUnavailable: Whatever else `judge` raises is passed on.
    """
    try:
        with anyio.fail_after(deadline - anyio.current_time()):
            await judge(node)
    except TimeoutError:
        await node.stop(grace_s=0)
        raise late(node.spec, ready_timeout_s) from None
    except (NodeDied, ProtocolViolation, Fenced) as failure:
        raise _start_failed(node.spec, await node.stop(grace_s=0)) from failure
    except BaseException:
        await node.stop(grace_s=0)
        raise


def late(spec: NodeSpec, ready_timeout_s: float) -> NodeStartFailed:
    """The failure of a node that was not ready in time."""
    return NodeStartFailed(
        f"node {spec.slot} was not ready within {ready_timeout_s:g} s and has been killed",
        hint="set node_ready_timeout_s higher when the machine is this busy",
        details={"slot": spec.slot},
    )


def _start_failed(spec: NodeSpec, exit_: NodeExit) -> NodeStartFailed:
    return NodeStartFailed(
        f"node {spec.slot} ended before it was ready:"
        f" {with_last_words(exit_.sentence, exit_.stderr_tail)}",
        hint="call neural_node_deploy again; `flow-nexus-neural doctor` shows what works on this machine",
        details={"slot": spec.slot, "reason": exit_.reason, "stderr_tail": exit_.stderr_tail},
    )
