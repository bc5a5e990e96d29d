"""Chooses what a training was not given: epochs, batch size, learning rate, patience.

What matters is the number of optimiser steps, not of passes: a data set of a hundred rows needs as many steps
as one of a thousand, hence smaller batches and more epochs. Where validation rows exist, they decide when a
training ends, and the number of epochs is only the most that it may take.

The constants were chosen on the data sets of `bench/defaults.py` by their scores on test rows over several
splits, so that its numbers flatter them a little.
"""

import math
from dataclasses import dataclass
from typing import Final

from flow_nexus_neural.vocabulary import EPOCHS, Optimizer


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a training is.

    Attributes:
        shard_rows: Training rows of the largest shard: workers step at the same time.
        has_validation: Whether rows are reserved for choosing the best round.
        has_sequence: Whether rows have a sequence, on which a step costs some ten times as much.
        parameters: Of the largest network.
    """

    shard_rows: int
    has_validation: bool
    has_sequence: bool
    parameters: int
    optimizer: Optimizer


LEARNING_RATES: Final[dict[Optimizer, float]] = {
    "adam": 2e-3,
    "rmsprop": 2e-3,
    "adagrad": 0.02,
    "sgd": 0.05,
}
"""By optimiser, for inputs of mean 0 and variance 1; the last two do not rescale a step to the rate."""
SMALL_PARAMETERS: Final = 100_000
LARGE_FACTOR: Final = 0.5
"""Of the learning rate for networks with more parameters than those of size base."""
NARROW_PARAMETERS: Final = 20_000
"""Of a network for sequences, up to which it takes fewer steps that are larger: on the synthetic market it
comes as far with them, and its steps are what a training costs."""
NARROW_FACTOR: Final = 2.0
"""Of the learning rate for these."""
NARROW_BATCH: Final = 128
NARROW_BATCH_ROWS: Final = 3_000
"""Rows of a shard from which these networks take batches of that size, which cost less than the same rows in
small ones. On 6,000 hours of the synthetic market per symbol, three workers came as far with them in half the
processor time (one seed); on 2,000 hours one worker did."""

STEPS_PER_EPOCH: Final = 20
"""Steps of an epoch below which batches become smaller."""
SMALLEST_BATCH: Final = 8
USUAL_BATCH: Final = 32
"""Up to `LARGE_ROWS` rows of a shard; then a batch grows with the rows, so that an epoch keeps its steps."""
LARGEST_BATCH: Final = 256
LARGE_STEPS: Final = 500

STEPS: Final = 3_000
"""Most optimiser steps of a worker where validation rows say when to stop."""
STEPS_UNCHECKED: Final = 300
"""Optimiser steps without validation rows: enough to fit, too few to learn every row by heart."""
SEQUENCE_STEPS: Final = 2_500
"""The same for sequences: fewer, yet enough rounds for patience to decide."""
NARROW_STEPS: Final = 2_000
"""The same for networks that take larger steps."""
LEAST_EPOCHS: Final = 10
MOST_EPOCHS: Final = 150
PATIENCE: Final = 10
"""Rounds without a better validation loss that end a training whose rounds were not given."""
SEQUENCE_PATIENCE_STEPS: Final = 1_500
"""Steps that these rounds have at least on sequences: many workers make rounds of few steps, and the
validation rows of a series are one short span of time, whose loss says little about the first steps.
"""


def learning_rate(scale: Scale) -> float:
    """Step size of the optimiser."""
    if not _is_narrow(scale):
        factor = LARGE_FACTOR if scale.parameters > SMALL_PARAMETERS else 1.0
        return LEARNING_RATES[scale.optimizer] * factor
    # Adaptive steps of larger batches are larger by the square root (Malladi et al., NeurIPS 2022).
    larger = math.sqrt(NARROW_BATCH / USUAL_BATCH) if _takes_large_batches(scale) else 1.0
    return LEARNING_RATES[scale.optimizer] * NARROW_FACTOR * larger


def _is_narrow(scale: Scale) -> bool:
    return scale.has_sequence and scale.parameters <= NARROW_PARAMETERS


def _takes_large_batches(scale: Scale) -> bool:
    return _is_narrow(scale) and scale.shard_rows >= NARROW_BATCH_ROWS


def batch_size(scale: Scale) -> int:
    """Rows of an optimiser step: a power of two that gives an epoch 20 to 500 steps, where possible."""
    size = NARROW_BATCH if _takes_large_batches(scale) else USUAL_BATCH
    while size > SMALLEST_BATCH and scale.shard_rows < size * STEPS_PER_EPOCH:
        size //= 2
    while size < LARGEST_BATCH and scale.shard_rows > size * LARGE_STEPS:
        size *= 2
    return size


def epochs(scale: Scale, batch: int, passes: int = 1) -> int:
    """Passes over the rows, or rounds of a federated training with so many passes each."""
    per_epoch = passes * -(-scale.shard_rows // batch)
    steps = STEPS if scale.has_validation else STEPS_UNCHECKED
    if scale.has_sequence:
        steps = min(steps, NARROW_STEPS if _is_narrow(scale) else SEQUENCE_STEPS)
    if _takes_large_batches(scale):
        steps = steps * USUAL_BATCH // NARROW_BATCH
    wanted = -(-steps // max(1, per_epoch))
    return min(max(wanted, LEAST_EPOCHS), MOST_EPOCHS, EPOCHS.high)


def patience(scale: Scale, batch: int, passes: int = 1) -> int:
    """Rounds of `passes` passes each, without a better validation loss, that end the training."""
    if not scale.has_sequence:
        return PATIENCE
    per_round = passes * -(-scale.shard_rows // batch)
    return max(PATIENCE, -(-SEQUENCE_PATIENCE_STEPS // max(1, per_round)))
