"""One exchange with a set of workers: ask all, close by the rule, return the updates in slot order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import anyio
from anyio.abc import ObjectReceiveStream

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.coordination.rounds import Close, Decision, Fail, Round, Wait
from flow_nexus_neural.engine.calls.core_slots import patience
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.errors import NeuralError, RoundFailed, UpdateRejected
from flow_nexus_neural.protocol.messages import Pass
from flow_nexus_neural.runtime.base import Region


@dataclass(frozen=True)
class Task:
    """What one worker does in an exchange.

    Attributes:
        work: Rows times steps, in any unit; makes the times of unequal shards comparable.
    """

    slot: Slot
    network: NetworkGroup
    base: Region
    opt_step: int
    passes: tuple[Pass, ...]
    dropout_seed: int
    work: float


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
    context: EngineContext,
) -> Collected:
    """Ask every worker of an exchange and close it by the round's rule.

    Workers train in turns, as many at one time as the engine's `turns` allow.

    Workers that are still computing when it closes are told to stop; one that does not obey is killed.

    Raises:
        RoundFailed: Too few workers delivered an admissible update.
    """
    clock = context.clock
    updates: dict[str, Update] = {}
    began_s = clock()
    round_ = Round(
        [task.slot.name for task in tasks],
        min_contributors=min(min_contributors, len(tasks)),
        started_s=began_s,
        history=pace.expected_s(tasks),
        patience=context.patience.rounds,
    )
    send, receive = anyio.create_memory_object_stream[tuple[str, str | None]](len(tasks))

    patience_s = patience(pace.expected_s(tasks))

    async def ask(task: Task) -> None:
        name, refusal = task.slot.name, None
        turn = await context.turns.take()
        group.start_soon(turn.give_back_after, patience_s)
        try:
            seeds = (task.dropout_seed, task.opt_step)
            updates[name] = await exchange.train(
                task.slot, task.network, task.base, task.passes, seeds
            )
            pace.add(clock() - began_s, task.work)
        except UpdateRejected as rejection:
            refusal = rejection.message
        except NeuralError as failure:
            refusal = f"{failure.code}: {failure.message}"
        finally:
            turn.give_back()
        send.send_nowait((name, refusal))

    with send, receive:
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(ask, task)
            decision = await _decide(round_, receive, clock)
            group.cancel_scope.cancel()
    await _stop_late(exchange, tasks, decision)
    if isinstance(decision, Fail):
        raise _failed(decision)
    chosen = [updates[name] for name in sorted(decision.contributors, key=slot_order)]
    return Collected(updates=chosen, excluded=decision.excluded)


def _failed(decision: Fail) -> RoundFailed:
    reasons = "; ".join(f"{slot}: {why}" for slot, why in list(decision.excluded.items())[:4])
    return RoundFailed(
        f"{decision.reason} ({reasons})",
        hint="see neural_cluster_status for the nodes; lower learning_rate if updates were not finite;"
        " a version that was committed before stays in force",
    )


async def _decide(
    round_: Round,
    events: ObjectReceiveStream[tuple[str, str | None]],
    clock: Callable[[], float],
) -> Close | Fail:
    decision: Decision = round_.tick(clock())
    while isinstance(decision, Wait):
        event: tuple[str, str | None] | None = None
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
    late = [task.slot for task in tasks if decision.excluded.get(task.slot.name) == "late"]
    async with anyio.create_task_group() as group:
        for slot in late:
            group.start_soon(exchange.cancel, slot)


async def prepare_all(
    exchange: Exchange, members: Sequence[tuple[Slot, NetworkGroup]]
) -> dict[str, str]:
    """Build and grant whatever workers still lack; failures are noted on the slot and skipped.

    Returns:
        Digest of the initial weights of every worker that was built now.
    """
    digests: dict[str, str] = {}

    async def prepare(slot: Slot, network: NetworkGroup) -> None:
        try:
            digest = await exchange.prepare(slot, network)
        except NeuralError as failure:
            slot.note_error(str(failure))
        else:
            if digest is not None:
                digests[slot.name] = digest

    async with anyio.create_task_group() as group:
        for slot, network in members:
            group.start_soon(prepare, slot, network)
    return digests
