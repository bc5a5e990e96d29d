"""The aggregation policies by name."""

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.coordinate_median import CoordinateMedian
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy

AVERAGING: AggregationPolicy = FederatedAveraging()

POLICIES: tuple[AggregationPolicy, ...] = (AVERAGING, CoordinateMedian())


def find_policy(name: str) -> AggregationPolicy | None:
    """The policy with this name or alias, without regard to case and dashes; None if there is none."""
    wanted = name.strip().lower().replace("-", "_")
    for policy in POLICIES:
        if wanted in (policy.name, *policy.aliases):
            return policy
    return None


def spellings() -> str:
    """All policies with their aliases, for errors."""
    return ", ".join(
        f"{policy.name!r} ({', '.join(policy.aliases)})" if policy.aliases else repr(policy.name)
        for policy in POLICIES
    )
