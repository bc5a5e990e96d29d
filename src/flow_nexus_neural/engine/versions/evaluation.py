"""What the committed model is worth on rows that no node trained on.

A validator computes the outputs (a worker does when there is none); the engine, which holds the labels,
computes every number from them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.prepare import Rows
from flow_nexus_neural.data.schema import DataSchema, Description
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.calls.deadlines import BUILD, INFER
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.reports import Evaluation
from flow_nexus_neural.engine.state.cluster import Cluster
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.versions.loading import share_weights
from flow_nexus_neural.errors import NodeError, NoWorkers, UpdateRejected
from flow_nexus_neural.kernels.ensemble import Aggregation, Fused, TargetScale, fuse
from flow_nexus_neural.kernels.metrics import classification, regression
from flow_nexus_neural.protocol.messages import Build, Infer
from flow_nexus_neural.runtime.base import Region

Logits = NDArray[np.float32]
ATTEMPTS = 3
RELEASE_S = 2.0
NAMES = 4
"""Networks that an evaluating node keeps; with more networks than that it builds them in turn."""


@dataclass(frozen=True)
class Score:
    """A model on some rows: loss and accuracy (directional for regression), None where not defined."""

    loss: float | None
    accuracy: float | None


@dataclass
class Evaluator:
    """Infers parts of a data set under candidate weights, on one node, and on another when it dies.

    Attributes:
        parts: Rows by name; regions are made on first use and closed by `close`.
    """

    context: EngineContext
    cluster: Cluster
    parts: Mapping[str, Rows]
    _regions: dict[str, Region] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _granted: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._calls = NodeCalls(self.cluster, "sync")

    async def infer(self, network: NetworkGroup, parts: Sequence[str]) -> dict[str, Logits]:
        """Outputs [rows, n_outputs] of a network's weights for each named part.

        Raises:
            NoWorkers: No node is left that could infer.
        """
        weights = await share_weights(self.context, network, "evaluate")
        try:
            failed: list[Slot] = []
            for _ in range(ATTEMPTS):
                slot = self.evaluator(failed)
                try:
                    return await self._infer_on(slot, network, weights, parts)
                except (NodeError, UpdateRejected) as failure:
                    slot.last_error = str(failure)
                    failed.append(slot)
        finally:
            weights.close()
        raise NoWorkers(
            f"{ATTEMPTS} nodes failed while evaluating the model",
            hint="see neural_cluster_status; deploy a worker or a validator with neural_node_deploy",
        )

    def evaluator(self, failed: Sequence[Slot] = ()) -> Slot:
        """The first healthy validator, else the first healthy worker, that has not failed just now.

        Raises:
            NoWorkers: There is neither.
        """
        candidates = [
            *self.cluster.slots.healthy("validator"),
            *self.cluster.slots.healthy("worker"),
        ]
        untried = [slot for slot in candidates if slot not in failed]
        if not untried:
            raise NoWorkers(
                "no healthy node is left to evaluate the model",
                hint="deploy a worker with neural_node_deploy",
            )
        return untried[0]

    async def release(self) -> None:
        """Make the nodes that evaluated forget the rows."""
        with anyio.move_on_after(RELEASE_S):
            for slot in self.cluster.slots:
                parts = self._granted.get(slot.node_id, set())
                await self._calls.revoke(slot, *(self._regions[part].key for part in sorted(parts)))

    def close(self) -> None:
        """Give up the regions of all parts."""
        for region in self._regions.values():
            region.close()
        self._regions.clear()

    async def _infer_on(
        self, slot: Slot, network: NetworkGroup, weights: Region, parts: Sequence[str]
    ) -> dict[str, Logits]:
        name = self._names.setdefault(network.key, f"evaluate{len(self._names) % NAMES}")
        if slot.built.get(name) != network.plan_digest:
            await self._calls.ask(slot, Build(network=name, plan=network.plan, seed=0), BUILD)
            slot.built[name] = network.plan_digest
        await self._calls.grant(slot, weights)
        self._calls.pulled(weights.nbytes)
        outputs: dict[str, Logits] = {}
        for part in parts:
            region = await self._part(slot, part)
            request = Infer(network=name, weights=weights.key, data=region.key)
            _, arrays = await self._calls.ask(slot, request, INFER)
            outputs[part] = _checked(arrays.get("y"), len(self.parts[part].y), network, slot)
        await self._calls.revoke(slot, weights.key)
        return outputs

    async def _part(self, slot: Slot, part: str) -> Region:
        if part not in self._regions:
            arrays = {"x": self.parts[part].x}
            self._regions[part] = await self.context.offload(
                self.context.runtime.share, f"part:{part}", arrays
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


def target_scale(schema: DataSchema, tolerance: float | None = None) -> TargetScale | None:
    """How standardised outputs become target values; None unless the task is regression."""
    if schema.task != "regression":
        return None
    return TargetScale(mean=schema.target_mean, sd=schema.target_sd, tau=tolerance or 0.0)


def stacked(logits: Mapping[str, Logits], slot_networks: Sequence[str]) -> NDArray[np.float64]:
    """[slots, rows, n_outputs]: each slot answers as its network does."""
    return np.stack([np.asarray(logits[key], dtype=np.float64) for key in slot_networks])


def fused(
    aggregation: Aggregation,
    logits: Mapping[str, Logits],
    slot_networks: Sequence[str],
    weights: Sequence[float],
    schema: DataSchema,
) -> Fused:
    """The answer of all slots to rows that the evaluator inferred once per network."""
    answers = stacked(logits, slot_networks)
    return fuse(aggregation, answers, weights, schema.task, scale=target_scale(schema))


def score(schema: DataSchema, outputs: NDArray[np.float64], rows: Rows) -> Score:
    """Loss and accuracy of outputs [rows, n_outputs] in the network's own scale."""
    if schema.task == "regression":
        found = regression(
            outputs, rows.y.astype(np.float64), sd=schema.target_sd, mean=schema.target_mean
        )
        return Score(found.loss, found.directional_accuracy)
    measured = classification(outputs, rows.y, n_classes=n_classes(schema))
    return Score(measured.loss, measured.accuracy)


def n_classes(schema: DataSchema) -> int:
    """Classes of a classification task."""
    return 2 if schema.task == "binary" else schema.n_outputs


def pooled(schema: DataSchema, answers: Fused) -> NDArray[np.float64]:
    """A fused answer as outputs in the network's own scale, [rows, n_outputs]."""
    if answers.probabilities is None:
        standardised: NDArray[np.float64] = (answers.values - schema.target_mean) / schema.target_sd
        return standardised[:, None]
    log_p = np.log(np.clip(answers.probabilities, 1e-12, None))
    if schema.task == "binary":
        odds: NDArray[np.float64] = (log_p[:, 1] - log_p[:, 0])[:, None]
        return odds
    return log_p


def report(
    schema: DataSchema,
    outputs: NDArray[np.float64],
    rows: Rows,
    ensemble_accuracy: float | None,
    *,
    description: Description,
) -> Evaluation:
    """Everything that status says about the model on test rows."""
    bundled = "builtin" if description.kind == "builtin" else "user"
    source = "synthetic" if description.synthetic else bundled
    nothing: dict[str, object] = dict.fromkeys(Evaluation.model_fields)
    nothing |= {"test_rows": len(rows.y), "data_source": source}
    if schema.task == "regression":
        r = regression(
            outputs, rows.y.astype(np.float64), sd=schema.target_sd, mean=schema.target_mean
        )
        interval = r.directional_interval
        nothing |= {
            "accuracy_interval": list(interval) if interval else None,
            "baseline_accuracy": r.baseline_directional_accuracy,
            "mae": r.mae,
            "rmse": r.rmse,
            "r2": r.r2,
        }
    else:
        c = classification(outputs, rows.y, n_classes=n_classes(schema))
        interval = c.accuracy_interval
        nothing |= {
            "accuracy_interval": list(interval) if interval else None,
            "baseline_accuracy": c.baseline_accuracy,
            "balanced_accuracy": c.balanced_accuracy,
            "auc": c.auc,
            "brier": c.brier,
            "log_loss": c.loss,
            "ece": c.ece,
            "confusion": c.confusion,
        }
    return Evaluation.model_validate({**nothing, "ensemble_accuracy": ensemble_accuracy})
