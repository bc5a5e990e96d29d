"""A committed version of a cluster's model, replaced as a whole and never altered.

Predict and status read one such value without a lock, so all they report belongs together.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

from pydantic import JsonValue

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.coordination.privacy.lineage import ModelPrivacy
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.reports import DatasetInfo, Evaluation
from flow_nexus_neural.engine.state.network_groups import NetworkGroup, shared_key
from flow_nexus_neural.engine.state.roles import NO_ROLES, Roles
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.conformal import ConformalScores
from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.protocol.digest import json_digest


@dataclass(frozen=True)
class Bundle:
    """What answers predictions: all numbers of one reply belong to one bundle.

    Attributes:
        version: Committed version of the cluster.
        digests: Weights digest per network group.
        parity: 0 or 1: which of a node's two serving copies holds these weights.
        slot_weights: Weight per slot for `weighted` and `ensemble`; they sum to 1.
        weights_source: `validation loss` or `equal`.
        calibrators: Per aggregation mode; a mode without one reports uncalibrated values.
        conformal: How far from the truth the answers to calibration rows were, per mode; none where the data
            have too few rows for it.
        conformal_part: The part that these rows are of: `calib`, or `select`, by which the best round was
            chosen, so that what they say is a little too good.
        residual_median: Median of them for `weighted`, the tolerance of agreement (regression).
        error_correlation: Mean pairwise correlation of the slots' errors on calibration rows.
        rule: Which class probabilities decide, and what the classes counted in the training.
        experts: Symbols that slots know best, by the slots that name some; see `served.routed`.
        robust: Whether answers are combined so that fewer than a third of the slots may lie.
        roles: What aggregators, validators and parameter servers learnt for it.
    """

    version: int
    digests: Mapping[str, str]
    parity: int
    slot_weights: Mapping[str, float]
    weights_source: str
    calibrators: Mapping[str, Calibrator]
    residual_median: float | None
    error_correlation: float | None
    rule: DecisionRule
    robust: bool = False
    roles: Roles = NO_ROLES
    conformal: Mapping[str, ConformalScores] = field(default_factory=dict)
    conformal_part: str | None = None
    experts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, JsonValue]:
        """Everything in it that shapes an answer; the parity does not."""
        return {
            "version": self.version,
            "digests": dict(self.digests),
            "parity": None,
            "slot_weights": dict(self.slot_weights),
            "weights_source": self.weights_source,
            "calibrators": {mode: c.to_json() for mode, c in self.calibrators.items()},
            "conformal": {mode: scores.to_json() for mode, scores in self.conformal.items()},
            "conformal_part": self.conformal_part,
            "residual_median": self.residual_median,
            "error_correlation": self.error_correlation,
            "threshold": self.rule.threshold,
            "class_weight": list(self.rule.class_weight),
            **({"robust": True} if self.robust else {}),
            **(
                {"experts": {slot: list(own) for slot, own in self.experts.items()}}
                if self.experts
                else {}
            ),
            **({"roles": self.roles.content} if self.roles != NO_ROLES else {}),
        }

    def with_slot(self, slot: str) -> Self:
        """One more slot, with the smallest weight that any slot has; all weights still sum to 1."""
        weights = dict(self.slot_weights)
        weights[slot] = min(weights.values(), default=1.0)
        return replace(self, slot_weights=_normalised(weights))

    def without_slot(self, slot: str) -> Self:
        """One slot less; the weights of the others sum to 1 again."""
        weights = {name: weight for name, weight in self.slot_weights.items() if name != slot}
        return replace(self, slot_weights=_normalised(weights))

    def unmeasured(self) -> Self:
        """For another mix of models: equal weights, and nothing that was fitted to former answers."""
        return replace(
            self,
            slot_weights={slot: 1.0 / len(self.slot_weights) for slot in self.slot_weights},
            weights_source="equal",
            calibrators={},
            residual_median=None,
            error_correlation=None,
            roles=NO_ROLES,
            conformal={},
            conformal_part=None,
            experts={},
        )


@dataclass(frozen=True)
class KeptVersion:
    """A version that can be put in force again, in one line.

    Attributes:
        at: When it was committed.
        rule: How its weights came about, as the ledger says.
        round: Of its training; None where it came about otherwise.
        digest: Of its weights.
        accuracy: As measured of it; None where it was not. The same holds for the loss.
        blobs: Checkpoint files of its weights.
        restored_from: The version whose weights and numbers it has taken over.
        privacy_mode: As `ModelPrivacy.mode`, with its epsilon and delta; None where nothing is known of it.
    """

    version: int
    at: str
    rule: str
    round: int | None
    training_id: str | None
    digest: str
    accuracy: float | None
    loss: float | None
    blobs: frozenset[str]
    restored_from: int | None = None
    privacy_mode: str | None = None
    epsilon: float | None = None
    delta: float | None = None


@dataclass(frozen=True)
class CommittedVersion:
    """One version of a cluster's model and everything that is known of it.

    Attributes:
        version: Counts commits of the cluster, from 1.
        networks: Network groups with their weights, by key.
        accuracy: On test rows; directional for regression.
        loss: On the same rows.
        recent: Checkpoint files of the last versions, newest last, by network group.
        best: Checkpoint file of the best round of the latest training, by network group.
        kept: Versions that can be put in force again, this one the last; the best is among them.
        evaluated: Network groups, without their weights, that `evaluation` is about; empty where it is about
            `networks` themselves, which it is not after a refit.
        privacy: Of all trainings that are in its weights; None where it was stored before that was recorded.
        measured: The version before slots joined that made another mix of models of it, until it is committed
            anew; None where nobody did. It comes back where they leave.
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
    evaluated: Mapping[str, NetworkGroup] = field(default_factory=dict)
    kept: tuple[KeptVersion, ...] = ()
    privacy: ModelPrivacy | None = None
    measured: "CommittedVersion | None" = field(default=None, compare=False, repr=False)

    @cached_property
    def sha(self) -> str:
        """sha256 over everything that shapes or describes an answer.

        How rows are scaled and classes are called, what the networks compute and with which weights, who
        answers, how answers are combined, and what was measured.
        """
        return json_digest(
            {
                "bundle": self.bundle.content,
                "schema": self.schema.to_json(),
                "dataset": self.dataset.model_dump(mode="json"),
                "networks": {
                    key: [network.plan_digest, network.digest, *network.slots]
                    for key, network in self.networks.items()
                },
                "evaluation": self.evaluation.model_dump(mode="json") if self.evaluation else None,
                "accuracy": self.accuracy,
                "loss": self.loss,
            }
        )

    @property
    def digests(self) -> dict[str, str]:
        """Weights digest of every network group."""
        return {key: network.digest or "" for key, network in self.networks.items()}

    @property
    def present_files(self) -> frozenset[str]:
        """Checkpoint files of what is in force, and of what a training would go on from."""
        roles = self.bundle.roles.networks
        networks = (*self.networks.values(), *self.evaluated.values(), *roles.values())
        names = (name for n in networks for name in (n.blob, n.moments_blob, n.server_blob))
        return frozenset(name for name in names if name is not None)

    @property
    def blobs(self) -> frozenset[str]:
        """Checkpoint files that must stay."""
        recent = [name for names in self.recent.values() for name in names]
        kept = [name for one in self.kept for name in one.blobs]
        return self.present_files | {*recent, *kept, *self.best.values()}

    @property
    def weight_files(self) -> frozenset[str]:
        """Checkpoint files without which it could not answer again; moments are not among them."""
        roles = self.bundle.roles.networks
        networks = (*self.networks.values(), *self.evaluated.values(), *roles.values())
        return frozenset(network.blob for network in networks if network.blob is not None)

    @property
    def members(self) -> dict[str, str]:
        """Key of the network group of every serving slot."""
        return {slot: key for key, network in self.networks.items() for slot in network.slots}

    @property
    def shared_networks(self) -> dict[str, NetworkGroup]:
        """Network groups as they are trained: slots with weights of their own are in the group they share."""
        found = {key: network for key, network in self.networks.items() if not network.is_personal}
        for network in self.networks.values():
            shared = found.get(network.shared_key)
            if network.is_personal and shared is not None:
                slots = sorted({*shared.slots, *network.slots}, key=slot_order)
                found[shared.key] = replace(shared, slots=tuple(slots))
        return found

    def network_of(self, slot: str) -> NetworkGroup | None:
        """The network group in which a slot serves; None when it serves in none."""
        for network in self.networks.values():
            if slot in network.slots:
                return network
        return None

    def loaded_into(self, slot: str) -> NetworkGroup | None:
        """The network that a slot holds: that of its group, or its own where its role has one."""
        return self.network_of(slot) or self.bundle.roles.networks.get(slot)

    @property
    def answering(self) -> frozenset[str]:
        """Network groups by which at least one slot answers."""
        return frozenset(key for key, network in self.networks.items() if network.slots)

    def with_slot(self, slot: str, key: str) -> "CommittedVersion":
        """The same version with one more slot serving a network group.

        Where several models answer then, it is a mix that nobody measured, and nothing measured of it stays.
        """
        network = self.networks[key]
        widened = replace(network, slots=(*network.slots, slot))
        more = replace(
            self,
            networks={**self.networks, key: widened},
            bundle=self.bundle.with_slot(slot),
        )
        if len(more.answering) == 1:
            return more
        return more.remixed(self.measured or self)

    def without_slot(self, slot: str) -> "CommittedVersion":
        """The same version without a slot. Where that changes the answers, nothing measured of them stays."""
        network = self.network_of(slot)
        if network is None:
            return self
        networks = {
            key: replace(network, slots=tuple(name for name in network.slots if name != slot))
            for key, network in self.networks.items()
            if not (network.is_personal and network.slots == (slot,))
        }
        fewer = replace(self, networks=networks, bundle=self.bundle.without_slot(slot))
        if self.measured is not None and fewer.members == self.measured.members:
            return self.measured
        if len(self.answering) == 1 and not network.is_personal:
            return fewer  # all its nodes give one answer
        joined = self.measured if self.measured and slot not in self.measured.members else None
        made, own = fewer.remixed(joined), fewer.bundle
        # The weights of the others were measured of each by itself: scaled, they stay.
        bundle = replace(
            made.bundle,
            slot_weights=own.slot_weights,
            weights_source=own.weights_source,
            experts={name: of for name, of in own.experts.items() if name != slot},
        )
        return replace(made, bundle=bundle)

    def remixed(self, measured: "CommittedVersion | None") -> Self:
        """Its slots as another mix of models: nothing measured stays, but for `measured`, to come back to."""
        bundle = replace(self.bundle.unmeasured(), digests=self.digests)
        return replace(self.unmeasured(), bundle=bundle, measured=measured)

    def with_members(
        self, also: Mapping[str, str], existing: Collection[str]
    ) -> "CommittedVersion":
        """The same version served by the slots that are members now.

        Args:
            also: Slots that came to serve a network group since this version was made, with its key.
            existing: All slots of the cluster; one that was removed meanwhile must not come back.
        """
        version: CommittedVersion = self
        for slot in self.members:
            if slot not in existing:
                version = version.without_slot(slot)
        for slot, own in also.items():
            key = own if own in version.networks else shared_key(own)
            if slot in existing and key in version.networks and version.network_of(slot) is None:
                version = version.with_slot(slot, key)
        return version

    def newest(self, network: NetworkGroup) -> NetworkGroup:
        """A training's view of a network group, moved on to this version when that is a later one of it."""
        own = self.networks.get(network.key)
        if own is None or own.state is None or own.version <= network.version:
            return network
        if network.key in self.evaluated:  # its weights have seen the test rows
            return replace(network, version=own.version)
        state = own.state
        if network.state is not None:
            state = replace(network.state, params=state.params, buffers=state.buffers)
        return replace(
            network,
            state=state,
            digest=own.digest,
            blob=own.blob,
            moments_blob=own.moments_blob if network.moments_blob is not None else None,
            server_blob=own.server_blob if network.server_blob is not None else None,
            version=own.version,
        )

    def unmeasured(self) -> Self:
        """The same version without anything that was measured of its weights, for weights that differ."""
        return replace(self, evaluation=None, accuracy=None, loss=None)

    def without_weights(self) -> Self:
        """The same version for reports only: its weights are in the checkpoint files."""
        networks = {key: replace(network, state=None) for key, network in self.networks.items()}
        bundle = replace(self.bundle, roles=self.bundle.roles.without_weights())
        return replace(self, networks=networks, bundle=bundle, measured=None)


def model_digest(digests: Mapping[str, str]) -> str:
    """One digest for the model of a cluster: the network group's own when there is only one."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    return json_digest(dict(digests))


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    if not total > 0:
        return {name: 1.0 / len(weights) for name in weights}
    return {name: weight / total for name, weight in weights.items()}
