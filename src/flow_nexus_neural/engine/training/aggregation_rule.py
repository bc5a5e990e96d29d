"""Which rule combines the updates of a training, and how many lying workers it tolerates."""

from dataclasses import dataclass

from flow_nexus_neural.coordination.consensus.gossip import GossipPolicy
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.coordination.consensus.registry import (
    AUTO,
    VALIDATED,
    policy_for,
    spellings,
)
from flow_nexus_neural.coordination.consensus.tolerance import RobustPolicy
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.errors import InvalidArguments, NotAvailable, UnsupportedCombination
from flow_nexus_neural.vocabulary import BYZANTINE_F, Consensus

LATER_METHODS = {
    "bucketing": "stands before a robust rule's name, as in bucketing+caf",
}


@dataclass(frozen=True)
class AggregationRule:
    """The rule of a training.

    Attributes:
        name: Of the policy.
        f: Lying workers that every round tolerates.
        exact: Whether the caller gave f.
        robust: Whether it is a rule for rounds in which workers may lie.
    """

    name: str
    f: int
    exact: bool
    robust: bool


def find_rule(
    method: str | None, consensus: Consensus, *, trusted: bool = False
) -> AggregationPolicy:
    """The policy of a name or alias, of the cluster's consensus where none is named.

    Args:
        method: As asked for.
        consensus: Of the cluster.
        trusted: Whether rules can be selected by trusted rows.

    Raises:
        NotAvailable: A method that this version does not have.
        UnsupportedCombination: A method that contradicts the consensus.
        InvalidArguments: No method at all.
    """
    policy = policy_for(method, consensus, trusted=trusted)
    if policy is not None:
        _refuse_contradiction(policy, consensus)
        return policy
    why = LATER_METHODS.get(str(method).strip().lower().replace("-", "_"))
    if why is not None:
        raise NotAvailable(
            f"aggregation_method {method!r} {why}", hint=f"choose from {spellings(consensus)}"
        )
    raise InvalidArguments(
        f"aggregation_method {method!r} is unknown", hint=f"choose from {spellings(consensus)}"
    )


def _refuse_contradiction(policy: AggregationPolicy, consensus: Consensus) -> None:
    if consensus == "gossip" and not isinstance(policy, GossipPolicy):
        other = "byzantine" if isinstance(policy, RobustPolicy) else "raft or proof-of-learning"
        raise UnsupportedCombination(
            f"aggregation_method {policy.name!r} is about one average of all workers, and under consensus"
            " gossip each worker averages with its neighbours only",
            hint=f"leave aggregation_method out, or choose consensus {other} with neural_cluster_init",
        )
    if consensus != "gossip" and isinstance(policy, GossipPolicy):
        raise UnsupportedCombination(
            f"aggregation_method {policy.name!r} belongs to consensus gossip, and this cluster has"
            f" {consensus}",
            hint="leave aggregation_method out, or choose consensus gossip with neural_cluster_init",
        )


def asks_all(request: TrainRequest, consensus: Consensus) -> bool:
    """Whether every worker trains in each round unless fewer are asked for.

    A sample would be outvoted by fewer liars than all are; and under gossip every worker has its own state.
    """
    policy = find_rule(request.aggregation_method, consensus)
    return isinstance(policy, RobustPolicy | GossipPolicy)


def asks_everybody(request: TrainRequest, consensus: Consensus) -> bool:
    """Whether workers that come later take part in each round as well, since no number was named."""
    return request.clients_per_round is None and asks_all(request, consensus)


def aggregation_rule(
    request: TrainRequest, consensus: Consensus, n: int, *, trusted: bool = False
) -> AggregationRule:
    """The rule in force and its f.

    Args:
        request: As checked by `arguments.check_arguments`.
        consensus: Of the cluster.
        n: Updates that a round of the smallest group of equal networks has.
        trusted: Whether rules can be selected by trusted rows.

    Raises:
        InvalidArguments: The rule cannot tolerate so many, or nobody at all among n.
    """
    wanted = request.byzantine_f
    policy = find_rule(request.aggregation_method, consensus, trusted=trusted)
    if not isinstance(policy, RobustPolicy):
        if wanted:
            robust = "set aggregation_method to auto or another robust rule"
            if isinstance(policy, GossipPolicy):
                robust = "choose consensus byzantine with neural_cluster_init"
            raise InvalidArguments(
                f"byzantine_f={wanted}: {policy.name} tolerates no lying worker",
                hint=f"{robust}, or leave byzantine_f out",
            )
        return AggregationRule(policy.name, 0, wanted is not None, robust=False)
    f = policy.usual_f(n) if wanted is None else wanted
    refusal = policy.refusal(n, f)
    if refusal is not None:
        most = max((k for k in range(f) if policy.refusal(n, k) is None), default=0)
        raise InvalidArguments(
            f"{policy.name} with byzantine_f={f}: {refusal}",
            hint=f"set byzantine_f to {most} at most, deploy more workers with neural_node_deploy, or let all"
            " train in each round (clients_per_round)",
        )
    if f == 0 and wanted is None and policy.name not in (AUTO.name, VALIDATED.name):
        first = next(k for k in range(1, 4 * BYZANTINE_F.high) if policy.usual_f(k))
        raise InvalidArguments(
            f"{policy.name} tolerates a lying worker from {first} workers on, and a round has {n}",
            hint="deploy more workers with neural_node_deploy, choose another aggregation_method, or set"
            " byzantine_f to 0 to tolerate none",
        )
    return AggregationRule(policy.name, f, wanted is not None, robust=True)
