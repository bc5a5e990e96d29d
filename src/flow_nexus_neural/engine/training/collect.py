"""One exchange with a set of workers: ask all, close by the rule, return the updates in slot order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import anyio
from anyio.abc import ObjectReceiveStream, TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.coordination.rounds import Close, Decision, Fail, Round, Wait, unfinished
from flow_nexus_neural.engine.calls.core_slots import patience
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.tasks import Task
from flow_nexus_neural.engine.training.together import asked_together, by_process
from flow_nexus_neural.errors import NeuralError, RoundFailed, UpdateRejected

Event = tuple[str, str | None]
"""A slot, and why there will be no update of it; None when it is there."""


@dataclass
class Pace:
    """Seconds per unit of work that workers needed lately."""

    _per_work: list[float] = field(default_factory=list)

    def add(self, seconds: float, work: float) -> None:
        """A worker finished."""
        self._per_work = [*self._per_work[-19:], seconds / work]

    def expected_s(self, tasks: Sequence[Task]) -> list[float]:
        """Times that the past predicts for this work."""
        typical = median(task.work for task in tasks)
        return [rate * typical for rate in self._per_work]


@dataclass
class Collected:
    """Updates of one exchange in slot order, and who was left out."""

    updates: list[Update]
    excluded: dict[str, str]


async def collect(
    exchange: Exchange,
    tasks: Sequence[Task],
    *,
    min_contributors: int,
    pace: Pace,
    left_out: LeftOut,
    context: EngineContext,
) -> Collected:
    """Ask every worker of an exchange and close it by the round's rule.

    Workers train in turns, as many processes at one time as the engine's `turns` allow.

    Workers that are still computing when it closes are told to stop; one that does not obey is killed. Those
    that failed are entered in `left_out`.

    Raises:
        RoundFailed: Too few workers delivered an admissible update.
    """
    expected_s = pace.expected_s(tasks)
    began_s = context.clock()
    round_ = Round(
        [task.slot.name for task in tasks],
        min_contributors=min(min_contributors, len(tasks)),
        started_s=began_s,
        history=expected_s,
        patience=context.patience.rounds,
    )
    send, receive = anyio.create_memory_object_stream[Event](len(tasks))
    asking = _Asking(exchange, context, pace, left_out, began_s, patience(expected_s), send)
    with send, receive:
        async with anyio.create_task_group() as group:
            for sharing in by_process(tasks):
                told = asked_together(sharing, next(exchange.times_asked))
                group.start_soon(asking.ask, told, group)
            decision = await _decide(round_, receive, context.clock)
            group.cancel_scope.cancel()
    await _stop_late(exchange, tasks, decision)
    if isinstance(decision, Fail):
        raise _failed(decision)
    # Those who were first by chance must not be first in the sum: floating point addition has an order.
    in_order = sorted(decision.contributors, key=slot_order)
    return Collected([asking.updates[name] for name in in_order], decision.excluded)


@dataclass
class _Asking:
    """Asks the workers of one exchange; each tells by one event that it is done."""

    exchange: Exchange
    context: EngineContext
    pace: Pace
    left_out: LeftOut
    began_s: float
    patience_s: float
    events: MemoryObjectSendStream[Event]
    updates: dict[str, Update] = field(default_factory=dict)

    async def ask(self, tasks: Sequence[Task], group: TaskGroup) -> None:
        """Let the workers of one process train when its turn has come."""
        turn = await self.context.turns.take()
        # One that hangs must not keep its turn from the others until the round is over.
        group.start_soon(turn.give_back_after, self.patience_s)
        try:
            async with anyio.create_task_group() as asked:
                for task in tasks:
                    asked.start_soon(self._ask_one, task)
        finally:
            turn.give_back()

    async def _ask_one(self, task: Task) -> None:
        refusal, fails = None, self.left_out.add
        try:
            self.updates[task.slot.name] = await self.exchange.train(task)
            self.pace.add(self.context.clock() - self.began_s, task.work)
        except UpdateRejected as rejection:
            refusal, fails = rejection.message, self.left_out.refuse
        except NeuralError as failure:
            refusal = f"{failure.code}: {failure.message}"
        if refusal is not None:
            fails(task.slot, refusal)
        self.events.send_nowait((task.slot.name, refusal))


def _failed(decision: Fail) -> RoundFailed:
    reasons = "; ".join(f"{slot}: {why}" for slot, why in list(decision.excluded.items())[:4])
    return RoundFailed(
        f"{decision.reason} ({reasons})",
        hint="see neural_cluster_status for the nodes; lower learning_rate if updates were not finite;"
        " a version that was committed before stays in force",
    )


async def _decide(
    round_: Round,
    events: ObjectReceiveStream[Event],
    clock: Callable[[], float],
) -> Close | Fail:
    decision: Decision = round_.tick(clock())
    while isinstance(decision, Wait):
        event: Event | None = None
        # A point in time and not a duration: now + (until - now) need not be until in floating point.
        with anyio.CancelScope(deadline=decision.until_s):
            event = await events.receive()
        if event is None:
            decision = round_.tick(clock())
        elif event[1] is None:
            decision = round_.answered(event[0], clock())
        else:
            decision = round_.lost(event[0], clock(), event[1])
    return decision


async def _stop_late(exchange: Exchange, tasks: Sequence[Task], decision: Close | Fail) -> None:
    computing = unfinished(decision)
    late = [task.slot for task in tasks if task.slot.name in computing]
    async with anyio.create_task_group() as group:
        for slot in late:
            group.start_soon(exchange.cancel, slot)


async def prepare_all(
    exchange: Exchange, members: Sequence[tuple[Slot, NetworkGroup]], left_out: LeftOut
) -> dict[str, str]:
    """Build and grant whatever workers still lack; those that fail are entered in `left_out`.

    Returns:
        Digest of the initial weights of every worker that was built now.
    """
    digests: dict[str, str] = {}

    async def prepare(slot: Slot, network: NetworkGroup) -> None:
        try:
            digest = await exchange.prepare(slot, network)
        except NeuralError as failure:
            left_out.add(slot, str(failure))
        else:
            if digest is not None:
                digests[slot.name] = digest

    async with anyio.create_task_group() as group:
        for slot, network in members:
            group.start_soon(prepare, slot, network)
    return digests
