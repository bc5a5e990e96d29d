"""Ensemble weights, calibration and intervals of a final model, fitted on rows reserved for that."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.prepare import Rows
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.versions.evaluation import measure
from flow_nexus_neural.engine.versions.served import Logits, serve, serve_groups
from flow_nexus_neural.kernels.calibration import (
    IDENTITY,
    Calibrator,
    conformal_quantile,
    fit_platt,
    fit_temperature,
    gated,
)
from flow_nexus_neural.kernels.ensemble import Fused, loss_weights
from flow_nexus_neural.kernels.probabilities import class_logits
from flow_nexus_neural.vocabulary import Aggregation

CALIBRATED_MODES: tuple[Aggregation, ...] = ("mean", "weighted", "ensemble")
"""Aggregations that give probabilities; `majority` gives shares of votes, which are not calibrated."""
INTERVAL_MODES: tuple[Aggregation, ...] = (*CALIBRATED_MODES, "majority")
LEVEL = 0.9


def calibrated_bundle(
    bundle: Bundle,
    schema: DataSchema,
    slots: Mapping[str, str],
    logits: Mapping[str, Mapping[str, Logits]],
    parts: Mapping[str, Rows],
    stacked: Logits | None = None,
) -> Bundle:
    """Add ensemble weights, calibration and intervals to a bundle.

    Args:
        bundle: With equal weights and without calibration.
        schema: Schema of the data.
        slots: Network group of every slot, in slot order.
        logits: Outputs per network group and part; `meta` and `calib` may be missing for small data.
        parts: The rows of the parts.
        stacked: Outputs of stacking networks on `calib`; None where `ensemble` goes without them.
    """
    weights, source = _weights(bundle, schema, slots, logits, parts["meta"])
    weighted = replace(
        bundle, slot_weights=dict(zip(slots, weights, strict=True)), weights_source=source
    )
    rows = parts["calib"]
    if not len(rows.y):
        return weighted
    on_calib = {key: outputs["calib"] for key, outputs in logits.items()}
    raw = {
        mode: serve_groups(weighted, schema, mode, on_calib, slots, stacked).raw
        for mode in INTERVAL_MODES
    }
    errors = _node_errors(schema, weighted, on_calib, slots, rows)
    measured = replace(weighted, error_correlation=_error_correlation(errors))
    if schema.task == "regression":
        return _with_intervals(measured, schema, raw, rows)
    return _with_calibrators(measured, schema, raw, rows)


def _with_intervals(
    bundle: Bundle, schema: DataSchema, raw: Mapping[Aggregation, Fused], rows: Rows
) -> Bundle:
    """Conformal quantiles of the absolute errors, for each aggregation."""
    target = rows.y * schema.target_sd + schema.target_mean
    residuals = {mode: np.abs(answers.values - target) for mode, answers in raw.items()}
    quantiles = {mode: conformal_quantile(found, LEVEL) for mode, found in residuals.items()}
    return replace(
        bundle,
        residual_quantiles={mode: q for mode, q in quantiles.items() if q is not None},
        residual_median=float(np.median(residuals["weighted"])),
    )


def _with_calibrators(
    bundle: Bundle, schema: DataSchema, raw: Mapping[Aggregation, Fused], rows: Rows
) -> Bundle:
    """A calibrator for each aggregation with probabilities whose log loss it lowers."""
    labels = rows.y.astype(np.int64)
    # In time order the calibration rows are one stretch of time. Its share of a class is not that of the time
    # after it, and an offset fitted to it would move decisions that the model had right.
    has_offset = schema.task == "binary" and not schema.time_ordered
    fit = fit_platt if has_offset else fit_temperature
    calibrators: dict[str, Calibrator] = {}
    for mode in CALIBRATED_MODES:
        probabilities = raw[mode].probabilities
        if probabilities is None:
            continue
        logits = class_logits(probabilities)
        found = gated(fit, logits, labels, ordered=schema.time_ordered)
        if found != IDENTITY:
            calibrators[mode] = found
    return replace(bundle, calibrators=calibrators)


def _node_errors(
    schema: DataSchema,
    bundle: Bundle,
    on_calib: Mapping[str, Logits],
    slots: Mapping[str, str],
    rows: Rows,
) -> NDArray[np.float64]:
    """[slots, rows] errors of the slots: difference of values, or 1 for a wrong class."""
    outputs = np.stack([np.asarray(on_calib[key], np.float64) for key in slots.values()])
    answers = serve(bundle, schema, "mean", outputs, [1.0] * len(slots)).raw
    if answers.node_decisions is None:
        return answers.node_values - (rows.y * schema.target_sd + schema.target_mean)
    wrong: NDArray[np.float64] = (answers.node_decisions != rows.y.astype(np.int64)).astype(float)
    return wrong


def _weights(
    bundle: Bundle,
    schema: DataSchema,
    slots: Mapping[str, str],
    logits: Mapping[str, Mapping[str, Logits]],
    rows: Rows,
) -> tuple[list[float], str]:
    """Weight of each slot by its loss on `meta` rows; equal weights without such rows."""
    if not len(rows.y):
        return [1.0 / len(slots)] * len(slots), "equal"
    losses = {
        key: measure(
            schema, serve_groups(bundle, schema, "mean", {key: outputs["meta"]}, {}).raw, rows
        ).loss
        for key, outputs in logits.items()
    }
    weights = loss_weights([losses[key] for key in slots.values()])
    return [float(weight) for weight in weights], "validation loss"


def _error_correlation(errors: NDArray[np.float64]) -> float | None:
    """Mean correlation between the errors [slots, rows] of two slots; None if undefined."""
    if errors.shape[0] < 2 or bool((errors.std(axis=1) == 0).any()):
        return None
    correlation = np.asarray(np.corrcoef(errors))
    pairs = correlation[np.triu_indices(errors.shape[0], k=1)]
    return float(pairs.mean())
