"""The aggregation policies by name."""

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.coordinate_median import CoordinateMedian
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy

AVERAGING: AggregationPolicy = FederatedAveraging()

POLICIES: tuple[AggregationPolicy, ...] = (AVERAGING, CoordinateMedian())


def find_policy(name: str) -> AggregationPolicy | None:
    """The policy of this name or alias, in any case and with either dashes or underscores; None for none."""
    wanted = name.strip().lower().replace("-", "_")
    for policy in POLICIES:
        if wanted in (policy.name, *policy.aliases):
            return policy
    return None


def spellings() -> str:
    """All policies with their aliases, for an error text."""
    return ", ".join(
        f"{policy.name!r} ({', '.join(policy.aliases)})" if policy.aliases else repr(policy.name)
        for policy in POLICIES
    )
