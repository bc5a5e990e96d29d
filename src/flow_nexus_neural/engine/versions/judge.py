"""Measures a candidate model on rows on which no node trained, and completes its bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.data.prepare import PreparedData
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.reports import Evaluation
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.roles import NO_ROLES
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.versions.ablation import ablation
from flow_nexus_neural.engine.versions.by_client import median_score
from flow_nexus_neural.engine.versions.calibration import calibrated_bundle
from flow_nexus_neural.engine.versions.evaluation import (
    Evaluator,
    Score,
    compare,
    measure,
    report,
    score,
)
from flow_nexus_neural.engine.versions.members import Members, RoleTeacher, RoleWork
from flow_nexus_neural.engine.versions.out_of_fold import OutOfFold
from flow_nexus_neural.engine.versions.role_report import roles_report
from flow_nexus_neural.engine.versions.served import Logits, Served, experts_of, serve_groups
from flow_nexus_neural.engine.versions.sureness import sureness
from flow_nexus_neural.errors import RoundFailed
from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.kernels.probabilities import Float64s, class_logits
from flow_nexus_neural.kernels.row_losses import row_losses
from flow_nexus_neural.vocabulary import AGGREGATIONS, DEFAULT_AGGREGATION, Aggregation


@dataclass(frozen=True)
class Verdict:
    """The measurements of a candidate.

    Attributes:
        validation: Score on `select` rows; None values if the data have none. Never on test rows, because the
            best round is selected by it and the test score would be biased. Where clients may lie, the median
            of their scores.
        test: Score on test rows.
        evaluation: The evaluation on test rows, as status reports it.
    """

    validation: Score
    test: Score
    evaluation: Evaluation


@dataclass
class Judge:
    """Measures the models of one training.

    Attributes:
        rule: By which they decide.
        roles: Trains nodes of other roles on what a final model answers; None for a model without.
        crossed: Answers out of fold, from which they learn where the data have no rows for them; None where
            they have, or where nobody learns.
    """

    evaluator: Evaluator
    data: PreparedData
    rule: DecisionRule
    roles: RoleTeacher | None = None
    crossed: OutOfFold | None = None

    @property
    def schema(self) -> DataSchema:
        """Schema of the training's data."""
        return self.data.schema

    async def round(self, networks: Mapping[str, NetworkGroup], bundle: Bundle) -> Verdict:
        """Measure a round's candidate as it would be served with this bundle.

        Raises:
            RoundFailed: If its outputs are not finite.
            NoWorkers: If no node is left to compute them.
        """
        logits = await self._infer(networks, ("select", "test"))
        return await self.evaluator.cluster.context.offload(self._verdict, networks, bundle, logits)

    async def validation(self, networks: Mapping[str, NetworkGroup], bundle: Bundle) -> Score:
        """Score of a candidate on `select` rows alone; None values if the data have none.

        Raises:
            RoundFailed: If its outputs are not finite.
            NoWorkers: If no node is left to compute them.
        """
        if not len(self.data.parts["select"]):
            return Score(None, None)
        logits = await self._infer(networks, ("select",))
        return await self.evaluator.cluster.context.offload(
            self._on_select, networks, bundle, logits
        )

    async def test_losses(self, networks: Mapping[str, NetworkGroup], bundle: Bundle) -> Float64s:
        """[n] losses of single test rows, of the predictions as they would be served.

        Raises:
            RoundFailed: If its outputs are not finite.
            NoWorkers: If no node is left to compute them.
        """
        logits = await self._infer(networks, ("test",))
        return await self.evaluator.cluster.context.offload(self._losses, networks, bundle, logits)

    def _losses(
        self,
        networks: Mapping[str, NetworkGroup],
        bundle: Bundle,
        logits: Mapping[str, Mapping[str, Logits]],
    ) -> Float64s:
        made = self._served(networks, bundle, logits, "test", DEFAULT_AGGREGATION).final
        if made.probabilities is None:
            outputs = ((made.values - self.schema.target_mean) / self.schema.target_sd)[:, None]
        else:
            outputs = class_logits(made.probabilities)
        return row_losses(outputs, self.data.parts["test"].y, self.schema.task)

    async def require_finite(self, networks: Mapping[str, NetworkGroup]) -> None:
        """Refuse a model that does not answer test rows with finite outputs.

        Raises:
            RoundFailed: If it does not.
            NoWorkers: If no node is left to compute them.
        """
        await self._infer(networks, ("test",))

    def _verdict(
        self,
        networks: Mapping[str, NetworkGroup],
        bundle: Bundle,
        logits: Mapping[str, Mapping[str, Logits]],
    ) -> Verdict:
        validation = Score(None, None)
        if len(self.data.parts["select"]):
            validation = self._on_select(networks, bundle, logits)
        work = RoleWork(bundle)
        return self._on_test(networks, work, logits, (DEFAULT_AGGREGATION,), validation)

    def _on_select(
        self,
        networks: Mapping[str, NetworkGroup],
        bundle: Bundle,
        logits: Mapping[str, Mapping[str, Logits]],
    ) -> Score:
        answers = self._served(networks, bundle, logits, "select", DEFAULT_AGGREGATION).final
        rows = self.data.parts["select"]
        by_client = median_score(self.schema, answers, rows) if bundle.robust else None
        return by_client or score(measure(self.schema, answers, rows))

    async def finish(
        self, networks: Mapping[str, NetworkGroup], bundle: Bundle
    ) -> tuple[Bundle, Verdict]:
        """Complete the bundle of a final model, and measure its predictions for every aggregation.

        Raises:
            RoundFailed: If its outputs are not finite.
            NoWorkers: If no node is left to compute them.
        """
        offload, crossed = self.evaluator.cluster.context.offload, self.crossed
        parts = {**self.data.parts, **(crossed.parts if crossed else {})}
        fitted_on = "calib" if len(parts["calib"]) else "select"
        logits = await self._infer(networks, ("meta", "verify", fitted_on, "test"))
        if crossed:
            logits = {key: {**outputs, **crossed.logits[key]} for key, outputs in logits.items()}
        slots = slot_networks(networks)
        serving = [slot for slot in self.evaluator.cluster.slots if slot.name in slots]
        bundle = replace(bundle, experts=experts_of(serving, self.schema.symbols))
        fitted = await offload(calibrated_bundle, bundle, self.schema, slots, logits, parts)
        work = RoleWork(fitted)
        if self.roles is not None:
            infer = partial(self._infer, networks)
            members = Members(
                self.schema,
                parts,
                slots,
                bundle,
                fitted,
                logits,
                infer,
                crossed=bool(crossed),
                lack=crossed.reason if crossed is not None else None,
            )
            work = await self.roles.learn(members)
            if work.bundle.roles != NO_ROLES:
                work = replace(work, ablation=await offload(ablation, members, work))
        return work.bundle, await offload(self._finished, networks, work, logits)

    def _finished(
        self,
        networks: Mapping[str, NetworkGroup],
        work: RoleWork,
        logits: Mapping[str, Mapping[str, Logits]],
    ) -> Verdict:
        nothing = Score(None, None)
        return self._on_test(networks, work, logits, tuple(AGGREGATIONS), nothing, compared=True)

    def _on_test(
        self,
        networks: Mapping[str, NetworkGroup],
        work: RoleWork,
        logits: Mapping[str, Mapping[str, Logits]],
        modes: Sequence[Aggregation],
        validation: Score,
        *,
        compared: bool = False,
    ) -> Verdict:
        test, stacked = self.data.parts["test"], work.served_stack("test")
        made = {
            mode: work.surely(
                mode, self._served(networks, work.bundle, logits, "test", mode, stacked)
            )
            for mode in modes
        }
        measured = {mode: measure(self.schema, own.final, test) for mode, own in made.items()}
        served = measured[DEFAULT_AGGREGATION]
        evaluation = report(
            self.schema,
            measured,
            sureness={
                mode: sureness(work.bundle, self.schema, mode, own, test)
                for mode, own in made.items()
            },
            description=self.data.description,
            rule=work.bundle.rule,
            compared=compare(self.schema, served, self.data.parts) if compared else None,
        )
        roles = {"roles": roles_report(work.bundle.roles, work.ablation, self.crossed)}
        return Verdict(validation, score(served), evaluation.model_copy(update=roles))

    def _served(
        self,
        networks: Mapping[str, NetworkGroup],
        bundle: Bundle,
        logits: Mapping[str, Mapping[str, Logits]],
        part: str,
        mode: Aggregation,
        stacked: Logits | None = None,
    ) -> Served:
        """The predictions of the rows of a part."""
        of_part = {key: outputs[part] for key, outputs in logits.items()}
        slots = slot_networks(networks)
        symbols = self.data.parts[part].symbols
        return serve_groups(
            bundle, self.schema, mode, of_part, slots, stacked=stacked, symbols=symbols
        )

    async def _infer(
        self, networks: Mapping[str, NetworkGroup], parts: Sequence[str]
    ) -> dict[str, dict[str, Logits]]:
        """Outputs of every network for every part that has rows."""
        full = [part for part in parts if len(self.data.parts[part].y)]
        answering = {key: network for key, network in networks.items() if network.slots}
        logits = {
            key: await self.evaluator.infer(network, full)
            for key, network in (answering or networks).items()
        }
        for key, outputs in logits.items():
            if not all(bool(np.isfinite(values).all()) for values in outputs.values()):
                raise RoundFailed(
                    f"the averaged model of network {key} gives outputs that are not finite;"
                    " the former version stays",
                    hint="train again with a lower learning_rate",
                )
        return logits


def slot_networks(networks: Mapping[str, NetworkGroup]) -> dict[str, str]:
    """Key of the network group of every slot, in slot order, as a prediction combines their answers."""
    found = {slot: key for key, network in networks.items() for slot in network.slots}
    return {slot: found[slot] for slot in sorted(found, key=slot_order)}
