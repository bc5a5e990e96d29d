"""The argument `secure_aggregation` of a training: what it excludes."""

from collections.abc import Collection, Iterable

from flow_nexus_neural.coordination.privacy.settings import read_privacy
from flow_nexus_neural.coordination.secure_sum import LEAST_CLIENTS
from flow_nexus_neural.engine.reports import TrainingConfig
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.training.aggregation_rule import find_rule
from flow_nexus_neural.engine.training.privacy_options import (
    goes_on_from_a_mean,
    refuse_running_statistics,
)
from flow_nexus_neural.errors import InvalidArguments, UnsupportedCombination
from flow_nexus_neural.vocabulary import Consensus

RAFT = "create a cluster with consensus raft, or leave secure_aggregation out"


def check_secure(request: TrainRequest, consensus: Consensus) -> None:
    """Refuse what needs single updates, before any data is read.

    Raises:
        InvalidArguments: The training is not federated.
        UnsupportedCombination: Proofs, robust rules, control variates, gossip, or adaptive clipping.
    """
    if not request.secure_aggregation:
        return
    if not request.federated:
        raise InvalidArguments(
            "secure_aggregation belongs to federated training, and federated is false",
            hint="pass federated: true, or leave secure_aggregation out",
        )
    if consensus == "proof-of-learning":
        raise UnsupportedCombination(
            "secure_aggregation hides single updates, and consensus proof-of-learning proves each of them",
            hint=RAFT,
        )
    policy = find_rule(request.aggregation_method, consensus)
    if not goes_on_from_a_mean(policy):
        raise UnsupportedCombination(
            f"secure_aggregation hides single updates, and {policy.name} works on single ones",
            hint=f"set aggregation_method to federated_averaging, or {RAFT}",
        )
    if request.privacy is not None and read_privacy(request.privacy).adaptive:
        raise UnsupportedCombination(
            "adaptive clipping counts how many updates are short, and secure_aggregation hides each of them",
            hint="leave adaptive out of privacy and give clip_norm, or leave secure_aggregation out",
        )


def check_secure_networks(
    config: TrainingConfig, networks: Iterable[NetworkGroup], eligible: Collection[str]
) -> None:
    """Refuse too few clients, and networks with running statistics.

    Args:
        config: Of the training.
        networks: To be trained.
        eligible: Workers with rows.

    Raises:
        InvalidArguments: A round of some network has fewer than three clients.
        UnsupportedCombination: A network has running statistics.
    """
    if not config.secure_aggregation:
        return
    for network in networks:
        members = sum(slot in eligible for slot in network.slots)
        clients = min(members, config.clients_per_round or 1)
        if clients < LEAST_CLIENTS:
            raise InvalidArguments(
                f"secure_aggregation needs at least {LEAST_CLIENTS} workers with equal networks in each"
                f" round, and there is {clients}: of two, each knows the other's update from the sum",
                hint="deploy more workers with neural_node_deploy, or raise clients_per_round",
            )
        refuse_running_statistics(network, "secure_aggregation")
