"""Ensemble weights, calibration and intervals of a final model, fitted on rows kept for exactly that."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.prepare import Rows
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.state.network_groups import Bundle
from flow_nexus_neural.engine.versions import evaluation
from flow_nexus_neural.engine.versions.evaluation import Logits
from flow_nexus_neural.kernels.calibration import (
    IDENTITY,
    Calibrator,
    conformal_quantile,
    fit_platt,
    fit_temperature,
    gated,
)
from flow_nexus_neural.kernels.ensemble import Aggregation, loss_weights

CALIBRATED_MODES: tuple[Aggregation, ...] = ("mean", "weighted", "ensemble")
"""`majority` stays the share of votes."""
INTERVAL_MODES: tuple[Aggregation, ...] = (*CALIBRATED_MODES, "majority")
LEVEL = 0.9


def calibrated_bundle(
    bundle: Bundle,
    schema: DataSchema,
    slots: Mapping[str, str],
    logits: Mapping[str, Mapping[str, Logits]],
    parts: Mapping[str, Rows],
) -> Bundle:
    """Complete a bundle from outputs on rows that were kept for it.

    Args:
        bundle: With equal weights and no calibration.
        schema: Of the data.
        slots: NetworkGroup of every slot, in slot order.
        logits: Outputs per network and part; `meta` and `calib` may be missing when the data were few.
        parts: The rows behind them.
    """
    weights, source = _weights(schema, slots, logits, parts["meta"])
    finished = replace(
        bundle, slot_weights=dict(zip(slots, weights, strict=True)), weights_source=source
    )
    rows = parts["calib"]
    if not len(rows.y):
        return finished
    on_calib = {key: outputs["calib"] for key, outputs in logits.items()}
    order = list(slots.values())
    if schema.task == "regression":
        target = rows.y * schema.target_sd + schema.target_mean
        fused = {
            mode: evaluation.fused(mode, on_calib, order, weights, schema)
            for mode in INTERVAL_MODES
        }
        residuals = {mode: np.abs(answers.values - target) for mode, answers in fused.items()}
        quantiles = {mode: conformal_quantile(found, LEVEL) for mode, found in residuals.items()}
        return replace(
            finished,
            residual_quantiles={mode: q for mode, q in quantiles.items() if q is not None},
            residual_median=float(np.median(residuals["weighted"])),
            error_correlation=_error_correlation(fused["weighted"].node_values - target),
        )
    labels = rows.y.astype(np.int64)
    calibrators: dict[str, Calibrator] = {}
    for mode in CALIBRATED_MODES:
        answers = evaluation.fused(mode, on_calib, order, weights, schema)
        fit = fit_platt if schema.task == "binary" else fit_temperature
        found = gated(fit, evaluation.pooled(schema, answers), labels)
        if found != IDENTITY:
            calibrators[mode] = found
    errors = (answers.node_decisions != labels) if answers.node_decisions is not None else None
    return replace(
        finished,
        calibrators=calibrators,
        error_correlation=_error_correlation(errors.astype(np.float64))
        if errors is not None
        else None,
    )


def _weights(
    schema: DataSchema,
    slots: Mapping[str, str],
    logits: Mapping[str, Mapping[str, Logits]],
    rows: Rows,
) -> tuple[list[float], str]:
    """Weight of each slot by its loss on `meta` rows; equal when there are none."""
    if not len(rows.y):
        return [1.0 / len(slots)] * len(slots), "equal"
    losses = {
        key: evaluation.score(schema, np.asarray(outputs["meta"], dtype=np.float64), rows).loss
        for key, outputs in logits.items()
    }
    weights = loss_weights([losses[key] for key in slots.values()])
    return [float(weight) for weight in weights], "validation loss"


def _error_correlation(errors: NDArray[np.float64]) -> float | None:
    """Mean correlation between the errors [slots, rows] of two slots; None when it is not defined."""
    if errors.shape[0] < 2 or bool((errors.std(axis=1) == 0).any()):
        return None
    correlation = np.asarray(np.corrcoef(errors))
    pairs = correlation[np.triu_indices(errors.shape[0], k=1)]
    return float(pairs.mean())
