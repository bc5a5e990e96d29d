"""Ensemble weights, calibration, sets and intervals of a final model, fitted on rows reserved for that."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.prepare import Rows
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.versions.evaluation import measure
from flow_nexus_neural.engine.versions.served import Logits, Served, serve, serve_groups
from flow_nexus_neural.engine.versions.sureness import conformal_scores, in_units
from flow_nexus_neural.kernels.calibration import (
    IDENTITY,
    Calibrator,
    fit_platt,
    fit_temperature,
    gated,
)
from flow_nexus_neural.kernels.loss_weights import loss_weights
from flow_nexus_neural.kernels.probabilities import class_logits
from flow_nexus_neural.vocabulary import AGGREGATIONS, Aggregation

CALIBRATED_MODES: tuple[Aggregation, ...] = ("mean", "weighted", "ensemble")
"""Aggregations that give probabilities; `majority` gives shares of votes, which are not calibrated."""
CONFORMAL_PARTS = ("calib", "select")
"""Where rows that score sets and intervals are taken from: the first of these parts that has any."""


def calibrated_bundle(
    bundle: Bundle,
    schema: DataSchema,
    slots: Mapping[str, str],
    logits: Mapping[str, Mapping[str, Logits]],
    parts: Mapping[str, Rows],
    stacked: Mapping[str, Logits] | None = None,
) -> Bundle:
    """Add ensemble weights, calibration, prediction sets and intervals to a bundle.

    Small data have no `calib` rows. Sets and intervals are then scored on `select` rows, by which the
    round and own weights were chosen; what they cover on test rows is reported.

    Args:
        bundle: With equal weights and without calibration.
        schema: Schema of the data.
        slots: Network group of every slot, in slot order.
        logits: Outputs per network group and part; `meta` and `calib` are missing for small data.
        parts: The rows of the parts.
        stacked: Outputs of stacking networks by part; None where `ensemble` goes without them.
    """
    weights, source = _weights(bundle, schema, slots, logits, parts["meta"])
    weighted = replace(
        bundle, slot_weights=dict(zip(slots, weights, strict=True)), weights_source=source
    )
    part = next((name for name in CONFORMAL_PARTS if name in parts and len(parts[name])), None)
    if part is None:
        return weighted
    rows, outputs = parts[part], {key: of_parts[part] for key, of_parts in logits.items()}
    made = {
        mode: serve_groups(
            weighted,
            schema,
            mode,
            outputs,
            slots,
            stacked=(stacked or {}).get(part),
            symbols=rows.symbols,
        )
        for mode in AGGREGATIONS
    }
    scores = conformal_scores(schema, made, rows)
    scored = replace(weighted, conformal=scores, conformal_part=part if scores else None)
    if part != "calib":
        return scored
    errors = _node_errors(schema, scored, outputs, slots, rows)
    measured = replace(scored, error_correlation=_error_correlation(errors))
    if schema.task == "regression":
        residuals = np.abs(made["weighted"].raw.values - in_units(schema, rows))
        return replace(measured, residual_median=float(np.median(residuals)))
    return _with_calibrators(measured, schema, made, rows)


def _with_calibrators(
    bundle: Bundle, schema: DataSchema, made: Mapping[Aggregation, Served], rows: Rows
) -> Bundle:
    """A calibrator for each aggregation with probabilities whose log loss it lowers."""
    labels = rows.y.astype(np.int64)
    # In time order the calibration rows are one stretch of time. Its share of a class is not that of the time
    # after it, and an offset fitted to it would move decisions that the model had right.
    has_offset = schema.task == "binary" and not schema.time_ordered
    fit = fit_platt if has_offset else fit_temperature
    calibrators: dict[str, Calibrator] = {}
    for mode in CALIBRATED_MODES:
        probabilities = made[mode].raw.probabilities
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
        return answers.node_values - in_units(schema, rows)
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
