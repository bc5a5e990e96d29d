"""Clients of the data that train by themselves: what that excludes, and when it is meant."""

from collections.abc import Mapping, Sequence

from flow_nexus_neural.coordination.consensus.federated_methods import FederatedMethod
from flow_nexus_neural.coordination.consensus.gossip import GossipPolicy
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.coordination.privacy.settings import read_privacy
from flow_nexus_neural.data.partition import rows_of_clients
from flow_nexus_neural.data.prepare import PreparedData
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.training.aggregation_rule import find_rule
from flow_nexus_neural.engine.training.privacy_options import goes_on_from_a_mean
from flow_nexus_neural.errors import InvalidArguments, UnsupportedCombination
from flow_nexus_neural.vocabulary import EACH_CLIENT, Consensus

OTHER_PARTITION = (
    "choose partition client, in which workers have whole clients and train once a round"
)


def check_each_client(request: TrainRequest, partition: str, consensus: Consensus) -> None:
    """Refuse what clients in turns cannot do.

    Args:
        request: Of the training.
        partition: As it was asked for, or is in force; nothing is refused under another one.
        consensus: Of the cluster.

    Raises:
        UnsupportedCombination: A rule of single updates, control variates, secure aggregation, or privacy of
            single rows.
    """
    if partition.strip().lower() != EACH_CLIENT:
        return
    policy = find_rule(request.aggregation_method, consensus)
    if not goes_on_from_a_mean(policy):
        raise UnsupportedCombination(
            f"partition each_client goes on from a mean of clients, and {policy.name} {_needs(policy)}",
            hint="set aggregation_method to federated_averaging, fedprox, fedavgm, fedadam, fedyogi or"
            f" fedadagrad, in a cluster whose consensus is not gossip; or {OTHER_PARTITION}",
        )
    if request.secure_aggregation:
        raise UnsupportedCombination(
            "secure_aggregation hides the sum of each worker's own rows, and under partition each_client the"
            " engine counts the update of every client in by itself",
            hint=f"leave secure_aggregation out; or {OTHER_PARTITION}",
        )
    if request.privacy is not None and read_privacy(request.privacy).mode == "record_dp":
        raise UnsupportedCombination(
            "privacy mode record_dp draws the rows of each step from a worker's own shard, and under"
            " partition each_client workers have none",
            hint=f"use mode central_dp, which then protects each client; or {OTHER_PARTITION}",
        )


def client_sizes(data: PreparedData) -> dict[str, int]:
    """Training rows of every client of the data that has some.

    Raises:
        InvalidArguments: The data have no clients.
    """
    rows = rows_of_clients(data.parts["train"], data.clients)
    if not rows:
        raise InvalidArguments(
            "partition each_client needs data with clients, and no training row has one",
            hint='give one file per client, {"clients": {...}}, or a LEAF file (a column of one table names'
            " no clients); or choose another partition",
        )
    return {name: int(own.size) for name, own in rows.items()}


def check_one_network(networks: Mapping[str, NetworkGroup]) -> None:
    """Refuse workers with different networks: a client in turns cannot be of all of them.

    Raises:
        UnsupportedCombination: There are several.
    """
    if len(networks) > 1:
        raise UnsupportedCombination(
            f"partition each_client needs workers with equal networks, and there are {len(networks)} kinds",
            hint=f"deploy workers with the same layers; or {OTHER_PARTITION}",
        )


def merged_warning(clients: Sequence[str], workers: int, partition: str) -> list[str]:
    """That several clients of the data train as one, where that is so."""
    if partition != "client" or len(clients) <= workers:
        return []
    warning = (
        f"the {len(clients)} clients of the data are dealt to {workers} workers, each of which trains on the"
        " rows of its clients together; partition each_client trains every client by itself"
    )
    return [warning]


def _needs(policy: AggregationPolicy) -> str:
    """What a rule does that a mean of clients cannot give it."""
    if isinstance(policy, GossipPolicy):
        return "lets each worker keep weights of its own, while here clients share the workers"
    if isinstance(policy, FederatedMethod):
        return "keeps an array as large as the network for each client"
    return "counts votes of workers, while here a lying one makes the updates of all clients that it trains"
