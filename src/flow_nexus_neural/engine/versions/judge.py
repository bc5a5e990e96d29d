"""Measuring a candidate model on rows that no node trained on, and finishing its bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.prepare import PreparedData
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.reports import Evaluation
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.versions import evaluation
from flow_nexus_neural.engine.versions.calibration import calibrated_bundle
from flow_nexus_neural.engine.versions.evaluation import Evaluator, Logits, Score
from flow_nexus_neural.errors import RoundFailed


@dataclass(frozen=True)
class Verdict:
    """What was measured of a candidate.

    Attributes:
        validation: On `select` rows; all None where the data have none. Never on test rows: the best round is
            chosen by it.
        test: On test rows.
        evaluation: What status reports of the test rows.
    """

    validation: Score
    test: Score
    evaluation: Evaluation


@dataclass
class Judge:
    """Measures the models of one training."""

    evaluator: Evaluator
    data: PreparedData

    @property
    def schema(self) -> DataSchema:
        """Of the training's data."""
        return self.data.schema

    async def round(self, networks: Mapping[str, NetworkGroup]) -> Verdict:
        """Measure a round's candidate.

        Raises:
            RoundFailed: Its outputs are not finite.
            NoWorkers: Nobody is left to compute them.
        """
        logits = await self._infer(networks, ("select", "test"))
        return await self.evaluator.cluster.context.offload(self._verdict, networks, logits)

    def _verdict(
        self, networks: Mapping[str, NetworkGroup], logits: Mapping[str, Mapping[str, Logits]]
    ) -> Verdict:
        answers = self._answers(networks, logits)
        parts = self.data.parts
        validation = Score(None, None)
        if "select" in answers:
            validation = evaluation.score(self.schema, answers["select"], parts["select"])
        return Verdict(
            validation=validation,
            test=evaluation.score(self.schema, answers["test"], parts["test"]),
            evaluation=evaluation.report(
                self.schema,
                answers["test"],
                parts["test"],
                None,
                description=self.data.description,
            ),
        )

    async def finish(
        self, networks: Mapping[str, NetworkGroup], bundle: Bundle
    ) -> tuple[Bundle, float | None]:
        """Ensemble weights and calibration of a final model, and the ensemble's accuracy on test rows.

        Raises:
            RoundFailed: Its outputs are not finite.
            NoWorkers: Nobody is left to compute them.
        """
        logits = await self._infer(networks, ("meta", "calib", "test"))
        return await self.evaluator.cluster.context.offload(
            self._finished, networks, bundle, logits
        )

    def _finished(
        self,
        networks: Mapping[str, NetworkGroup],
        bundle: Bundle,
        logits: Mapping[str, Mapping[str, Logits]],
    ) -> tuple[Bundle, float | None]:
        slots = slot_networks(networks)
        finished = calibrated_bundle(bundle, self.schema, slots, logits, self.data.parts)
        weights = [finished.slot_weights[slot] for slot in slots]
        on_test = {key: outputs["test"] for key, outputs in logits.items()}
        answers = evaluation.fused("ensemble", on_test, list(slots.values()), weights, self.schema)
        test = self.data.parts["test"]
        pooled = evaluation.pooled(self.schema, answers)
        return finished, evaluation.score(self.schema, pooled, test).accuracy

    async def _infer(
        self, networks: Mapping[str, NetworkGroup], parts: Sequence[str]
    ) -> dict[str, dict[str, Logits]]:
        """Outputs of every network for every part that has rows."""
        full = [part for part in parts if len(self.data.parts[part].y)]
        logits = {key: await self.evaluator.infer(c, full) for key, c in networks.items()}
        for key, outputs in logits.items():
            if not all(bool(np.isfinite(values).all()) for values in outputs.values()):
                raise RoundFailed(
                    f"the averaged model of network {key} gives outputs that are not finite;"
                    " the former version stays",
                    hint="train again with a lower learning_rate",
                )
        return logits

    def _answers(
        self, networks: Mapping[str, NetworkGroup], logits: Mapping[str, Mapping[str, Logits]]
    ) -> dict[str, NDArray[np.float64]]:
        """The cluster's answer per part: its only network's outputs, or the mean of all slots."""
        parts = next(iter(logits.values())).keys()
        if len(logits) == 1:
            only = next(iter(logits.values()))
            return {part: np.asarray(only[part], dtype=np.float64) for part in parts}
        slots = list(slot_networks(networks).values())
        pooled = {}
        for part in parts:
            by_network = {key: outputs[part] for key, outputs in logits.items()}
            answers = evaluation.fused("mean", by_network, slots, [1.0] * len(slots), self.schema)
            pooled[part] = evaluation.pooled(self.schema, answers)
        return pooled


def slot_networks(networks: Mapping[str, NetworkGroup]) -> dict[str, str]:
    """NetworkGroup of every slot, network after network, in slot order inside each."""
    return {slot: key for key, network in networks.items() for slot in network.slots}


def with_ensemble(found: Evaluation | None, accuracy: float | None) -> Evaluation | None:
    """An evaluation that also knows the ensemble's accuracy."""
    if found is None:
        return None
    return found.model_copy(update={"ensemble_accuracy": accuracy})
