"""Waits for a started node to say that it is ready, or leaves nothing of it behind."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from flow_nexus_neural.errors import Fenced, NodeDied, NodeStartFailed, ProtocolViolation
from flow_nexus_neural.protocol.node_words import plain
from flow_nexus_neural.runtime.base import Isolation, NodeExit, NodeSpec
from flow_nexus_neural.runtime.connection.node_end import NodeEnd
from flow_nexus_neural.runtime.connection.socket_node import SocketNode
from flow_nexus_neural.runtime.process.exits import with_last_words
from flow_nexus_neural.runtime.process.isolation import judge
from flow_nexus_neural.settings import Settings

AGAIN = (
    "call neural_node_deploy again; where the machine is this busy, start the server with a larger"
    " --node-ready-timeout-s"
)
MAX_WORD_CHARS = 120
MAX_VERSION_CHARS = 200
Node = TypeVar("Node", bound=NodeEnd)
S = TypeVar("S", str, str | int | bool | None)


async def until_ready(
    node: Node,
    measure: Callable[[Node], Awaitable[None]],
    deadline: float,
    ready_timeout_s: float,
) -> None:
    """Return once the node is ready and has been measured; otherwise it is killed, and gone.

    Args:
        node: Just started.
        measure: Waits for its Ready and notes what confines it; raises when that is too little.
        deadline: On the event loop's clock.
        ready_timeout_s: For the message: how long that was.

    Raises:
        NodeStartFailed: It raised, exited or stayed silent.
        IsolationUnavailable: Whatever else `measure` raises is passed on.
    """
    try:
        with anyio.fail_after(deadline - anyio.current_time()):
            await measure(node)
    except TimeoutError:
        await node.stop(grace_s=0)
        raise _late(node.spec, ready_timeout_s) from None
    except (NodeDied, ProtocolViolation, Fenced) as failure:
        raise _start_failed(node.spec, await node.stop(grace_s=0)) from failure
    except BaseException:  # also cancelled: no process stays that nobody has
        await node.stop(grace_s=0)
        raise


async def isolation_of(node: SocketNode, settings: Settings) -> Isolation:
    """Wait for the Ready of a node that is a process, and judge what confines it.

    Raises:
        IsolationUnavailable: Less than the settings require.
        NodeDied, ProtocolViolation, Fenced: It did not become ready.
    """
    ready = await node.ready()
    node.runtime_version = plain(ready.runtime, MAX_VERSION_CHARS)
    found = judge(
        node.pid,
        {_word(step): _word(result) for step, result in ready.steps.items()},
        {_word(probe): _word(got) for probe, got in ready.probes.items()},
        settings.require_isolation,
        hostile=settings.hostile,
    )
    node.note_ready()
    return found


def _word(value: S) -> S:
    """A name or a result as a node told it; texts of nodes end up in replies."""
    return plain(value, MAX_WORD_CHARS) if isinstance(value, str) else value


def not_started(spec: NodeSpec, ready_timeout_s: float) -> NodeStartFailed:
    """The failure of a node whose process did not come into being in time."""
    return NodeStartFailed(
        f"node {spec.slot} was not started: there was no process for it within {ready_timeout_s:g} s",
        hint=AGAIN,
        details={"slot": spec.slot},
    )


def _late(spec: NodeSpec, ready_timeout_s: float) -> NodeStartFailed:
    """The failure of a node that lived and was not ready in time."""
    return NodeStartFailed(
        f"node {spec.slot} was started, was not ready within {ready_timeout_s:g} s and has been killed",
        hint=AGAIN,
        details={"slot": spec.slot},
    )


def _start_failed(spec: NodeSpec, exit_: NodeExit) -> NodeStartFailed:
    return NodeStartFailed(
        f"node {spec.slot} ended before it was ready:"
        f" {with_last_words(exit_.sentence, exit_.stderr_tail)}",
        hint="call neural_node_deploy again; `flow-nexus-neural doctor` shows what works on this machine",
        details={"slot": spec.slot, "reason": exit_.reason, "stderr_tail": exit_.stderr_tail},
    )
