"""Calibration of probabilities."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.kernels.metrics import ClassLabels
from flow_nexus_neural.kernels.probabilities import (
    Float64s,
    Floats,
    class_log_probabilities,
    log_softmax,
    sigmoid,
)

Kind = Literal["identity", "temperature", "platt"]
Fit = Callable[[Floats, ClassLabels], "Calibrator"]
Mask = NDArray[np.bool_]

MAX_STEPS = 100
FOLDS = 5
ORDERED_ERRORS = 2.0
"""Standard errors by which a calibrator must help rows in time order, which are no independent evidence."""
MIN_ROWS = 30
"""Fewer rows are too few to show that two fitted parameters help."""
SCALE_BOUNDS = (1e-2, 1e2)


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A map from logits to calibrated logits: `scale * logits + offset`.

    Attributes:
        kind: `identity` is scale 1 and offset 0; `temperature` is scale 1 / T and offset 0; `platt` fits
            both and is for single logits only.
    """

    kind: Kind
    scale: float
    offset: float

    def apply(self, logits: Floats) -> Float64s:
        """Calibrated logits, of the same shape, float64."""
        calibrated: Float64s = np.asarray(logits, dtype=np.float64) * self.scale + self.offset
        return calibrated

    def to_json(self) -> dict[str, JsonValue]:
        """Convert to a JSON object."""
        return {"kind": self.kind, "scale": self.scale, "offset": self.offset}

    @classmethod
    def from_json(cls, value: Mapping[str, JsonValue]) -> "Calibrator":
        """Read an object written by `to_json`.

        Raises:
            StoreCorrupt: If the object is not valid.
        """
        kind, scale, offset = value.get("kind"), value.get("scale"), value.get("offset")
        known = next((name for name in _KINDS if name == kind), None)
        if known is None or not _is_number(scale) or not _is_number(offset) or scale <= 0:
            raise StoreCorrupt(f"a stored calibrator is {dict(value)!r}", hint="train again")
        return cls(kind=known, scale=float(scale), offset=float(offset))


_KINDS: tuple[Kind, ...] = get_args(Kind)

IDENTITY = Calibrator("identity", 1.0, 0.0)


def log_loss(logits: Floats, y: ClassLabels) -> float:
    """Mean negative log likelihood in nats; logits [n, 1] or [n, C], y [n] class indices."""
    return float(_losses(logits, y).mean())


def _losses(logits: Floats, y: ClassLabels) -> Float64s:
    """[n] negative log likelihood of each row."""
    log_p = class_log_probabilities(logits)
    losses: Float64s = -log_p[np.arange(y.size), y.astype(np.int64)]
    return losses


def fit_temperature(logits: Floats, y: ClassLabels) -> Calibrator:
    """Fit one scale for all logits by Newton's method on the log loss.

    The loss is convex in the scale, so the result does not depend on the starting point. The scale is kept
    in [0.01, 100]: for separable rows there is no finite optimum.

    Args:
        logits: [n, 1] for two classes or [n, C].
        y: [n] class indices.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2, with
    scale = 1 / T. Departure: Newton with step halving instead of L-BFGS.
    """
    x = _as_pair(logits)  # [n, C]
    rows, labels = np.arange(y.size), y.astype(np.int64)

    # Optimised over the logarithm of the scale, which keeps the scale positive.
    def loss(log_scale: Float64s) -> float:
        return float(-log_softmax(x * math.exp(log_scale[0]))[rows, labels].mean())

    def derivatives(log_scale: Float64s) -> tuple[Float64s, Float64s]:
        scale = math.exp(log_scale[0])
        p = np.exp(log_softmax(x * scale))
        mean = (p * x).sum(axis=1)
        slope = float((mean - x[rows, labels]).mean()) * scale
        curvature = float(((p * x**2).sum(axis=1) - mean**2).mean()) * scale**2
        return np.array([slope]), np.array([[curvature]])

    bounds = (np.log([SCALE_BOUNDS[0]]), np.log([SCALE_BOUNDS[1]]))
    best = _newton(loss, derivatives, np.zeros(1), bounds)
    return Calibrator("temperature", float(np.exp(best[0])), 0.0)


def fit_platt(logits: Floats, y: ClassLabels) -> Calibrator:
    """Fit scale and offset of a single logit by Newton's method on the smoothed log loss.

    Args:
        logits: [n] or [n, 1].
        y: [n] of 0 and 1.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999, targets of section 2.2;
    Lin, Lin and Weng, "A note on Platt's probabilistic outputs", Machine Learning 2007, algorithm 1.
    Departure: the scale is kept in [0.01, 100], so calibration never reverses the order of two rows.
    """
    x = np.asarray(logits, dtype=np.float64).reshape(-1)
    positives = int((y == 1).sum())
    negatives = y.size - positives
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(theta: Float64s) -> float:
        z = theta[0] * x + theta[1]
        return float((np.logaddexp(0.0, z) - target * z).mean())

    def derivatives(theta: Float64s) -> tuple[Float64s, Float64s]:
        p = sigmoid(theta[0] * x + theta[1])
        error, spread = p - target, p * (1 - p)
        gradient = np.array([(error * x).mean(), error.mean()])
        cross = float((spread * x).mean())
        hessian = np.array([[(spread * x**2).mean(), cross], [cross, spread.mean()]])
        return gradient, hessian

    bounds = (np.array([SCALE_BOUNDS[0], -1e3]), np.array([SCALE_BOUNDS[1], 1e3]))
    best = _newton(loss, derivatives, np.array([1.0, 0.0]), bounds)
    return Calibrator("platt", float(best[0]), float(best[1]))


def gated(
    fit: Fit, logits: Floats, y: ClassLabels, *, ordered: bool = False, folds: int = FOLDS
) -> Calibrator:
    """Fit a calibrator; return the identity unless it lowers the log loss of rows on which it was not fitted.

    Without an order each of `folds` folds is scored by a calibrator fitted on the others; they are stratified
    by class and assigned in the order of rows, without randomness. With one, rows are cut into consecutive
    blocks and each is scored by a calibrator fitted on those before it, and the gain must exceed two standard
    errors: rows that follow each other are alike, and a share of classes that holds for an hour would look
    like a property of all hours. Source: Tashman, International Journal of Forecasting 16 (2000), rolling
    origins. The returned calibrator is fitted on all rows.

    Args:
        fit: `fit_temperature` or `fit_platt`.
        logits: [n, 1] or [n, C], finite.
        y: [n] class indices.
        ordered: Whether rows are in time order.
        folds: Number of folds, or of blocks.

    Returns:
        `IDENTITY` also if there are fewer than 30 rows, or only one class occurs.
    """
    found = cross_fitted(fit, logits, y, ordered=ordered, folds=folds)
    if found is None:
        return IDENTITY
    scored, held_out = found
    gain = _losses(logits[scored], y[scored]) - _losses(held_out[scored], y[scored])
    needed = ORDERED_ERRORS * float(gain.std()) / math.sqrt(gain.size) if ordered else 0.0
    if float(gain.mean()) <= needed:
        return IDENTITY
    return fit(logits, y)


def cross_fitted(
    fit: Fit, logits: Floats, y: ClassLabels, *, ordered: bool = False, folds: int = FOLDS
) -> tuple[Mask, Float64s] | None:
    """Calibrated logits of rows by calibrators that were fitted on other rows, as `gated` compares them.

    Returns:
        [n] rows that have such logits, and the logits, undefined for the others; None if there are fewer than
        30 rows, or only one class occurs.
    """
    if y.size < MIN_ROWS or np.unique(y).size < 2 or not np.isfinite(logits).all():
        return None
    scored = np.zeros(y.size, dtype=np.bool_)
    held_out = np.zeros(logits.shape, dtype=np.float64)
    for fitted, out in _blocks(y.size, folds) if ordered else _folds(y, folds):
        if np.unique(y[fitted]).size > 1:
            held_out[out] = np.reshape(
                fit(logits[fitted], y[fitted]).apply(logits[out]), held_out[out].shape
            )
            scored |= out
    return (scored, held_out) if scored.any() else None


def _folds(y: ClassLabels, folds: int) -> Iterator[tuple[Mask, Mask]]:
    """Rows to fit on and rows to score, by fold; each fold has the same share of every class."""
    fold = np.empty(y.size, dtype=np.int64)
    # Dealing the rows out in the order of their classes gives each fold the same share of every class.
    fold[np.argsort(y, kind="stable")] = np.arange(y.size) % folds
    for k in range(folds):
        yield fold != k, fold == k


def _blocks(n: int, blocks: int) -> Iterator[tuple[Mask, Mask]]:
    """Rows to fit on and rows to score: every block but the first, and all that came before it."""
    block = np.arange(n) * blocks // n
    for k in range(1, blocks):
        yield block < k, block == k


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _as_pair(logits: Floats) -> Float64s:
    x = np.asarray(logits, dtype=np.float64)
    if x.shape[1] == 1:
        pair: Float64s = np.concatenate([np.zeros_like(x), x], axis=1)
        return pair
    return x


def _newton(
    loss: Callable[[Float64s], float],
    derivatives: Callable[[Float64s], tuple[Float64s, Float64s]],
    start: Float64s,
    bounds: tuple[Float64s, Float64s],
) -> Float64s:
    """Minimise a smooth function in a box by Newton steps, each halved until it lowers the function."""
    theta, best = start, loss(start)
    for _ in range(MAX_STEPS):
        gradient, hessian = derivatives(theta)
        # Keeps the system solvable where the Hessian is singular, for example for equal logits.
        ridge = 1e-12 + 1e-10 * float(np.trace(hessian))
        direction = -np.linalg.solve(hessian + ridge * np.eye(theta.size), gradient)
        stride = 1.0
        while stride > 1e-10:
            candidate = np.clip(theta + stride * direction, *bounds)
            value = loss(candidate)
            if value < best:
                break
            stride /= 2
        else:  # no step lowers the function: theta is the minimum up to rounding
            return theta
        if np.abs(candidate - theta).max() < 1e-12:
            return candidate
        theta, best = candidate, value
    return theta
