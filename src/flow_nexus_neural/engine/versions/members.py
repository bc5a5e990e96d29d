"""What the serving slots of a model answer on the rows of its parts: what other roles learn from."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.data.prepare import Rows
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.versions.calibration import calibrated_bundle
from flow_nexus_neural.engine.versions.served import Logits, Served, serve_groups
from flow_nexus_neural.kernels.class_weight import without_class_weight
from flow_nexus_neural.kernels.ensemble import Fused
from flow_nexus_neural.kernels.probabilities import Float64s, class_logits
from flow_nexus_neural.kernels.row_losses import row_losses
from flow_nexus_neural.vocabulary import Aggregation

Outputs = Mapping[str, Mapping[str, Logits]]
"""[rows, n_outputs] by network group and part."""


@dataclass(frozen=True)
class Members:
    """The answers of a model's serving slots, by part.

    Attributes:
        schema: Of the data.
        parts: The rows.
        slots: Network group of every slot, in slot order.
        plain: The bundle before anything was fitted.
        bundle: With weights and calibration, and without any role's network.
        logits: Outputs per network group and part, for parts that have rows.
        infer: Computes those of further parts.
        crossed: Whether `meta`, `verify` and `calib` are training rows, with answers out of fold.
        lack: Why there are no such answers; None where they are, or were not tried.
    """

    schema: DataSchema
    parts: Mapping[str, Rows]
    slots: Mapping[str, str]
    plain: Bundle
    bundle: Bundle
    logits: Outputs
    infer: Callable[[Sequence[str]], Awaitable[Outputs]]
    crossed: bool = False
    lack: str | None = None

    def lacking(self, part: str) -> str:
        """Why there are no rows for a purpose."""
        return f"there are no {part} rows: {self.lack or 'none were kept when the training began'}"

    def answers(self, part: str, outputs: Outputs | None = None) -> dict[str, Float64s]:
        """[rows, n_outputs] of every slot, in slot order, without the class weights of the training."""
        found = self.logits if outputs is None else outputs
        weights = self.bundle.rule.class_weight
        return {
            slot: without_class_weight(np.asarray(found[key][part], np.float64), weights)
            for slot, key in self.slots.items()
        }

    def refitted(self, stacked: Mapping[str, Logits]) -> Bundle:
        """The bundle whose `ensemble` is what stacking networks put out on rows of these parts."""
        return calibrated_bundle(
            self.plain, self.schema, self.slots, self.logits, self.parts, stacked
        )

    def served(
        self, bundle: Bundle, mode: Aggregation, part: str, stacked: Logits | None = None
    ) -> Served:
        """What predictions of a part's rows would be."""
        own = {key: outputs[part] for key, outputs in self.logits.items()}
        return serve_groups(
            bundle,
            self.schema,
            mode,
            own,
            self.slots,
            stacked=stacked,
            symbols=self.parts[part].symbols,
        )

    def losses(self, answers: Fused, part: str) -> NDArray[np.float64]:
        """[rows] log loss in nats, or squared error in variances of the target."""
        rows = self.parts[part]
        if answers.probabilities is not None:
            return row_losses(class_logits(answers.probabilities), rows.y, self.schema.task)
        values = (answers.values - self.schema.target_mean) / self.schema.target_sd
        return row_losses(values[:, None], rows.y, self.schema.task)

    def hits(self, answers: Fused, part: str) -> NDArray[np.bool_]:
        """[rows] whether the decided class is the right one.

        Raises:
            ValueError: If the task is regression.
        """
        if answers.decisions is None:
            raise ValueError("values of a regression decide nothing")
        right: NDArray[np.bool_] = answers.decisions == self.parts[part].y.astype(np.int64)
        return right


@dataclass(frozen=True)
class RoleWork:
    """What nodes of other roles make of a model.

    Attributes:
        bundle: Complete, with their networks.
        stacked: Outputs of the stacking networks by part, whether or not they are used.
        student: Of the distilled students by part; {} without one.
        ablation: What each role adds, on test rows; None where there is no role.
        sure: Calibrated P(the decision is right) on `test` by aggregation, of validators that are trained.
    """

    bundle: Bundle
    stacked: Mapping[str, Logits] = field(default_factory=dict)
    student: Mapping[str, Logits] = field(default_factory=dict)
    sure: Mapping[Aggregation, Float64s] = field(default_factory=dict)
    ablation: Mapping[str, JsonValue] | None = None

    def surely(self, mode: Aggregation, made: Served) -> Served:
        """Decisions about `test` rows, with the confidence that a reply gives them."""
        sure = self.sure.get(mode) if self.bundle.roles.confident_in(mode) else None
        return made if sure is None else replace(made, sure=sure)

    def served_stack(self, part: str) -> Logits | None:
        """What `ensemble` serves for a part; None where it goes without stacking networks."""
        return self.stacked.get(part) if self.bundle.roles.uses("stacker") else None


class RoleTeacher(Protocol):
    """Trains nodes of other roles than workers; really `training.roles.learning.RoleLearning`."""

    async def learn(self, members: Members) -> RoleWork:
        """Let them learn from what the serving slots answer. Failures of nodes are noted, not raised."""
        ...
