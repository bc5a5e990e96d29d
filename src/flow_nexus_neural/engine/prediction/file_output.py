"""What is written of predictions, row by row, and what is told of all of them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.quorum import robust_quorum
from flow_nexus_neural.data.file_labels import FileLabels
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.schema import Adapted, DataSchema
from flow_nexus_neural.data.writers.row_writer import OutputColumn, Value
from flow_nexus_neural.engine.prediction.no_quorum import quorum_report
from flow_nexus_neural.engine.prediction.reply import decision_rule
from flow_nexus_neural.engine.prediction.weighting import Weighting
from flow_nexus_neural.engine.reports import (
    Exclusion,
    IgnoredInput,
    InputReport,
    MeasuredOnFile,
    PredictionReport,
)
from flow_nexus_neural.engine.reports.prediction import CombinedBy, ConfidenceSource
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.versions.evaluation import measure, measured_on_file, positive_class
from flow_nexus_neural.kernels.ensemble import Fused
from flow_nexus_neural.vocabulary import round_float

Floats = NDArray[np.float64]
OWN_COLUMNS = ("prediction", "decision", "confidence", "low", "high", "model_version")


def output_columns(schema: DataSchema, ids: Sequence[str]) -> tuple[OutputColumn, ...]:
    """The columns of an output file.

    Args:
        schema: Of the model.
        ids: Columns of the input that say which row it is.
    """
    columns = [OutputColumn("row", "whole"), *(OutputColumn(name, "text") for name in ids)]
    if schema.task == "regression":
        columns += [OutputColumn(name, "number") for name in ("prediction", "low", "high")]
    elif schema.task == "binary":
        columns += [
            OutputColumn("prediction", "number"),
            OutputColumn("decision", "text"),
            OutputColumn("confidence", "number"),
        ]
    else:
        whole = all(type(label) is int for label in schema.classes or ())
        columns += [
            OutputColumn("prediction", "whole" if whole else "text"),
            OutputColumn("confidence", "number"),
            *(OutputColumn(f"p_{label}", "number") for label in schema.classes or ()),
        ]
    return (*columns, OutputColumn("model_version", "whole"))


def output_cells(
    columns: Sequence[OutputColumn],
    made: PredictionReport,
    first: int,
    usable: Sequence[bool],
    ids: Sequence[Sequence[Value]],
) -> list[Sequence[Value]]:
    """The cells of some rows, one sequence per column; what is not predicted is None.

    Args:
        columns: See `output_columns`.
        made: The reply to these rows.
        first: Number of the first of them in the input, from 0.
        usable: Whether a row is predicted.
        ids: Their cells of the columns that say which row it is.
    """
    rows = len(usable)
    known: dict[str, Sequence[Value]] = {
        "row": range(first, first + rows),
        "decision": made.decision or [],
        "confidence": made.confidences,
        "low": [None if made.interval is None else made.interval[i].low for i in range(rows)],
        "high": [None if made.interval is None else made.interval[i].high for i in range(rows)],
        "model_version": [made.model_version] * rows,
    }
    cells: list[Sequence[Value]] = []
    for number, column in enumerate(columns):
        if 1 <= number <= len(ids):
            cells.append(ids[number - 1])
            continue
        name = column.name
        if name == "prediction":
            values: Sequence[Value] = made.predictions
        elif name in known:
            values = known[name]
        else:
            of_class = _class_of(columns, number)
            values = (
                [None] * rows
                if made.probabilities is None
                else [row[of_class] for row in made.probabilities]
            )
        if name not in ("row", "model_version"):
            values = [
                _cell(v, column) if ok else None for v, ok in zip(values, usable, strict=True)
            ]
        cells.append(values)
    return cells


def _class_of(columns: Sequence[OutputColumn], number: int) -> int:
    first = next(i for i, column in enumerate(columns) if column.name == "confidence") + 1
    return number - first


def _cell(value: Value, column: OutputColumn) -> Value:
    """A value as a reply has it."""
    if column.kind == "text":
        return None if value is None else str(value)
    return round_float(value) if isinstance(value, float) else value


@dataclass
class Tally:
    """What is told of all rows together, added up batch by batch."""

    schema: DataSchema
    labels: FileLabels | None = None
    rows_done: int = 0
    without: int = 0
    undecided: int = 0
    batches: int = 0
    degraded: int = 0
    stale: bool = False
    nodes_used: int | None = None
    nodes_expected: int = 0
    ensemble_size: int | None = None
    stacked: int = 0
    doubted: int = 0
    calibrated: bool = True
    clipped: int = 0
    mode: str = "batch"
    classes: Counter[str] = field(default_factory=Counter)
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    mapped: dict[str, None] = field(default_factory=dict)
    imputed: dict[str, None] = field(default_factory=dict)
    ood: dict[str, None] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)
    weighting: Weighting = field(default_factory=Weighting)
    _truth: list[Floats] = field(default_factory=list)
    _values: list[Floats] = field(default_factory=list)
    _probabilities: list[Floats] = field(default_factory=list)
    _decisions: list[NDArray[np.int64]] = field(default_factory=list)

    def add(
        self, made: PredictionReport, fused: Fused, adapted: Adapted, usable: NDArray[np.bool_]
    ) -> None:
        """Count a batch: its reply, what the reply is made of, its input, and which rows are predicted."""
        first, rows = self.rows_done, len(usable)
        decided = np.array([value is not None for value in made.predictions], dtype=bool)
        self.undecided += int((usable & ~decided).sum())
        usable = usable & decided
        self.rows_done += rows
        self.batches += 1
        self.degraded += made.degraded
        self.stale |= made.stale
        self.without += int((~usable).sum())
        self.calibrated &= made.calibrated
        self.stacked += made.stacker == "net"
        self.doubted += made.confidence_source == "validator"
        self.mode = adapted.mode
        self.clipped += adapted.clipped
        self.nodes_expected = max(self.nodes_expected, made.nodes_expected)
        self.nodes_used = min(self.nodes_used or made.nodes_used, made.nodes_used)
        sizes = [n for n in (self.ensemble_size, made.effective_ensemble_size) if n is not None]
        self.ensemble_size = min(sizes)
        self.mapped |= dict.fromkeys(adapted.mapped)
        self.imputed |= dict.fromkeys(adapted.imputed)
        self.ood |= dict.fromkeys(adapted.ood)
        self.ignored |= {ignored["name"]: ignored["reason"] for ignored in adapted.ignored}
        self.excluded |= {gone.node_id: gone.reason for gone in made.excluded_nodes}
        self.warnings |= dict.fromkeys(made.warnings)
        self.sums["coverage"] += float(adapted.coverage.sum())
        self.sums["consensus"] += float(fused.consensus[usable].sum())
        self.sums["node_agreement"] += float(fused.node_agreement[usable].sum())
        certain = [
            c for c, ok in zip(made.confidences, usable, strict=True) if ok and c is not None
        ]
        self.sums["confidence"] += sum(certain)
        self.sums["confident"] += len(certain)
        if fused.decisions is not None and self.schema.classes is not None:
            for index, count in Counter(fused.decisions[usable].tolist()).items():
                self.classes[str(self.schema.classes[index])] += count
        if self.labels is not None:
            self._keep(fused, self.labels.values[first : first + rows], usable)

    def _keep(self, fused: Fused, truth: Floats, usable: NDArray[np.bool_]) -> None:
        """Keep what the metrics need of rows that have a label."""
        known = usable & np.isfinite(truth)
        self._truth.append(truth[known])
        self._values.append(fused.values[known])
        if fused.probabilities is not None and fused.decisions is not None:
            self._probabilities.append(fused.probabilities[known])
            self._decisions.append(fused.decisions[known])

    def measured(self, request: PredictRequest) -> MeasuredOnFile | None:
        """The metrics of the rows that have a label; None where there is none."""
        truth = np.concatenate(self._truth) if self._truth else np.empty(0)
        if self.labels is None or not len(truth):
            return None
        schema, nothing = self.schema, np.zeros(len(truth))
        fused = Fused(
            values=np.concatenate(self._values),
            probabilities=np.concatenate(self._probabilities) if self._probabilities else None,
            decisions=np.concatenate(self._decisions) if self._decisions else None,
            consensus=nothing,
            node_agreement=nothing,
            node_values=nothing[None],
            node_decisions=None,
        )
        y: NDArray[np.float32] | NDArray[np.int64]
        if schema.task == "multiclass":
            y = truth.astype(np.int64)
        else:
            y = ((truth - schema.target_mean) / schema.target_sd).astype(np.float32)
        none = np.full(len(truth), -1, dtype=np.int32)
        rows = Rows(x=np.empty((len(truth), 0), np.float32), y=y, symbols=none, clients=none)
        found = measure(schema, fused, rows)
        return measured_on_file(found, request.aggregation, self.labels.column)

    def mean(self, name: str) -> float | None:
        """The mean of a number over the predicted rows; None before the first."""
        rows = self.rows_done if name == "coverage" else self.rows_done - self.without
        rows = int(self.sums["confident"]) if name == "confidence" else rows
        return float(self.sums[name]) / rows if rows else None

    def input_report(self) -> InputReport:
        """How the input was understood, over all rows."""
        return InputReport(
            mode="window" if self.mode == "window" else "batch",
            rows=self.rows_done,
            mapped=list(self.mapped),
            imputed=list(self.imputed),
            ignored=[IgnoredInput(name=n, reason=why) for n, why in self.ignored.items()],
            coverage=self.mean("coverage") or 0.0,
            ood=list(self.ood),
            clipped=self.clipped,
        )


def _confidence_source(tally: Tally) -> ConfidenceSource:
    """Who says how sure the predictions are: validators only where they did in every batch."""
    if not tally.sums["confident"]:
        return "none"
    return "validator" if tally.doubted == tally.batches else "margin"


def _stacker(tally: Tally, request: PredictRequest) -> CombinedBy | None:
    """What combined the answers of an `ensemble`: networks only where they did in every batch."""
    if request.aggregation != "ensemble":
        return None
    return "net" if tally.stacked == tally.batches and tally.batches else "fallback"


def _mixed(tally: Tally) -> list[str]:
    """What is said of a file whose batches did not all come about in the same way."""
    n = tally.batches
    told = {
        "aggregators combined the nodes, and a weighted mean did in the others": tally.stacked,
        "validators said how sure the decisions are, and the probabilities did in the others": tally.doubted,
    }
    return [f"in {k} of {n} batches {what}" for what, k in told.items() if 0 < k < n]


def report_of_all(
    cluster_id: str,
    prediction_id: str,
    request: PredictRequest,
    committed: CommittedVersion,
    tally: Tally,
    elapsed_ms: float,
) -> PredictionReport:
    """The reply to rows whose answers went into a file; of the rows themselves it holds nothing."""
    schema, bundle = committed.schema, committed.bundle
    used, expected = tally.nodes_used or 0, tally.nodes_expected
    robust = bundle.robust and tally.batches > 0
    weights_source, weights_outcomes = tally.weighting.told_with(request.aggregation)
    return PredictionReport(
        cluster_id=cluster_id,
        prediction_id=prediction_id,
        task=schema.task,
        prediction=None,
        predictions=[],
        confidence=tally.mean("confidence"),
        confidences=[],
        probabilities=None,
        backends=None,
        interval=None,
        prediction_set=None,
        adapted_level=None,
        raw_prediction=None,
        calibrated=tally.calibrated and tally.batches > 0,
        classes=None if schema.classes is None else [*schema.classes],
        positive_class=positive_class(schema),
        threshold=decision_rule(committed, request).threshold if schema.task == "binary" else None,
        decision=None,
        consensus=tally.mean("consensus"),
        node_agreement=tally.mean("node_agreement"),
        effective_ensemble_size=tally.ensemble_size,
        error_correlation=bundle.error_correlation,
        node_predictions=None,
        individual_predictions=None,
        aggregation=request.aggregation,
        weights_source=weights_source,
        weights_outcomes=weights_outcomes,
        symbol_experts=None,
        nodes_used=used,
        nodes_expected=expected,
        excluded_nodes=[Exclusion(node_id=n, reason=why) for n, why in tally.excluded.items()],
        quorum=quorum_report(robust_quorum(expected, used)) if robust else None,
        confidence_source=_confidence_source(tally),
        stacker=_stacker(tally, request),
        source="nodes",
        degraded=tally.degraded > 0,
        degraded_reason=_shortage(tally),
        stale=tally.stale,
        model_version=committed.version,
        bundle_sha=committed.sha,
        input_report=tally.input_report(),
        latency_ms=elapsed_ms,
        synthetic_training_data=committed.dataset.synthetic,
        feedback_recorded=0,
        output=None,
        warnings=[*_mixed(tally), *tally.warnings],
    )


def _shortage(tally: Tally) -> str | None:
    """How many batches were answered by fewer nodes than there are; None if none was."""
    late = f"{tally.degraded} of {tally.batches} batches lack a node"
    return late if tally.degraded else None
