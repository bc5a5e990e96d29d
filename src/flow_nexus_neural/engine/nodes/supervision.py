"""Telling a slow node from a frozen one.

A process that ends is noticed by its handle. One that is stopped, spins or hangs says nothing: after some
seconds of silence it is pinged, becomes `suspect` when it misses that, and is killed when it stays silent: at
once where the system says that its process is stopped, else after as long as one of its steps may take. Time
in which it waits for a processor that others have does not count: the machine is busy, and no node frozen.

One that answers pings and never gets on with what it was asked is killed after the longest time that a step
may take. Rounds do not wait that long for it where others deliver; a worker that trains alone has no others.
One that shares its process may have to wait while others of that process train: it gets on as they do.

How long a step may take follows from the network and the batch that the engine gave it, not from what the
node says: a large network with many rows needs minutes for one. So does how long all steps of an order may
take together, which ends one that says that it makes steps and never finishes: time counts in which its
process ran or had nothing to do, as the system's scheduler has it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

import anyio

from flow_nexus_neural.coordination.step_cost import LONGEST_S, Ordered, step_s
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import NodeError, NodeFault
from flow_nexus_neural.protocol.messages import Ping, Pong
from flow_nexus_neural.runtime.base import NodeHandle

TRAINING = "train"
"""What a node says that it is busy with when it makes optimiser steps."""
SHORTEST_S = 1e-3
"""Less than this of a grace is none."""
LOOKS_AT_WORK = 4
"""One that trains and answers other requests is pinged all the same, after so many usual silences."""
UNMEASURED = 10.0
"""Where no scheduler tells who had the processor, time of others counts: the limit is so much longer."""


async def supervise(cluster: LiveCluster, slot: Slot, handle: NodeHandle) -> None:
    """Ping a node whenever it has been silent, until its process is gone; kill it when it is frozen.

    A node answers a ping between two optimiser steps, so the grace after a missed one is three times the
    longest step it ever reported, within the bounds of `Patience`, and at least `step_limit_s`.
    """
    patience, longest_step_s = cluster.context.patience, 0.0
    course = _Course(handle, cluster.clock())
    while slot.handle is handle:
        due_s = slot.heard_at_s + patience.silence_s
        if slot.name in cluster.ordered:
            due_s = min(due_s, course.looked_s + LOOKS_AT_WORK * patience.silence_s)
        if cluster.clock() < due_s:
            # A point in time and not a duration: now + (due - now) need not be due in floating point.
            with anyio.CancelScope(deadline=due_s):
                await anyio.sleep_forever()
            continue
        try:
            pong = await _ping(handle, patience.ping_s)
            if pong is None and slot.handle is handle:
                pong = await _doubt(cluster, slot, handle, longest_step_s)
        except NodeFault as failure:
            # No honest node fails at this; one that did once would not be looked after any more.
            await _end(slot, handle, f"protocol_violation: a ping failed: {failure.message}")
            return
        except NodeError:
            return  # it is gone, and whoever waits for its end tells
        if slot.handle is not handle or slot.condemned:
            return
        if pong is None:
            continue  # it has answered something else
        cluster.metrics.count_frames("sync", handle)
        slot.heard(cluster.clock())
        longest_step_s = max(longest_step_s, pong.longest_step_ms / 1e3)
        told = _why_no_end(cluster, slot, handle, course, pong)
        if told is not None:
            await _end(slot, handle, f"node_timeout: it answers pings and {told}")
            return


def step_limit_s(cluster: LiveCluster, slot: Slot) -> float:
    """Seconds that a step of what it was ordered may take; 0.0 of an idle node.

    Where it was asked something else during a training, one of the largest network. Nodes of one process may
    make their steps as one, which then takes as long as all of theirs.
    """
    training, ordered = cluster.state.latest_training, cluster.ordered.get(slot.name)
    if slot.calls == 0 or training is None or training.status != "running":
        return 0.0
    rows, networks = training.config.batch_size, training.starts.values()
    longest_s = max((step_s(network.plan, rows) for network in networks), default=0.0)
    if ordered is not None:
        longest_s = ordered.step_s
    return min(longest_s * _nodes_of(slot), LONGEST_S)


def _nodes_of(slot: Slot) -> int:
    """How many nodes its process has."""
    return 1 if slot.handle is None else 1 + len(slot.handle.isolation.shared_with)


def _why_no_end(
    cluster: LiveCluster, slot: Slot, handle: NodeHandle, course: "_Course", pong: Pong
) -> str | None:
    """Why a node that has just answered a ping will not finish what it was asked; None where it may."""
    now_s, patience = cluster.clock(), cluster.context.patience
    order = cluster.ordered.get(slot.name)
    idle_s = course.idle_s(now_s, pong, slot.calls_begun if slot.calls else None, order)
    idle_s = min(idle_s, _process_idle_s(cluster, handle, course))
    if idle_s > max(patience.max_grace_s, step_limit_s(cluster, slot)):
        return f"made no step for {idle_s:.0f} s of what it was asked"
    spent_s = course.spent_s(now_s, order)
    if order is None:
        return None
    others_s = course.others_s(_orders_beside(cluster, handle))
    limit_s = order.limit_s(patience.max_grace_s, _nodes_of(slot), others_s)
    if handle.processor_time() is None:
        limit_s *= UNMEASURED
    if spent_s <= limit_s:
        return None
    return (
        f"has not finished {order.steps} steps in {spent_s:.0f} s of its process, which take {limit_s:.0f} s"
        f" at most"
    )


def _orders_beside(cluster: LiveCluster, handle: NodeHandle) -> list[Ordered]:
    """What the other nodes of its process were ordered."""
    ordered = cluster.ordered
    return [ordered[name] for name in handle.isolation.shared_with if name in ordered]


@dataclass
class _Course:
    """Whether a node gets on with what it was asked.

    Attributes:
        since_s: When it was last seen to.
        seen: What it was asked, and how many optimiser steps it had made, then.
        stepped: Whether it had made steps when it last answered that it had not made before.
        looked_s: When it last answered.
        own: Its process's time since it was first seen at its present order; None where it has none.
        order: Number of that order.
        beside: What others of its process were seen to be ordered since then, by number.
    """

    handle: NodeHandle
    since_s: float
    seen: tuple[int | None, int] = (None, 0)
    stepped: bool = False
    own: "_OwnTime | None" = None
    order: int | None = None
    beside: dict[int, Ordered] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.looked_s = self.since_s

    def idle_s(self, now_s: float, pong: Pong, asked: int | None, order: Ordered | None) -> float:
        """Seconds for which it has done nothing about its last request.

        Only training has steps; in any other work that it names it is believed, unless it was ordered to
        train: every other request has a time of its own after which it is not awaited.

        Args:
            now_s: When it answered.
            pong: Its answer.
            asked: Number of its last request; None where every one is answered.
            order: To train, where it has one: further requests do not make it get on with that.
        """
        at_other_work = pong.busy not in (None, TRAINING)
        if order is not None:
            asked, at_other_work = -order.number, False
        seen = (asked, pong.steps_done)
        self.stepped = pong.steps_done != self.seen[1]
        if asked is None or at_other_work or seen != self.seen:
            self.since_s, self.seen = now_s, seen
        self.looked_s = now_s
        return now_s - self.since_s

    def spent_s(self, now_s: float, order: Ordered | None) -> float:
        """Seconds of its process since it was first seen at this order."""
        if order is None:
            self.own = self.order = None
            return 0.0
        if self.own is None or self.order != order.number:
            self.own, self.order = _OwnTime(self.handle, now_s), order.number
            self.beside.clear()
        self.own.advance(now_s)
        return self.own.seconds

    def others_s(self, beside: Sequence[Ordered]) -> float:
        """Seconds for which its process may have been at others' orders since it was seen at its own."""
        self.beside |= {order.number: order for order in beside}
        return sum(order.seconds for order in self.beside.values())


def _process_idle_s(cluster: LiveCluster, handle: NodeHandle, course: _Course) -> float:
    """Seconds since a node of this process was last seen to make steps; infinite where it has its own."""
    if handle.pid is None or not handle.isolation.shared_with:
        return inf
    now_s = cluster.clock()
    if course.stepped:
        cluster.stepped_s[handle.pid] = now_s
    return now_s - cluster.stepped_s.get(handle.pid, -inf)


async def _doubt(
    cluster: LiveCluster,
    slot: Slot,
    handle: NodeHandle,
    longest_step_s: float,
) -> Pong | None:
    """A ping was missed: suspect the node, ask once more, kill it when it stays silent.

    Returns:
        Its answer; None where it is killed or gone, or has answered something else.
    """
    heard_at_s, suspected = slot.heard_at_s, slot.state == "healthy"
    if suspected:
        slot.move("suspect")
        cluster.changed()
    patience = cluster.context.patience
    limit_s = step_limit_s(cluster, slot)
    untimed = slot.calls > 0 and longest_step_s == 0
    least_s = patience.first_step_s if untimed else patience.min_grace_s
    # The limit also where steps were timed: they may be those of an earlier training of a smaller network.
    grace_s = max(least_s, limit_s, min(3 * longest_step_s, patience.max_grace_s))
    pong = await _ping_while_it_can_run(handle, grace_s, patience, cluster.clock)
    if slot.handle is not handle:
        return None
    if pong is None and slot.heard_at_s == heard_at_s:
        silent_s = cluster.clock() - slot.heard_at_s
        why = ", its process is stopped" if handle.is_stopped() else ""
        told = f"node_timeout: silent for {silent_s:.1f} s{why}, taken for frozen and killed"
        await _end(slot, handle, told)
        return None
    if slot.trust():
        cluster.changed()
    return pong


async def _end(slot: Slot, handle: NodeHandle, reason: str) -> None:
    """Kill a node that is to blame; the reason is the one that is told."""
    if slot.handle is handle:
        slot.condemn(reason)
    await handle.stop(grace_s=0)


@dataclass
class _OwnTime:
    """Seconds in which a node could have answered: those in which its process ran or had nothing to do."""

    handle: NodeHandle
    since_s: float
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._got = self.handle.processor_time()

    def advance(self, now_s: float) -> None:
        """Count the time since it was last counted."""
        former, self._got = self._got, self.handle.processor_time()
        passed_s, self.since_s = now_s - self.since_s, now_s
        if former is not None and self._got is not None:
            # A wait that is not over stands in no count yet.
            waited_s = self._got.waited_s - former.waited_s
            own_s = self._got.ran_s - former.ran_s if self._got.runnable else passed_s - waited_s
            passed_s = min(max(own_s, 0.0), passed_s)
        self.seconds += passed_s


async def _ping_while_it_can_run(
    handle: NodeHandle, grace_s: float, patience: Patience, clock: Callable[[], float]
) -> Pong | None:
    """As `_ping`, for `grace_s` of the process's own time, in `max_grace_s` at most.

    Of a process that is stopped nothing is awaited: it is in no long step.
    """
    found: Pong | NodeError | None = None

    async def watch(scope: anyio.CancelScope) -> None:
        own, ends_s = _OwnTime(handle, clock()), clock() + max(grace_s, patience.max_grace_s)
        while (left_s := min(grace_s - own.seconds, ends_s - own.since_s)) > SHORTEST_S:
            await anyio.sleep(min(left_s, patience.min_grace_s))
            own.advance(clock())
            if handle.is_stopped():
                break
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch, group.cancel_scope)
        try:
            found, _ = await handle.call(Ping())
        except NodeError as failure:  # raised below: a task group would wrap it
            found = failure
        group.cancel_scope.cancel()
    if isinstance(found, NodeError):
        raise found
    return found


async def _ping(handle: NodeHandle, patience_s: float) -> Pong | None:
    """The answer, or None when there was none in time. Raises `NodeError` when the node is gone."""
    with anyio.move_on_after(patience_s):
        reply, _ = await handle.call(Ping())
        return reply
    return None
