"""Parameter servers learn to answer alone: the served model distilled into their own networks.

They learn from rows on which the workers were trained, and never from `meta` rows, which judge them later as
one more column of the stacking networks. Departure from the design: neither noise nor mixup, which need
outputs of the teacher for rows that nobody computes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flow_nexus_neural.coordination.role_gates import Gate, near
from flow_nexus_neural.engine.training.roles.lesson import LEAST_ROWS, Lesson
from flow_nexus_neural.engine.versions.members import Members, Outputs
from flow_nexus_neural.engine.versions.served import Logits, Served, serve_groups
from flow_nexus_neural.kernels.probabilities import Float64s, class_log_probabilities, class_logits
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.vocabulary import DEFAULT_AGGREGATION

MAX_ROWS = 20_000
"""Of which a student learns; more are sampled, so that a lesson stays short beside the training."""
PARTS = ("meta", "verify", "calib", "test")
"""On which the outputs of students are used, beside `select`."""
NO_ROWS = "there are too few select rows to hold a student against its teacher"


@dataclass(frozen=True)
class Distilling:
    """What the parameter servers of a cluster learn.

    Attributes:
        members: What the slots answer.
        outputs: Of the slots' networks for `train` and `select` rows.
    """

    members: Members
    outputs: Outputs

    def lesson(self, run: tuple[int, int]) -> Lesson:
        """What every student learns; they differ in their initial weights and in the order of rows."""
        members = self.members
        train = members.parts["train"]
        teacher = self._teacher("train")
        if len(train) > MAX_ROWS:
            draw = np.random.Generator(np.random.PCG64(seed64(run, 0, "student", 0, "sample")))
            chosen = np.sort(draw.choice(len(train), MAX_ROWS, replace=False))
            train, teacher = train.at(chosen), teacher[chosen]
        further = {part: members.parts[part] for part in PARTS if len(members.parts[part])}
        select = members.parts["select"]
        return Lesson(
            purpose="student",
            fit=train,
            held=select,
            further={"select": select, **further},
            task=members.schema.task,
            n_outputs=members.schema.n_outputs,
            input=members.schema.input,
            run=run,
            teacher=teacher,
        )

    def gate(self, student: Mapping[str, Logits]) -> Gate:
        """Whether the students are near enough to their teacher on `select` rows."""
        members, rows = self.members, self.members.parts["select"]
        teacher, own = self._served("select").raw, np.asarray(student["select"], np.float64)
        if members.schema.task == "regression":
            error = float(np.mean((own[:, 0] - rows.y) ** 2))
            rival = float(members.losses(teacher, "select").mean())
            return near(error, rival, len(rows), higher_is_better=False)
        decided = members.bundle.rule.decide(np.exp(class_log_probabilities(own)))
        accuracy = float((decided == rows.y.astype(np.int64)).mean())
        rival = float(members.hits(teacher, "select").mean())
        return near(accuracy, rival, len(rows), higher_is_better=True)

    def _teacher(self, part: str) -> "np.typing.NDArray[np.float32]":
        """[rows, n_outputs] of what is served by default, before calibration."""
        raw = self._served(part).raw
        if raw.probabilities is not None:
            soft: Float64s = class_logits(raw.probabilities)
        else:
            schema = self.members.schema
            soft = ((raw.values - schema.target_mean) / schema.target_sd)[:, None]
        return soft.astype(np.float32)

    def _served(self, part: str) -> Served:
        members = self.members
        own = {key: of_parts[part] for key, of_parts in self.outputs.items()}
        return serve_groups(members.bundle, members.schema, DEFAULT_AGGREGATION, own, members.slots)


def flaw(members: Members) -> str | None:
    """Why no student can be taught; None where one can."""
    return NO_ROWS if len(members.parts["select"]) < LEAST_ROWS else None
