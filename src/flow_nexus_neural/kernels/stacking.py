"""What a stacking network reads: the answers of several models to a record, and how they are spread.

Source: Wolpert, "Stacked Generalization", Neural Networks 1992. Departures: a mask per model, so that one
network serves whoever has answered, and summaries that do not depend on which model answered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.probabilities import (
    EPSILON,
    Float64s,
    Floats,
    class_log_probabilities,
    logit,
    sigmoid,
)
from flow_nexus_neural.vocabulary import Task

LEAST_COLUMNS: Final = 16
STEP: Final = 8
SLOT_DROPOUT: Final = 0.2
"""Share of answers that a training hides, so that a network knows what to do without one."""
MAX_SYMBOLS: Final = 64
LARGEST_VALUE: Final = 50.0
"""In standard deviations of the target: an answer of regression beyond it is cut."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StackLayout:
    """Which features a stacking network has.

    Attributes:
        columns: Names of the models, in the order of their columns.
        n_outputs: Outputs of each model: 1 for binary and regression, else one per class.
        n_symbols: Symbols that records may be of; 0 for none.
    """

    columns: tuple[str, ...]
    n_outputs: int
    n_symbols: int

    @property
    def width(self) -> int:
        """Columns, also those that no model has: at least 16, and the next multiple of 8 above the models."""
        return max(LEAST_COLUMNS, STEP * (len(self.columns) // STEP + 1))

    @property
    def n_features(self) -> int:
        """Values per record."""
        return self.width * (self.n_outputs + 1) + 4 * self.n_outputs + self.n_symbols


def layout_of(columns: Sequence[str], n_outputs: int, n_symbols: int) -> StackLayout:
    """The layout for these models; too many symbols are not told apart."""
    return StackLayout(tuple(columns), n_outputs, n_symbols if n_symbols <= MAX_SYMBOLS else 0)


def evidence(outputs: Floats, task: Task) -> Float64s:
    """Outputs [..., O] in a bounded form: a logit, log probabilities of classes, or a standardised value.

    Probabilities are clipped to 1e-6, as wherever logits are combined.
    """
    x = np.asarray(outputs, dtype=np.float64)
    if task == "regression":
        bounded: Float64s = np.clip(x, -LARGEST_VALUE, LARGEST_VALUE)
        return bounded
    if x.shape[-1] == 1:
        return logit(sigmoid(x))
    log_p: Float64s = np.maximum(class_log_probabilities(x), np.log(EPSILON))
    return log_p


def stacker_features(
    layout: StackLayout,
    answers: Mapping[str, Floats],
    task: Task,
    symbols: NDArray[np.integer] | None = None,
    hidden: Mask | None = None,
) -> NDArray[np.float32]:
    """[R, n_features] of a stacking network, float32.

    Per column the outputs and whether there are any; over all models that answered, those too that have no
    column yet, mean, standard deviation, lowest and highest of each output; the record's symbol as one of n.

    Args:
        layout: Which columns there are.
        answers: [R, O] outputs by model, at least one. A model without a column counts in the summaries.
        task: What outputs mean.
        symbols: [R] index of the record's symbol, -1 for none; None where there are no symbols.
        hidden: [R, K] answers to leave out, in the order of `answers`; never all of a row.

    Raises:
        ValueError: If nobody answered.
    """
    if not answers:
        raise ValueError("no model answered")
    given = np.stack([evidence(outputs, task) for outputs in answers.values()], axis=1)  # [R, K, O]
    rows = given.shape[0]
    present = np.ones(given.shape[:2], dtype=np.bool_) if hidden is None else ~hidden
    columns = np.zeros((rows, layout.width, layout.n_outputs + 1))
    for index, name in enumerate(answers):
        if name in layout.columns:
            shown, place = present[:, index], layout.columns.index(name)
            columns[:, place, :-1] = given[:, index] * shown[:, None]
            columns[:, place, -1] = shown
    one_of = np.zeros((rows, layout.n_symbols))
    if symbols is not None and layout.n_symbols:
        known = (symbols >= 0) & (symbols < layout.n_symbols)
        one_of[np.flatnonzero(known), symbols[known]] = 1.0
    parts = [columns.reshape(rows, -1), _summaries(given, present), one_of]
    return np.concatenate(parts, axis=1).astype(np.float32)


def hidden_answers(seed: int, rows: int, models: int, rate: float = SLOT_DROPOUT) -> Mask:
    """[rows, models] answers to hide in a training; every row keeps at least one.

    Args:
        seed: In [0, 2**63); equal seeds hide the same.
        rows: Records.
        models: Answers to each.
        rate: Share to hide.
    """
    draw = np.random.Generator(np.random.PCG64(seed)).random((rows, models))
    hidden: Mask = draw < rate
    hidden[np.arange(rows), draw.argmax(axis=1)] = False
    return hidden


def _summaries(given: Float64s, present: Mask) -> Float64s:
    """[R, 4 O]: mean, standard deviation, lowest and highest of the present answers [R, K, O]."""
    shown = present[:, :, None]
    count = shown.sum(axis=1)
    mean = (given * shown).sum(axis=1) / count
    sd = np.sqrt((((given - mean[:, None]) ** 2) * shown).sum(axis=1) / count)
    low = np.where(shown, given, np.inf).min(axis=1)
    high = np.where(shown, given, -np.inf).max(axis=1)
    summaries: Float64s = np.concatenate([mean, sd, low, high], axis=1)
    return summaries
