"""The weight of every serving node: the caller's, those of the version, or what outcomes made of these."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.kernels.hedge import hedge_weights
from flow_nexus_neural.vocabulary import BY_OUTCOMES, Aggregation

WEIGHTED: Collection[Aggregation] = ("weighted", "ensemble")
BY_CALLER = "caller"


@dataclass(frozen=True)
class Weighting:
    """Weights of one answer.

    Attributes:
        by_slot: Of all slots that serve the version.
        source: `caller`, `outcomes`, or as in the version's bundle.
        outcomes: From how many they were learnt.
    """

    by_slot: Mapping[str, float] = field(default_factory=dict)
    source: str = "equal"
    outcomes: int = 0

    def told_with(self, aggregation: Aggregation) -> tuple[str | None, int | None]:
        """Source and outcomes of the weights of an answer; None where the aggregation has no weights."""
        return (self.source, self.outcomes) if aggregation in WEIGHTED else (None, None)

    @property
    def as_committed(self) -> bool:
        """Whether the version was calibrated and measured with these weights."""
        return self.source not in (BY_CALLER, BY_OUTCOMES)


def weights_of(
    cluster: LiveCluster, committed: CommittedVersion, request: PredictRequest
) -> Weighting:
    """The weights of an answer. Raises `InvalidArguments` for weights of the caller that cannot be used."""
    if request.weights is None:
        return learnt_weights(cluster, committed)
    if request.aggregation != "weighted":
        raise InvalidArguments(
            f"weights have no effect on aggregation {request.aggregation!r}",
            hint="pass aggregation 'weighted', or leave weights out",
        )
    weights = dict.fromkeys(committed.bundle.slot_weights, 0.0)
    for node, weight in request.weights.items():
        slot = cluster.slots.find(node)
        if slot.name not in weights:
            raise InvalidArguments(
                f"weights name {slot.name}, a {slot.spec.role} that does not serve predictions",
                hint="serving nodes are " + ", ".join(list(weights)[:8]),
            )
        weights[slot.name] = weight
    if not max(weights.values()) > 0:
        raise InvalidArguments(
            "weights are all 0", hint="give at least one serving node a weight above 0"
        )
    return Weighting(_shares(weights), BY_CALLER)


def learnt_weights(cluster: LiveCluster, committed: CommittedVersion) -> Weighting:
    """The weights of a version, moved by the outcomes of its own predictions (`kernels.hedge`)."""
    bundle = committed.bundle
    seen = cluster.state.feedback.of_version(committed.version)
    if not seen.rounds or not bundle.slot_weights:
        return Weighting(bundle.slot_weights, bundle.weights_source)
    learnt = hedge_weights(seen, bundle.slot_weights)
    if max(abs(learnt[slot] - bundle.slot_weights[slot]) for slot in learnt) < 1e-12:
        return Weighting(bundle.slot_weights, bundle.weights_source, seen.rounds)
    return Weighting(learnt, BY_OUTCOMES, seen.rounds)


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights that sum to 1, whatever their size: those of 1e308 have no finite sum of their own."""
    most = max(weights.values())
    relative = {slot: weight / most for slot, weight in weights.items()}
    total = sum(relative.values())
    return {slot: weight / total for slot, weight in relative.items()}
