"""Aggregators learn to combine the slots: stacking on `meta` rows, which the answering ones have not seen."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flow_nexus_neural.coordination.role_gates import ERRORS, ORDERED_ERRORS, Gate, better, closed
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.state.roles import STUDENT
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.training.roles.lesson import LEAST_ROWS, Lesson, as_rows, held_out
from flow_nexus_neural.engine.versions.ablation import WITHOUT_STUDENT
from flow_nexus_neural.engine.versions.members import Members
from flow_nexus_neural.engine.versions.served import Logits
from flow_nexus_neural.kernels.probabilities import Float64s
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.kernels.stacking import (
    StackLayout,
    hidden_answers,
    layout_of,
    stacker_features,
)
from flow_nexus_neural.protocol.plan import InputSpec

COPIES = 3
"""Times that a row is trained on with some answers hidden, beside once with all of them."""
MAX_ROWS = 20_000
"""Of rows with answers hidden; beyond it there are fewer copies."""
PARTS = ("verify", "calib", "test")
"""On which the outputs of stacking networks are used."""


@dataclass(frozen=True)
class Stacking:
    """The rows from which the aggregators of a cluster learn.

    Attributes:
        members: What the slots answer.
        student: Of the students by part, where they are a column; {} else.
    """

    members: Members
    student: Mapping[str, Logits]

    @property
    def flaw(self) -> str | None:
        """Why nothing can be learnt; None where something can."""
        rows = len(self.members.parts["meta"])
        return (
            self.members.lacking("meta")
            if not rows
            else None
            if rows >= LEAST_ROWS
            else f"{rows} meta rows are too few"
        )

    @property
    def layout(self) -> StackLayout:
        """The columns: every serving slot, then the student."""
        schema = self.members.schema
        columns = [*self.members.slots, *([STUDENT] if self.student else [])]
        return layout_of(columns, schema.n_outputs, len(schema.symbols))

    def lesson(self, slot: str, run: tuple[int, int], *, resampled: bool) -> Lesson:
        """What one aggregator learns: a sample of the rows of its own where there are several aggregators."""
        members, layout = self.members, self.layout
        rows, answers = members.parts["meta"], self._answers("meta")
        held = held_out(len(rows), ordered=members.schema.time_ordered)
        chosen = np.flatnonzero(~held)
        if resampled:
            seed = seed64(run, 0, slot, 0, "bootstrap")
            draw = np.random.Generator(np.random.PCG64(seed))
            chosen = chosen[draw.integers(0, len(chosen), len(chosen))]
        fit = self._with_gaps(layout, answers, rows, chosen, seed64(run, 0, slot, 0, "dropout"))
        further = {
            part: as_rows(self._features(layout, part), members.parts[part].y)
            for part in PARTS
            if len(members.parts[part])
        }
        if self.student and "test" in further:
            rows_of = members.parts["test"]
            alone = stacker_features(
                layout, members.answers("test"), members.schema.task, rows_of.symbols
            )
            further[WITHOUT_STUDENT] = as_rows(alone, rows_of.y)
        whole = self._features(layout, "meta")
        return Lesson(
            purpose="stacker",
            fit=fit,
            held=as_rows(whole[held], rows.y[held]),
            further=further,
            task=members.schema.task,
            n_outputs=members.schema.n_outputs,
            input=InputSpec(vector_length=0, n_scalars=layout.n_features),
            run=run,
        )

    def gate(self, stacked: Mapping[str, Logits], fitted: Bundle) -> Gate:
        """Whether the stacking networks beat the calibrated weighted mean on `verify` rows.

        Neither was fitted on them.

        Args:
            stacked: Their mean outputs by part.
            fitted: The bundle with their own calibration.
        """
        if "verify" not in stacked:
            return closed("there are no verify rows to compare on")
        members = self.members
        own = members.served(fitted, "ensemble", "verify", stacked["verify"]).final
        rival = members.served(members.bundle, "weighted", "verify").final
        errors = ORDERED_ERRORS if members.schema.time_ordered else ERRORS
        return better(members.losses(own, "verify"), members.losses(rival, "verify"), errors)

    def _answers(self, part: str) -> dict[str, Float64s]:
        own = self.members.answers(part)
        if self.student:
            own[STUDENT] = np.asarray(self.student[part], np.float64)
        return own

    def _features(self, layout: StackLayout, part: str) -> "np.typing.NDArray[np.float32]":
        rows, task = self.members.parts[part], self.members.schema.task
        return stacker_features(layout, self._answers(part), task, rows.symbols)

    def _with_gaps(
        self,
        layout: StackLayout,
        answers: Mapping[str, Float64s],
        rows: Rows,
        chosen: "np.typing.NDArray[np.int64]",
        seed: int,
    ) -> Rows:
        """Chosen rows once with all answers, and some times with a fifth of the answers hidden."""
        copies = max(1, min(COPIES, MAX_ROWS // max(1, len(chosen))))
        index = np.concatenate([chosen] * (1 + copies))
        hidden = hidden_answers(seed, len(index), len(answers))
        hidden[: len(chosen)] = False
        own = {name: outputs[index] for name, outputs in answers.items()}
        task = self.members.schema.task
        x = stacker_features(layout, own, task, rows.symbols[index], hidden)
        return as_rows(x, rows.y[index])
