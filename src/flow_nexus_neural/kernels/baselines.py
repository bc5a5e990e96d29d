"""Baselines: predictions without a network, measured on the same rows as the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.probabilities import Float64s

Numbers = NDArray[np.floating[Any]] | NDArray[np.integer[Any]]

MAX_MULTIPLICATIONS = 4e10
"""Largest cost of fitting the linear baseline, about ten seconds of one core."""
BLOCK_ROWS = 8192
RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of one part of the data, as the baselines need them.

    Attributes:
        x: [n, ...] standardised inputs.
        y: [n] class indices, or standardised values.
        last: [n] the latest label that was known before a row's own label; NaN if there is none. None if the
            rows have no order in time.
    """

    x: NDArray[np.floating[Any]]
    y: Numbers
    last: NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """The baselines, and the model's skill relative to the best one.

    Attributes:
        values: By baseline: accuracy for classes, root mean squared error for values.
        best: The best baseline.
        skill: Share of the best baseline's errors that the model avoids: 1 is perfect, 0 no better, below 0
            worse. Errors are wrong decisions for classes and squared errors for values. None if the best
            baseline makes no error.
    """

    values: Mapping[str, float]
    best: str
    skill: float | None


def compare_classifier(
    train: Sample, test: Sample, *, n_classes: int, accuracy: float
) -> Compared | None:
    """Compare a classifier's accuracy on test rows with `majority`, `last_value` and `linear`.

    `majority` is the most frequent class of the training rows, `linear` ridge regression on the classes'
    indicators, whose largest output decides (Hastie, Tibshirani and Friedman, 2009, section 4.2).

    Returns:
        None without test rows.
    """
    truth = test.y.astype(np.int64)
    if not truth.size:
        return None
    labels = train.y.astype(np.int64)
    majority = int(np.bincount(labels, minlength=n_classes).argmax())
    answers: dict[str, NDArray[Any]] = {"majority": np.full(truth.size, majority)}
    last = _last(test, otherwise=float(majority))
    if last is not None:
        answers["last_value"] = last
    indicators = (labels[:, None] == np.arange(n_classes)).astype(np.float64)
    outputs = _ridge(train.x, indicators, test.x)
    if outputs is not None:
        answers["linear"] = outputs.argmax(axis=1)
    values = {name: float((answer == truth).mean()) for name, answer in answers.items()}
    best = max(values, key=lambda name: values[name])
    errors = 1.0 - values[best]
    return Compared(values, best, (accuracy - values[best]) / errors if errors > 0 else None)


def compare_regressor(train: Sample, test: Sample, *, sd: float, rmse: float) -> Compared | None:
    """Compare a regressor's error on test rows with `mean`, `median`, `last_value` and `linear`.

    Mean and median are those of the training rows; `linear` is ridge regression.

    Args:
        train: Rows that the model was trained on.
        test: Rows that it was measured on.
        sd: Standard deviation by which targets were standardised.
        rmse: The model's root mean squared error in the target's unit.

    Returns:
        None without test rows.
    """
    truth = test.y.astype(np.float64)
    if not truth.size:
        return None
    known = train.y.astype(np.float64)
    answers: dict[str, NDArray[Any]] = {
        "mean": np.full(truth.size, known.mean()),
        "median": np.full(truth.size, np.median(known)),
    }
    last = _last(test, otherwise=float(known.mean()))
    if last is not None:
        answers["last_value"] = last
    outputs = _ridge(train.x, known[:, None], test.x)
    if outputs is not None:
        answers["linear"] = outputs[:, 0]
    values = {
        name: float(np.sqrt(np.mean((answer - truth) ** 2))) * sd
        for name, answer in answers.items()
    }
    best = min(values, key=lambda name: values[name])
    skill = 1.0 - (rmse / values[best]) ** 2 if values[best] > 0 else None
    return Compared(values, best, skill)


def _last(test: Sample, otherwise: float) -> Float64s | None:
    """The last known label of each row; `otherwise` at the start of a series."""
    if test.last is None:
        return None
    last = np.asarray(test.last, dtype=np.float64)
    if bool(np.isnan(last).all()):
        return None
    return np.where(np.isnan(last), otherwise, last)


def _ridge(
    x: NDArray[np.floating[Any]], targets: Float64s, test_x: NDArray[np.floating[Any]]
) -> Float64s | None:
    """Ridge regression from flattened inputs to targets [n, K]; outputs [m, K] for test inputs.

    None if it would need more than `MAX_MULTIPLICATIONS`, or an input is not finite.
    """
    n, width = len(x), int(np.prod(x.shape[1:]))
    if float(n) * width * width > MAX_MULTIPLICATIONS or float(width) ** 3 > MAX_MULTIPLICATIONS:
        return None
    flat, flat_test = x.reshape(n, width), test_x.reshape(len(test_x), width)
    centre = flat.mean(axis=0, dtype=np.float64)
    offset = targets.mean(axis=0)
    gram = RIDGE * np.eye(width)
    moments = np.zeros((width, targets.shape[1]))
    for start in range(0, n, BLOCK_ROWS):  # in blocks: a float64 copy of all rows may not fit
        block = flat[start : start + BLOCK_ROWS].astype(np.float64) - centre
        gram += block.T @ block
        moments += block.T @ (targets[start : start + BLOCK_ROWS] - offset)
    if not (np.isfinite(gram).all() and np.isfinite(moments).all()):
        return None
    slopes = np.linalg.solve(gram, moments)
    outputs: Float64s = (flat_test.astype(np.float64) - centre) @ slopes + offset
    return outputs if bool(np.isfinite(outputs).all()) else None
