"""Chooses how a training without `federated` divides its work: one process on all rows, or all workers.

Workers that train side by side save time only where an epoch has more to compute than they have to exchange.
The rule is about sizes and measures nothing while it trains, so that two runs with one seed on one machine
give the same bytes. Its constants are processor times of one machine, those of an exchange rounded up: where
it errs, it errs towards one process, which is never slower than itself. `bench.strategies` shows what both
ways take.
"""

from dataclasses import dataclass
from typing import Final, Literal

StrategyName = Literal["federated", "local_sgd", "single_process"]

STEP_S: Final = 0.25e-3
"""An optimiser step of a small network."""
VALUE_S: Final = 1.2e-10
"""What a step takes more for each parameter, row of the batch and step of the sequence."""
EXCHANGE_S: Final = 6e-3
"""Asking one worker and taking its update."""
PARAMETER_S: Final = 4e-8
"""What that takes more for each parameter, optimiser moments included: copied, hashed, averaged."""
FURTHER: Final = 0.7
"""Speed that each further worker adds, of that of the first."""
MARGIN: Final = 0.8
"""Local SGD has to be expected to take less than this share of the time of one process."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a training divides its work, and why."""

    name: StrategyName
    reason: str


@dataclass(frozen=True, slots=True)
class Effort:
    """How large an epoch is.

    Attributes:
        workers: That have the same network and can train.
        networks: Different networks among all workers.
        places: Workers that may compute at one time, by the processors of this machine.
        rows: Training rows of an epoch.
        batch_size: Rows of an optimiser step.
        parameters: Of the network.
        sequence: Steps of a row's sequence; 1 for plain rows.
        exchanges: Averagings of an epoch under local SGD.
        needs_workers: Why one worker is not enough, however fast it is; None if it is.
    """

    workers: int
    networks: int
    places: int
    rows: int
    batch_size: int
    parameters: int
    sequence: int
    exchanges: int
    needs_workers: str | None = None


def choose_strategy(effort: Effort) -> Strategy:
    """One process where all workers together are not expected to be faster.

    Source: the strategy itself is Stich, "Local SGD Converges Fast and Communicates Little", ICLR 2019; the
    rule is of this project.
    """
    if effort.workers == 1 and effort.networks == 1:
        return Strategy("single_process", "one worker can train")
    if effort.networks > 1:
        return Strategy("local_sgd", f"the workers have {effort.networks} different networks")
    if effort.needs_workers is not None:
        return Strategy("local_sgd", effort.needs_workers)
    if effort.places == 1:
        return Strategy("single_process", "this machine lets one worker compute at a time")
    alone_s, together_s = expected_s(effort)
    steps = -(-effort.rows // effort.batch_size)
    what = (
        f"{steps} optimiser steps an epoch, {effort.exchanges} exchanges of {effort.parameters} parameters"
        f" among {effort.workers} workers, {min(effort.workers, effort.places)} at a time"
    )
    if together_s < MARGIN * alone_s:
        return Strategy("local_sgd", f"worth sharing: {what}")
    return Strategy("single_process", f"not worth sharing: {what}")


def expected_s(effort: Effort) -> tuple[float, float]:
    """Seconds that an epoch is expected to take in one process, and shared by all workers.

    Workers side by side share the memory's bandwidth: each further one adds less than the first.
    """
    steps = -(-effort.rows // effort.batch_size)
    values = effort.parameters * min(effort.batch_size, effort.rows) * effort.sequence
    computing_s = steps * (STEP_S + VALUE_S * values)
    exchange_s = EXCHANGE_S + PARAMETER_S * effort.parameters
    speed = 1 + FURTHER * (min(effort.workers, effort.places) - 1)
    together_s = computing_s / speed + effort.exchanges * effort.workers * exchange_s
    return computing_s + exchange_s, together_s
