"""Validators learn P(a decision is right) from `verify` rows; corrected and admitted on `calib` rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flow_nexus_neural.coordination.role_gates import Gate, better, closed
from flow_nexus_neural.engine.state.roles import confidence_gate
from flow_nexus_neural.engine.training.roles.lesson import LEAST_ROWS, Lesson, as_rows, held_out
from flow_nexus_neural.engine.versions.calibration import CALIBRATED_MODES
from flow_nexus_neural.engine.versions.doubt import bounded, features_of
from flow_nexus_neural.engine.versions.members import Members, RoleWork
from flow_nexus_neural.engine.versions.served import Logits, Served
from flow_nexus_neural.kernels.calibration import Calibrator, cross_fitted, fit_platt
from flow_nexus_neural.kernels.decision_features import N_FEATURES
from flow_nexus_neural.kernels.probabilities import Float64s, logit, sigmoid
from flow_nexus_neural.kernels.row_losses import row_losses
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.vocabulary import Aggregation

PARTS = ("calib", "test")
"""On which the outputs of validators are used."""
STANDARD_ERRORS = 2.0
"""By which validators must be better: what they would replace has been calibrated already."""
NO_DECISION = "values of a regression are not right or wrong"


@dataclass(frozen=True)
class Admitted:
    """What becomes of trained validators, by aggregation.

    Attributes:
        sure: [rows] P(the decision is right) on `test`.
    """

    gates: Mapping[str, Gate]
    calibrators: Mapping[str, Calibrator]
    sure: Mapping[Aggregation, Float64s]


@dataclass(frozen=True)
class Doubting:
    """The decisions from which the validators of a cluster learn: of every aggregation with probabilities.

    Attributes:
        members: What the slots answer.
        work: With the bundle that decides.
    """

    members: Members
    work: RoleWork

    @property
    def flaw(self) -> str | None:
        """Why nothing can be learnt; None where something can."""
        rows = len(self.members.parts["verify"])
        if self.members.schema.task == "regression":
            return NO_DECISION
        if not rows:
            return self.members.lacking("verify")
        if rows < LEAST_ROWS:
            return f"{rows} verify rows are too few"
        hits = np.concatenate([self._hits(mode, "verify") for mode in CALIBRATED_MODES])
        if hits.all() or not hits.any():
            return f"all decisions on {rows} verify rows are {'right' if hits.all() else 'wrong'}"
        return None

    def lesson(self, run: tuple[int, int]) -> Lesson:
        """What every validator learns; they differ in their initial weights and in the order of rows."""
        members = self.members
        rows = len(members.parts["verify"])
        held = np.tile(held_out(rows, ordered=members.schema.time_ordered), len(CALIBRATED_MODES))
        x = self._features("verify")
        y = np.concatenate([self._hits(mode, "verify") for mode in CALIBRATED_MODES])
        further = {
            part: as_rows(own, np.zeros(len(own), np.float32))
            for part in PARTS
            if len(members.parts[part])
            for own in [self._features(part)]
        }
        return Lesson(
            purpose="confidence",
            fit=as_rows(x[~held], y[~held].astype(np.float32)),
            held=as_rows(x[held], y[held].astype(np.float32)),
            further=further,
            task="binary",
            n_outputs=1,
            input=InputSpec(vector_length=0, n_scalars=N_FEATURES),
            run=run,
        )

    def admitted(self, outputs: Mapping[str, Logits]) -> Admitted:
        """Which aggregations get their confidence from validators.

        They are compared on `calib` rows with the confidence that there is without them, each corrected by a
        map fitted on other rows than those it is scored on. The rival's own calibration was fitted on all of
        them, so the comparison favours it.

        Args:
            outputs: [modes x rows, 1] mean logits of the validators by part.
        """
        gates: dict[str, Gate] = {}
        calibrators: dict[str, Calibrator] = {}
        sure: dict[Aggregation, Float64s] = {}
        for number, mode in enumerate(CALIBRATED_MODES):
            name = confidence_gate(mode)
            if "calib" not in outputs:
                gates[name] = closed("there are no calib rows to compare on")
                continue
            logits = _of_mode(outputs["calib"], number)
            made, hits = self._made(mode, "calib"), self._hits(mode, "calib").astype(np.int64)
            ordered = self.members.schema.time_ordered
            found = cross_fitted(fit_platt, logits, hits, ordered=ordered)
            if found is None:
                gates[name] = closed(
                    "there are too few calib rows, or all decisions on them are right"
                )
                continue
            scored, held = found
            own = self._bounded(sigmoid(held[:, 0]), made)[scored]
            rival = _certainty(made)[scored]
            gates[name] = better(
                _losses(own, hits[scored]), _losses(rival, hits[scored]), STANDARD_ERRORS
            )
            calibrators[mode] = fit_platt(logits, hits)
            if "test" in outputs:
                corrected = calibrators[mode].apply(_of_mode(outputs["test"], number))
                sure[mode] = self._bounded(sigmoid(corrected[:, 0]), self._made(mode, "test"))
        return Admitted(gates, calibrators, sure)

    def _bounded(self, sure: Float64s, made: Served) -> Float64s:
        return bounded(sure, made, robust=self.work.bundle.robust)

    def _made(self, mode: Aggregation, part: str) -> Served:
        return self.members.served(self.work.bundle, mode, part, self.work.served_stack(part))

    def _hits(self, mode: Aggregation, part: str) -> "np.typing.NDArray[np.bool_]":
        return self.members.hits(self._made(mode, part).final, part)

    def _features(self, part: str) -> "np.typing.NDArray[np.float32]":
        student = self.work.student.get(part) if self.work.bundle.roles.uses("student") else None
        return np.concatenate(
            [features_of(self._made(mode, part), student) for mode in CALIBRATED_MODES]
        )


def _of_mode(outputs: Logits, number: int) -> Float64s:
    """[rows, 1] of one aggregation."""
    rows = len(outputs) // len(CALIBRATED_MODES)
    return np.asarray(outputs[number * rows : (number + 1) * rows], dtype=np.float64)


def _certainty(made: Served) -> Float64s:
    if made.certainty is None:
        raise ValueError("values of a regression decide nothing")
    return made.certainty


def _losses(sure: Float64s, hits: "np.typing.NDArray[np.int64]") -> Float64s:
    return row_losses(logit(sure)[:, None], hits, "binary")
