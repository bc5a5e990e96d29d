"""The committed state of a cluster's model, replaced as a whole and never altered.

Predict and status read one such value without a lock, so all they report belongs together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from pydantic import JsonValue

from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.reports import DatasetInfo, Evaluation
from flow_nexus_neural.engine.state.network_groups import Bundle, NetworkGroup, load_network_group
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.protocol.digest import json_digest


@dataclass(frozen=True)
class Committed:
    """One version of a cluster's model and everything that is known of it.

    Attributes:
        version: Counts commits of the cluster, from 1.
        networks: With their weights, by key.
        accuracy: On test rows; directional for regression.
        loss: On the same rows.
        recent: Checkpoint files of the last versions, newest last, by network.
        best: Checkpoint file of the best round of the latest training, by network.
    """

    version: int
    schema: DataSchema
    dataset: DatasetInfo
    networks: Mapping[str, NetworkGroup]
    bundle: Bundle
    evaluation: Evaluation | None
    accuracy: float | None
    loss: float | None
    recent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    best: Mapping[str, str] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """Weights digest of every network."""
        return {key: network.digest or "" for key, network in self.networks.items()}

    @property
    def blobs(self) -> frozenset[str]:
        """Checkpoint files that must stay."""
        current = [name for c in self.networks.values() for name in (c.blob, c.moments_blob)]
        recent = [name for names in self.recent.values() for name in names]
        return frozenset(n for n in (*current, *recent, *self.best.values()) if n is not None)

    def network_of(self, slot: str) -> NetworkGroup | None:
        """The network in which a slot serves; None when it serves in none."""
        for network in self.networks.values():
            if slot in network.slots:
                return network
        return None

    def with_slot(self, slot: str, key: str) -> Self:
        """The same version with one more slot serving a network."""
        network = self.networks[key]
        widened = replace(network, slots=(*network.slots, slot))
        share = min(self.bundle.slot_weights.values(), default=1.0)
        bundle = replace(self.bundle, slot_weights={**self.bundle.slot_weights, slot: share})
        return replace(self, networks={**self.networks, key: widened}, bundle=bundle)

    def newest(self, network: NetworkGroup) -> NetworkGroup:
        """A training's view of a network, moved on to this version when that is a later one of it."""
        own = self.networks.get(network.key)
        if own is None or own.state is None or own.version <= network.version:
            return network
        state = own.state
        if network.state is not None:
            state = replace(network.state, params=state.params, buffers=state.buffers)
        return replace(
            network,
            state=state,
            digest=own.digest,
            blob=own.blob,
            moments_blob=own.moments_blob if network.moments_blob is not None else None,
            version=own.version,
        )

    def with_slots_of(self, other: "Committed | None") -> Self:
        """The same version served by the slots of another one of the same networks, too."""
        widened = self
        for key, network in (other.networks if other else {}).items():
            for slot in network.slots:
                if key in widened.networks and widened.network_of(slot) is None:
                    widened = widened.with_slot(slot, key)
        return widened

    def unmeasured(self) -> Self:
        """The same version without anything that was measured of its weights, for weights that differ."""
        return replace(self, evaluation=None, accuracy=None, loss=None)

    def without_weights(self) -> Self:
        """The same version for reports only: its weights are in the checkpoint files."""
        networks = {key: replace(network, state=None) for key, network in self.networks.items()}
        return replace(self, networks=networks)

    def without_slot(self, slot: str) -> Self:
        """The same version without a slot."""
        networks = {
            key: replace(network, slots=tuple(name for name in network.slots if name != slot))
            for key, network in self.networks.items()
        }
        weights = {name: w for name, w in self.bundle.slot_weights.items() if name != slot}
        return replace(self, networks=networks, bundle=replace(self.bundle, slot_weights=weights))

    def to_json(self) -> dict[str, JsonValue]:
        """Everything but the vectors, which are in the checkpoint files."""
        return {
            "version": self.version,
            "schema": self.schema.to_json(),
            "dataset": self.dataset.model_dump(mode="json"),
            "cohorts": {key: network.to_json() for key, network in self.networks.items()},
            "bundle": self.bundle.to_json(),
            "evaluation": self.evaluation.model_dump(mode="json") if self.evaluation else None,
            "accuracy": self.accuracy,
            "loss": self.loss,
            "recent": {key: list(names) for key, names in self.recent.items()},
            "best": dict(self.best),
        }


def model_digest(digests: Mapping[str, str]) -> str:
    """One digest for the model of a cluster: the network's own when there is one network."""
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
        networks={
            key: load_network_group(_object(network), files)
            for key, network in _object(values["cohorts"]).items()
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
