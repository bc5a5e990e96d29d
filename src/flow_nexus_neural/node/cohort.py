"""Trains nodes of one process together: those alike in stacks, the others by themselves."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from flow_nexus_neural.node.denormals import flushed_denormals
from flow_nexus_neural.node.hosting import Seat
from flow_nexus_neural.node.stacked import (
    FEWEST,
    Outcome,
    can_share_a_stack,
    clients_per_stack,
    train_stacked,
)
from flow_nexus_neural.node.training import Order
from flow_nexus_neural.protocol.messages import Failed
from flow_nexus_neural.protocol.model_state import MOMENTS


class _Deserted(Exception):
    """Every client of a stack was asked to stop, or is gone."""


@dataclass(slots=True, eq=False)
class _Trainee:
    """A seat whose order can begin; its node is busy until `leave`."""

    seat: Seat
    order: Order
    busy: ExitStack

    def leave(self) -> None:
        """The node is no longer busy. First of all: the engine may ask for more as soon as it is answered."""
        self.busy.close()

    def decline(self) -> None:
        """It is trained by itself, after the others."""
        self.leave()
        self.seat.decline()

    def end_if_asked(self) -> bool:
        """Whether it has ended; answers it when it was asked to end just now."""
        if not self.seat.answered and self.seat.ended:
            self.leave()
            self.seat.answer(Failed(type="cancelled", message="it was asked to stop"))
        return self.seat.answered


def train_together(seats: Sequence[Seat], between_steps: Callable[[], None]) -> None:
    """Train and answer every order that can share a stack with another; the rest is declined.

    Args:
        seats: Of nodes with the service of this package.
        between_steps: Answers other requests.
    """
    with ExitStack() as at_the_end:
        trainees = [one for seat in seats if (one := _opened(seat, at_the_end)) is not None]
        with flushed_denormals():
            for stack in _stacks(trainees):
                _train(stack, trainees, between_steps)


def _opened(seat: Seat, at_the_end: ExitStack) -> _Trainee | None:
    """A seat that may share a stack; None for one that is trained by itself, or whose order is wrong."""
    busy = at_the_end.enter_context(ExitStack())
    try:
        order = busy.enter_context(seat.service.training(seat.request))
    except Exception as failure:  # noqa: BLE001 - told to the engine, as of every other request
        busy.close()
        seat.answer(seat.service.failed(failure))
        return None
    if order.can_be_stacked:
        return _Trainee(seat, order, busy)
    busy.close()
    seat.decline()
    return None


def _stacks(trainees: Sequence[_Trainee]) -> list[list[_Trainee]]:
    """Those alike in stacks of a size that a processor keeps near, in the order of their places."""
    groups: list[list[_Trainee]] = []
    for one in trainees:
        for group in groups:
            if _alike(group[0].order, one.order):
                group.append(one)
                break
        else:
            groups.append([one])
    stacks = []
    for group in groups:
        request, plan = group[0].order.request, group[0].order.held.network.plan
        size = clients_per_stack(plan.n_params, len(MOMENTS[request.optimizer]))
        stacks += [group[start : start + size] for start in range(0, len(group), size)]
    for stack in stacks:
        if len(stack) < FEWEST:
            stack[0].decline()
    return [stack for stack in stacks if len(stack) >= FEWEST]


def _alike(one: Order, other: Order) -> bool:
    same_plan = one.held.network.plan == other.held.network.plan
    return same_plan and can_share_a_stack(one.request, other.request)


def _train(
    stack: Sequence[_Trainee], everybody: Sequence[_Trainee], between_steps: Callable[[], None]
) -> None:
    present = [one for one in stack if not one.end_if_asked()]
    if not present:
        return

    def watch(step_ms: float, who: Sequence[int]) -> None:
        for number in who:
            present[number].seat.service.note_step(step_ms)
        between_steps()
        # One that ends stays in the stack, where it harms nobody; its result is dropped.
        for one in everybody:
            one.end_if_asked()
        if all(one.seat.answered for one in present):
            raise _Deserted

    plan = present[0].order.held.network.plan
    try:
        outcomes = train_stacked(plan, [one.order.client for one in present], watch)
    except _Deserted:
        return
    except Exception as failure:  # noqa: BLE001 - told to the engine, as of every other request
        _fail(present, failure)
        return
    for one, outcome in zip(present, outcomes, strict=True):
        _publish(one, outcome)


def _fail(present: Sequence[_Trainee], failure: Exception) -> None:
    for one in present:
        one.leave()
        if not one.seat.answered:
            one.seat.answer(one.seat.service.failed(failure))


def _publish(one: _Trainee, outcome: Outcome) -> None:
    if not one.end_if_asked():
        trained = one.order.stacked(outcome)
        one.leave()
        one.seat.answer(trained)
