"""The committed state of a cluster's model, replaced as a whole and never altered.

Predict and status read one such value without a lock, so all they report belongs together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from pydantic import JsonValue

from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.reports import DatasetInfo, Evaluation
from flow_nexus_neural.engine.state.network_groups import Bundle, Cohort, load_cohort
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.protocol.digest import json_digest


@dataclass(frozen=True)
class Committed:
    """One version of a cluster's model and everything that is known of it.

    Attributes:
        version: Counts commits of the cluster, from 1.
        cohorts: With their weights, by key.
        accuracy: On test rows; directional for regression.
        loss: On the same rows.
        recent: Checkpoint files of the last versions, newest last, by cohort.
        best: Checkpoint file of the best round of the latest training, by cohort.
    """

    version: int
    schema: DataSchema
    dataset: DatasetInfo
    cohorts: Mapping[str, Cohort]
    bundle: Bundle
    evaluation: Evaluation | None
    accuracy: float | None
    loss: float | None
    recent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    best: Mapping[str, str] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """Weights digest of every cohort."""
        return {key: cohort.digest or "" for key, cohort in self.cohorts.items()}

    @property
    def blobs(self) -> frozenset[str]:
        """Checkpoint files that must stay."""
        current = [name for c in self.cohorts.values() for name in (c.blob, c.moments_blob)]
        recent = [name for names in self.recent.values() for name in names]
        return frozenset(n for n in (*current, *recent, *self.best.values()) if n is not None)

    def cohort_of(self, slot: str) -> Cohort | None:
        """The cohort in which a slot serves; None when it serves in none."""
        for cohort in self.cohorts.values():
            if slot in cohort.slots:
                return cohort
        return None

    def with_slot(self, slot: str, key: str) -> Self:
        """The same version with one more slot serving a cohort."""
        cohort = self.cohorts[key]
        widened = replace(cohort, slots=(*cohort.slots, slot))
        share = min(self.bundle.slot_weights.values(), default=1.0)
        bundle = replace(self.bundle, slot_weights={**self.bundle.slot_weights, slot: share})
        return replace(self, cohorts={**self.cohorts, key: widened}, bundle=bundle)

    def newest(self, cohort: Cohort) -> Cohort:
        """A training's view of a cohort, moved on to this version when that is a later one of it."""
        own = self.cohorts.get(cohort.key)
        if own is None or own.state is None or own.version <= cohort.version:
            return cohort
        state = own.state
        if cohort.state is not None:
            state = replace(cohort.state, params=state.params, buffers=state.buffers)
        return replace(
            cohort,
            state=state,
            digest=own.digest,
            blob=own.blob,
            moments_blob=own.moments_blob if cohort.moments_blob is not None else None,
            version=own.version,
        )

    def with_slots_of(self, other: "Committed | None") -> Self:
        """The same version served by the slots of another one of the same networks, too."""
        widened = self
        for key, cohort in (other.cohorts if other else {}).items():
            for slot in cohort.slots:
                if key in widened.cohorts and widened.cohort_of(slot) is None:
                    widened = widened.with_slot(slot, key)
        return widened

    def unmeasured(self) -> Self:
        """The same version without anything that was measured of its weights, for weights that differ."""
        return replace(self, evaluation=None, accuracy=None, loss=None)

    def without_weights(self) -> Self:
        """The same version for reports only: its weights are in the checkpoint files."""
        cohorts = {key: replace(cohort, state=None) for key, cohort in self.cohorts.items()}
        return replace(self, cohorts=cohorts)

    def without_slot(self, slot: str) -> Self:
        """The same version without a slot."""
        cohorts = {
            key: replace(cohort, slots=tuple(name for name in cohort.slots if name != slot))
            for key, cohort in self.cohorts.items()
        }
        weights = {name: w for name, w in self.bundle.slot_weights.items() if name != slot}
        return replace(self, cohorts=cohorts, bundle=replace(self.bundle, slot_weights=weights))

    def to_json(self) -> dict[str, JsonValue]:
        """Everything but the vectors, which are in the checkpoint files."""
        return {
            "version": self.version,
            "schema": self.schema.to_json(),
            "dataset": self.dataset.model_dump(mode="json"),
            "cohorts": {key: cohort.to_json() for key, cohort in self.cohorts.items()},
            "bundle": self.bundle.to_json(),
            "evaluation": self.evaluation.model_dump(mode="json") if self.evaluation else None,
            "accuracy": self.accuracy,
            "loss": self.loss,
            "recent": {key: list(names) for key, names in self.recent.items()},
            "best": dict(self.best),
        }


def model_digest(digests: Mapping[str, str]) -> str:
    """One digest for the model of a cluster: the cohort's own when there is one cohort."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    return json_digest(dict(digests))


def load_committed(stored: Mapping[str, JsonValue], files: CheckpointFiles | None) -> Committed:
    """Read a committed version back, every checkpoint verified. Blocking.

    Without `files` it comes without weights, for a cluster that nobody can ask any more.

    Raises:
        StoreCorrupt: A checkpoint is missing, altered, or does not hold what the journal says.
    """
    values: dict[str, JsonValue] = dict(stored)
    evaluation = values["evaluation"]
    return Committed(
        version=_int(values["version"]),
        schema=DataSchema.from_json(_object(values["schema"])),
        dataset=DatasetInfo.model_validate(values["dataset"]),
        cohorts={
            key: load_cohort(_object(cohort), files)
            for key, cohort in _object(values["cohorts"]).items()
        },
        bundle=Bundle.from_json(_object(values["bundle"])),
        evaluation=Evaluation.model_validate(evaluation) if evaluation is not None else None,
        accuracy=_number(values["accuracy"]),
        loss=_number(values["loss"]),
        recent={
            key: tuple(str(name) for name in _list(names))
            for key, names in _object(values["recent"]).items()
        },
        best={key: str(name) for key, name in _object(values["best"]).items()},
    )


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _int(value: JsonValue) -> int:
    return value if isinstance(value, int) else 0


def _number(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) else None
