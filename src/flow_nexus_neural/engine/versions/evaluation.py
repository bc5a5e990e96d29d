"""Evaluates a model on rows on which no node trained.

A validator computes the outputs, or a worker if there is no validator. The engine, which holds the labels,
computes every metric from them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.prepare import Rows
from flow_nexus_neural.data.schema import DataSchema, Description
from flow_nexus_neural.engine.calls.deadlines import BUILD, INFER
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import Evaluation, MeasuredOnFile
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.versions.loading import share_weights
from flow_nexus_neural.engine.versions.served import Logits
from flow_nexus_neural.engine.versions.sureness import Sureness
from flow_nexus_neural.errors import NodeError, NoWorkers, UpdateRejected
from flow_nexus_neural.kernels.baselines import (
    Compared,
    Sample,
    compare_classifier,
    compare_regressor,
)
from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.kernels.ensemble import Fused
from flow_nexus_neural.kernels.metrics import (
    ClassificationMetrics,
    RegressionMetrics,
    classification,
    per_class,
    regression,
)
from flow_nexus_neural.kernels.probabilities import class_logits
from flow_nexus_neural.protocol.messages import Build, Infer
from flow_nexus_neural.runtime.base import Region
from flow_nexus_neural.vocabulary import (
    DEFAULT_AGGREGATION,
    DEFAULT_THRESHOLD,
    Aggregation,
    Label,
    Role,
)

Metrics = ClassificationMetrics | RegressionMetrics
PARTS = ("train", "test")
ATTEMPTS = 3
RELEASE_S = 2.0
NAMES = 4
"""Networks that an evaluating node keeps; further ones replace these and are built again when needed."""


@dataclass(frozen=True)
class Score:
    """Loss and accuracy (directional for regression) of a model on some rows; None if undefined."""

    loss: float | None
    accuracy: float | None


@dataclass
class Evaluator:
    """Infers parts of a data set with candidate weights on one node; if it fails, on another.

    Attributes:
        parts: Rows by name; their regions are created at first use and closed by `close`.
        name: Of these rows in the nodes, which know regions by name; two that live at one time differ in it.
        roles: Who may compute, the first of them before the others.
    """

    cluster: LiveCluster
    parts: Mapping[str, Rows]
    name: str = "part"
    roles: tuple[Role, ...] = ("validator", "worker")
    _regions: dict[str, Region] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _granted: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._calls = self.cluster.calls("sync")

    async def infer(self, network: NetworkGroup, parts: Sequence[str]) -> dict[str, Logits]:
        """Outputs [rows, n_outputs] of a network for each named part.

        Weights that a slot made on its own are computed by another node: nobody is witness of its own work.

        Raises:
            NoWorkers: If no node is left that can infer.
        """
        weights = await share_weights(self.cluster.context, network, "evaluate")
        try:
            own = network.slots if network.is_personal or network.is_of_role else ()
            failed = [slot for slot in self.cluster.slots if slot.name in own]
            for _ in range(ATTEMPTS):
                slot = self.evaluator(failed)
                try:
                    return await self._infer_on(slot, network, weights, parts)
                except (NodeError, UpdateRejected) as failure:
                    slot.note_error(str(failure))
                    failed.append(slot)
        finally:
            weights.close()
        raise NoWorkers(
            f"{ATTEMPTS} nodes failed while evaluating the model",
            hint="see neural_cluster_status; deploy a worker or a validator with neural_node_deploy",
        )

    def evaluator(self, failed: Sequence[Slot] = ()) -> Slot:
        """The first healthy node of the first role, else of the next, that is not in `failed`.

        Raises:
            NoWorkers: If there is none.
        """
        candidates = [slot for role in self.roles for slot in self.cluster.slots.healthy(role)]
        untried = [slot for slot in candidates if slot not in failed]
        if not untried:
            raise NoWorkers(
                "no healthy node is left to evaluate the model",
                hint=f"deploy a {self.roles[-1]} with neural_node_deploy",
            )
        return untried[0]

    async def release(self) -> None:
        """Revoke the rows from the nodes that evaluated."""
        with anyio.move_on_after(RELEASE_S):
            for slot in self.cluster.slots:
                parts = self._granted.get(slot.node_id, set())
                await self._calls.revoke(slot, *(self._regions[part].key for part in sorted(parts)))

    def close(self) -> None:
        """Close the regions of all parts."""
        for region in self._regions.values():
            region.close()
        self._regions.clear()

    async def _infer_on(
        self, slot: Slot, network: NetworkGroup, weights: Region, parts: Sequence[str]
    ) -> dict[str, Logits]:
        name = self._names.setdefault(network.key, f"evaluate{len(self._names) % NAMES}")
        if slot.built.get(name) != network.plan_digest:
            await self._calls.ask(slot, Build(network=name, plan=network.plan, seed=0), BUILD)
            slot.note_built(name, network.plan_digest)
        await self._calls.grant(slot, weights)
        self._calls.pulled(weights.nbytes)
        outputs: dict[str, Logits] = {}
        for (
            part
        ) in parts:  # the rows stay granted: they are the same in every round, the weights are not
            region = await self._part(slot, part)
            request = Infer(network=name, weights=weights.key, data=region.key)
            _, arrays = await self._calls.ask(slot, request, INFER)
            outputs[part] = _checked(arrays.get("y"), len(self.parts[part].y), network, slot)
        await self._calls.revoke(slot, weights.key)
        return outputs

    async def _part(self, slot: Slot, part: str) -> Region:
        if part not in self._regions:
            arrays = {"x": self.parts[part].x}
            self._regions[part] = await self.cluster.context.offload(
                self.cluster.context.runtime.share, f"{self.name}:{part}", arrays
            )
        region = self._regions[part]
        held = self._granted.setdefault(slot.node_id, set())
        if part not in held:
            await self._calls.grant(slot, region)
            self._calls.pulled(region.nbytes)
            held.add(part)
        return region


def _checked(y: NDArray[np.float32] | None, rows: int, network: NetworkGroup, slot: Slot) -> Logits:
    if y is None or y.shape != (rows, network.plan.n_outputs) or y.dtype != np.float32:
        raise UpdateRejected(f"node {slot.name} sent outputs of the wrong shape")
    return y


def measure(schema: DataSchema, answers: Fused, rows: Rows) -> Metrics:
    """Every metric of answers to rows."""
    if schema.task == "regression":
        standardised = (answers.values - schema.target_mean) / schema.target_sd
        return regression(
            standardised, rows.y.astype(np.float64), sd=schema.target_sd, mean=schema.target_mean
        )
    if answers.probabilities is None or answers.decisions is None:
        raise ValueError("a classification has probabilities")
    logits = class_logits(answers.probabilities)
    return classification(logits, rows.y, n_classes=n_classes(schema), predicted=answers.decisions)


def score(found: Metrics) -> Score:
    """The two numbers that every task has."""
    if isinstance(found, RegressionMetrics):
        return Score(found.loss, found.directional_accuracy)
    return Score(found.loss, found.accuracy)


def n_classes(schema: DataSchema) -> int:
    """Classes of a classification task."""
    return 2 if schema.task == "binary" else schema.n_outputs


def report(
    schema: DataSchema,
    measured: Mapping[Aggregation, Metrics],
    *,
    sureness: Mapping[Aggregation, Sureness],
    description: Description,
    rule: DecisionRule,
    compared: Compared | None = None,
) -> Evaluation:
    """The evaluation on test rows, as status reports it.

    Args:
        schema: Schema of the data.
        measured: Metrics of the predictions of these rows by aggregation; the default one must be among them.
        sureness: How sure these predictions were, by the same aggregations.
        description: Description of the data.
        rule: By which classes were decided.
        compared: Baselines on the same rows; None if not computed.
    """
    bundled = "builtin" if description.kind == "builtin" else "user"
    served = measured[DEFAULT_AGGREGATION]
    ensemble = measured.get("ensemble")
    known = {
        **_of_task(schema, served),
        **_of_decision(schema, rule),
        **sureness[DEFAULT_AGGREGATION].of_report,
        "test_rows": served.n,
        "data_source": "synthetic" if description.synthetic else bundled,
        "aggregation": DEFAULT_AGGREGATION,
        "by_aggregation": {
            mode: {**_short(mode, found), **sureness[mode].in_short(mode)}
            for mode, found in measured.items()
        },
        "ensemble_accuracy": score(ensemble).accuracy if ensemble else None,
        "baselines": dict(compared.values) if compared else None,
        "best_baseline": compared.best if compared else None,
        "skill": compared.skill if compared else None,
    }
    nothing: dict[str, object] = dict.fromkeys(Evaluation.model_fields)
    return Evaluation.model_validate({**nothing, **known})


def positive_class(schema: DataSchema) -> Label | None:
    """The class whose probability a binary prediction is; None for other tasks."""
    return schema.classes[1] if schema.task == "binary" and schema.classes else None


def _of_decision(schema: DataSchema, rule: DecisionRule) -> dict[str, object]:
    """By which rule classes were decided, under the names of the report."""
    return {
        "positive_class": positive_class(schema),
        "threshold": rule.threshold if schema.task == "binary" else None,
        "class_weight": weights_by_label(schema, rule),
    }


def weights_by_label(schema: DataSchema, rule: DecisionRule) -> dict[str, float] | None:
    """What each class counted in the training, under its label as text; None if they counted alike."""
    if not rule.class_weight or schema.classes is None:
        return None
    return dict(zip(map(str, schema.classes), rule.class_weight, strict=True))


def compare(schema: DataSchema, found: Metrics, parts: Mapping[str, Rows]) -> Compared | None:
    """Compare a model's metrics on test rows with baselines; None if there is nothing to compare."""
    train, test = (Sample(parts[part].x, parts[part].y, parts[part].last) for part in PARTS)
    if isinstance(found, RegressionMetrics):
        if found.rmse is None:
            return None
        return compare_regressor(train, test, sd=schema.target_sd, rmse=found.rmse)
    if found.accuracy is None:
        return None
    return compare_classifier(train, test, n_classes=n_classes(schema), accuracy=found.accuracy)


def _of_task(schema: DataSchema, found: Metrics) -> dict[str, object]:
    """What only one kind of task has, under the names of the report."""
    if isinstance(found, RegressionMetrics):
        interval = found.directional_interval
        return {
            "accuracy_interval": list(interval) if interval else None,
            "directional_accuracy": found.directional_accuracy,
            "baseline_accuracy": found.baseline_directional_accuracy,
            "mae": found.mae,
            "rmse": found.rmse,
            "r2": found.r2,
        }
    interval, classes = found.accuracy_interval, per_class(found.confusion)
    return {
        "accuracy_interval": list(interval) if interval else None,
        "baseline_accuracy": found.baseline_accuracy,
        "balanced_accuracy": found.balanced_accuracy,
        "auc": found.auc,
        "brier": found.brier,
        "log_loss": found.loss,
        "ece": found.ece,
        "confusion": found.confusion,
        "per_class": [
            {"label": label, **asdict(of_class)}
            for label, of_class in zip(schema.classes or (), classes, strict=True)
        ]
        if classes
        else None,
    }


def _short(mode: Aggregation, found: Metrics) -> dict[str, float | None]:
    """The metrics of one aggregation; `majority` gives shares of votes, not probabilities: accuracy only."""
    if isinstance(found, RegressionMetrics):
        return {"mae": found.mae, "rmse": found.rmse, "r2": found.r2}
    if mode == "majority":
        return {"accuracy": found.accuracy, "log_loss": None, "brier": None, "ece": None}
    return {
        "accuracy": found.accuracy,
        "log_loss": found.loss,
        "brier": found.brier,
        "ece": found.ece,
    }


def model_warnings(committed: CommittedVersion) -> list[str]:
    """What must be known of a model before its numbers are believed, for status and predict alike."""
    return [*baseline_warnings(committed.evaluation), *_refit_warnings(committed)]


def _refit_warnings(committed: CommittedVersion) -> list[str]:
    if not committed.evaluated:
        return []
    warning = (
        "the model was trained once more on every row (refit); what was measured is of the model before"
        " that, which had not seen the test rows"
    )
    return [warning]


def measured_on_file(found: Metrics, mode: Aggregation, column: str) -> MeasuredOnFile:
    """The metrics of the predictions of a file's rows; `mode` is how answers were combined."""
    known = {**_short(mode, found)}
    if isinstance(found, RegressionMetrics):
        known["directional_accuracy"] = found.directional_accuracy
    else:
        known |= {"balanced_accuracy": found.balanced_accuracy, "auc": found.auc}
        if mode == "majority":
            known["auc"] = None
    nothing = dict.fromkeys(MeasuredOnFile.model_fields)
    told = {**nothing, **known, "rows": found.n, "column": column}
    return MeasuredOnFile.model_validate(told)


def baseline_warnings(evaluation: Evaluation | None) -> list[str]:
    """A warning if the model was measured not to be better than the best baseline."""
    if evaluation is None or evaluation.skill is None or evaluation.skill > 0:
        return []
    best, baselines = evaluation.best_baseline, evaluation.baselines
    if best is None or baselines is None or evaluation.by_aggregation is None:
        return []
    metric = "accuracy" if evaluation.rmse is None else "rmse"
    reached = evaluation.by_aggregation[DEFAULT_AGGREGATION][metric]
    beaten_by = f"{metric} {reached:.4g} against {baselines[best]:.4g}"
    rows = f"the {evaluation.test_rows} test rows"
    told = f"the model is not better than the baseline {best!r} on {rows}: {beaten_by}"
    return [told + _traded(evaluation)]


def _traded(evaluation: Evaluation) -> str:
    """What is gained where accuracy was given up for it."""
    of_threshold = evaluation.threshold not in (None, DEFAULT_THRESHOLD)
    of_weights = evaluation.threshold is None and evaluation.class_weight is not None
    if evaluation.balanced_accuracy is None or not (of_threshold or of_weights):
        return ""
    constant = 1 / sum(one.rows > 0 for one in evaluation.per_class or ())
    wish = "class_weight" if of_weights else f"threshold {evaluation.threshold:.4g}"
    return (
        f"; {wish} gives up accuracy on purpose: the balanced accuracy is"
        f" {evaluation.balanced_accuracy:.4g} against {constant:.4g} of any constant answer"
    )
