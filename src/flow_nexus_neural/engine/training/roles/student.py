"""Parameter servers learn to answer alone: the served model distilled into their own networks.

They learn from rows on which the workers were trained, and never from rows that judge them later: kept `meta`
rows do, as one more column of the stacking networks. Out of fold, `meta` rows are training rows; a student
learns from these alone, with the answers out of fold, and is no such column. Departure from the design:
neither noise nor mixup, which need outputs of the teacher for rows that nobody computes.
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
PARTS = ("select", "meta", "verify", "calib", "test")
"""On which the outputs of students are used."""
SHARED_PARTS = ("train", "select")
"""Of which the answers of the slots are computed for students; others are there."""
NO_ROWS = "there are too few select rows to hold a student against its teacher"


@dataclass(frozen=True)
class Distilling:
    """What the parameter servers of a cluster learn.

    Attributes:
        members: What the slots answer.
        outputs: Of the slots' networks for `train` and `select` rows; for the latter alone out of fold.
    """

    members: Members
    outputs: Outputs

    @property
    def source(self) -> str:
        """The part from which a student learns."""
        return "meta" if self.members.crossed else "train"

    def lesson(self, run: tuple[int, int]) -> Lesson:
        """What every student learns; they differ in their initial weights and in the order of rows."""
        members = self.members
        train, teacher = members.parts[self.source], self._teacher(self.source)
        if len(train) > MAX_ROWS:
            draw = np.random.Generator(np.random.PCG64(seed64(run, 0, "student", 0, "sample")))
            chosen = np.sort(draw.choice(len(train), MAX_ROWS, replace=False))
            train, teacher = train.at(chosen), teacher[chosen]
        used = [part for part in PARTS if part != self.source and len(members.parts[part])]
        return Lesson(
            purpose="student",
            fit=train,
            held=members.parts[judging(members)],
            further={part: members.parts[part] for part in used},
            task=members.schema.task,
            n_outputs=members.schema.n_outputs,
            input=members.schema.input,
            run=run,
            teacher=teacher,
        )

    def gate(self, student: Mapping[str, Logits]) -> Gate:
        """Whether the students are near enough to their teacher on rows of neither."""
        members, part = self.members, judging(self.members)
        rows = members.parts[part]
        teacher, own = self._served(part).raw, np.asarray(student[part], np.float64)
        if members.schema.task == "regression":
            error = float(np.mean((own[:, 0] - rows.y) ** 2))
            rival = float(members.losses(teacher, part).mean())
            return near(error, rival, len(rows), higher_is_better=False)
        decided = members.bundle.rule.decide(np.exp(class_log_probabilities(own)))
        accuracy = float((decided == rows.y.astype(np.int64)).mean())
        rival = float(members.hits(teacher, part).mean())
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
        known = self.outputs if part in SHARED_PARTS else members.logits
        own = {key: of_parts[part] for key, of_parts in known.items()}
        return serve_groups(members.bundle, members.schema, DEFAULT_AGGREGATION, own, members.slots)


def flaw(members: Members) -> str | None:
    """Why no student can be taught; None where one can."""
    return NO_ROWS if len(members.parts[judging(members)]) < LEAST_ROWS else None


def judging(members: Members) -> str:
    """The part by which a student is judged: out of fold `verify`, where `select` is small."""
    few = len(members.parts["select"]) < LEAST_ROWS
    return "verify" if members.crossed and few else "select"
