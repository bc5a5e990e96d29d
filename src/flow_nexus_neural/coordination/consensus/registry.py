"""The aggregation policies by name."""

from collections.abc import Mapping
from types import MappingProxyType

from flow_nexus_neural.coordination.consensus.auto import Auto
from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.coordinate_median import CoordinateMedian
from flow_nexus_neural.coordination.consensus.coordinate_rules import (
    BULYAN,
    MEAN_AROUND_MEDIAN,
    TRIMMED_MEAN,
)
from flow_nexus_neural.coordination.consensus.federated_methods import METHODS, FederatedMethod
from flow_nexus_neural.coordination.consensus.gossip import GOSSIP, PUSH_SUM
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.coordination.consensus.robust_rule import FRONTS, RobustRule
from flow_nexus_neural.coordination.consensus.tolerance import RobustPolicy, Tolerance
from flow_nexus_neural.coordination.consensus.trusted_update import TrustedUpdate
from flow_nexus_neural.coordination.consensus.validated_selection import ValidatedSelection
from flow_nexus_neural.coordination.consensus.weighing_rules import (
    CENTRED_CLIPPING,
    COVARIANCE_FILTER,
    GEOMETRIC_MEDIAN,
    KRUM,
    LEAST_DIAMETER,
    LEAST_VARIANCE,
    MULTI_KRUM,
    NEAR_KRUM,
)
from flow_nexus_neural.vocabulary import Consensus

AVERAGING: AggregationPolicy = FederatedAveraging()
AUTO: AggregationPolicy = Auto()
VALIDATED: AggregationPolicy = ValidatedSelection()

POLICIES: tuple[AggregationPolicy, ...] = (
    AVERAGING,
    CoordinateMedian(),
    AUTO,
    VALIDATED,
    TrustedUpdate(),
    COVARIANCE_FILTER,
    LEAST_VARIANCE,
    LEAST_DIAMETER,
    GEOMETRIC_MEDIAN,
    KRUM,
    MULTI_KRUM,
    NEAR_KRUM,
    BULYAN,
    TRIMMED_MEAN,
    MEAN_AROUND_MEDIAN,
    CENTRED_CLIPPING,
    *METHODS,
)


MIXING: tuple[AggregationPolicy, ...] = (GOSSIP, PUSH_SUM)
"""Those of consensus gossip, under which there are no others."""


def find_policy(name: str) -> AggregationPolicy | None:
    """The policy with this name or alias, without regard to case, spaces and dashes; None if there is none.

    `nnm+` (nearest-neighbour mixing), `bucketing+` and `arc+` (adaptive clipping) may stand before a robust
    rule's name.
    """
    *fronts, wanted = (
        part.strip().replace("-", "_").replace(" ", "_") for part in name.lower().split("+")
    )
    for policy in (*POLICIES, *MIXING):
        if wanted in (policy.name, *policy.aliases):
            return _behind(fronts, policy)
    return None


def needs_trusted_rows(name: str) -> bool:
    """Whether this policy cannot do what its name says without rows that no worker has."""
    return isinstance(find_policy(name), TrustedUpdate | ValidatedSelection)


def policy_for(
    name: str | None, consensus: Consensus, *, trusted: bool = False
) -> AggregationPolicy | None:
    """The policy of a training: the named one, else that of the cluster's consensus.

    Under gossip the plain mean is what neighbours mix to.

    Args:
        name: As asked for; None for nothing.
        consensus: Of the cluster.
        trusted: Whether a validator and rows that no liar chose are there to select rules by.
    """
    if name is None:
        usual = VALIDATED if trusted else AUTO
        return {"byzantine": usual, "gossip": GOSSIP}.get(consensus, AVERAGING)
    found = find_policy(name)
    return GOSSIP if found is AVERAGING and consensus == "gossip" else found


def policy_in_force(
    name: str, f: int, *, exact: bool, options: Mapping[str, float] = MappingProxyType({})
) -> AggregationPolicy:
    """The policy of a training that has begun; the average for a name that is known no more.

    Args:
        name: From the training's configuration.
        f: Lying workers that were promised to be tolerated.
        exact: Whether the caller gave f.
        options: Of a federated method.
    """
    policy = find_policy(name) or AVERAGING
    if isinstance(policy, FederatedMethod):
        return policy.with_options(options)
    return policy.tolerating(Tolerance(f, exact)) if isinstance(policy, RobustPolicy) else policy


def spellings(consensus: Consensus) -> str:
    """All policies of a consensus with their aliases, for errors."""
    of_mode = MIXING if consensus == "gossip" else POLICIES
    each = ", ".join(
        f"{policy.name!r} ({', '.join(policy.aliases)})" if policy.aliases else repr(policy.name)
        for policy in of_mode
    )
    if consensus == "gossip":
        return each
    fronts = (
        "'nnm+', 'bucketing+' or 'arc+' before a robust rule puts mixing, means of two or clipping"
    )
    return f"{each}; {fronts} before it"


def _behind(fronts: list[str], policy: AggregationPolicy) -> AggregationPolicy | None:
    """The policy with these before it, in alphabetical order; None if it takes none or they are unknown."""
    if not fronts:
        return policy
    if not isinstance(policy, RobustRule) or fronts != sorted(set(fronts)):
        return None
    if not set(fronts) <= set(FRONTS):
        return None
    for front in reversed(fronts):
        policy = policy.behind(front)
    return policy
