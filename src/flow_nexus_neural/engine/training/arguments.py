"""From the arguments of a training to its effective configuration, or to one clear refusal."""

from dataclasses import dataclass

from flow_nexus_neural.coordination import training_defaults
from flow_nexus_neural.coordination.consensus.federated_methods import OPTIONS
from flow_nexus_neural.coordination.training_defaults import Scale
from flow_nexus_neural.coordination.training_strategy import Strategy
from flow_nexus_neural.engine.reports import TrainingConfig
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.training.aggregation_rule import (
    aggregation_rule,
    asks_all,
    find_rule,
)
from flow_nexus_neural.engine.training.client_options import check_each_client
from flow_nexus_neural.engine.training.decision import Decision, check_class_weight
from flow_nexus_neural.engine.training.federated_options import check_method, effective_options
from flow_nexus_neural.engine.training.privacy_options import check_privacy
from flow_nexus_neural.engine.training.secure_options import check_secure
from flow_nexus_neural.errors import InvalidArguments, NoWorkers
from flow_nexus_neural.vocabulary import EACH_CLIENT, Consensus, parse_partition

DEFAULT_CLIENTS = 5
LEAST_TO_SPARE = 3
"""Clients of which one may be missing; of two neither can be told to be the slow one."""
SYNCS_PER_EPOCH = 4
MIN_SYNC_STEPS = 16


def check_arguments(request: TrainRequest, consensus: Consensus = "proof-of-learning") -> None:
    """Refuse what can be refused before any data is read.

    Raises:
        InvalidArguments: Arguments contradict each other or name nothing.
        NotAvailable: A method that this version does not have.
    """
    if not request.federated:
        given = [
            name
            for name in (
                "rounds",
                "local_epochs",
                "clients_per_round",
                "min_nodes_per_round",
                *OPTIONS,
                *(() if consensus == "gossip" else ("aggregation_method",)),
            )
            if getattr(request, name) is not None
        ]
        if given:
            raise InvalidArguments(
                f"{', '.join(given)} belongs to federated training, and federated is false",
                hint="pass federated: true, or leave it out",
            )
    check_privacy(request, consensus)
    check_secure(request, consensus)
    check_method(find_rule(request.aggregation_method, consensus), request, consensus)
    _check_partition(request)
    if request.partition is not None:
        check_each_client(request, request.partition, consensus)
    check_class_weight(request)
    wanted, fewest = request.clients_per_round, request.min_nodes_per_round
    if wanted is not None and fewest is not None and fewest > wanted:
        raise InvalidArguments(
            f"min_nodes_per_round={fewest} is above clients_per_round={wanted}",
            hint="choose at most as many as take part in a round",
        )


@dataclass(frozen=True)
class Circumstances:
    """What the cluster and the data decide about the arguments of a training.

    Attributes:
        eligible: Healthy workers that have rows to train on, or clients of the data that train by themselves.
        smallest_group: Those of the smallest group of equal networks; None if there is one group.
        consensus: Of the cluster.
        trusted: Whether rules can be selected by rows that no liar chose.
        partition: As resolved for the data.
        seed: Drawn or given.
        scale: For what was not given.
        strategy: How the work is divided.
        refit: As resolved for the data.
        decision: What classes count and how they are decided.
    """

    eligible: int
    partition: str
    seed: int
    scale: Scale
    strategy: Strategy
    refit: bool
    decision: Decision
    smallest_group: int | None = None
    consensus: Consensus = "proof-of-learning"
    trusted: bool = False


def effective_config(request: TrainRequest, found: Circumstances) -> TrainingConfig:
    """Every argument as it will be used.

    Args:
        request: As checked by `check_arguments`.
        found: What it meets.

    Raises:
        InvalidArguments: More clients per round than eligible workers, or fewer than the rule needs.
        NoWorkers: Fewer eligible workers than a round needs.
    """
    clients, fewest = _clients(request, found)
    batch_size = request.batch_size or training_defaults.batch_size(found.scale)
    given_rounds = request.rounds or request.epochs
    rounds = given_rounds or training_defaults.epochs(
        found.scale, batch_size, passes=request.local_epochs or 1
    )
    voters = min(clients, found.smallest_group or found.eligible)
    rule = aggregation_rule(request, found.consensus, voters, trusted=found.trusted)
    return TrainingConfig(
        epochs=rounds,
        batch_size=batch_size,
        learning_rate=request.learning_rate or training_defaults.learning_rate(found.scale),
        optimizer=request.optimizer,
        federated=request.federated,
        rounds=rounds,
        local_epochs=request.local_epochs or 1,
        clients_per_round=clients if request.federated else None,
        min_nodes_per_round=fewest if request.federated else None,
        aggregation_method=rule.name,
        byzantine_f=rule.f,
        **effective_options(find_rule(request.aggregation_method, found.consensus), request),
        partition=found.partition,
        seed=found.seed,
        strategy=found.strategy.name,
        strategy_reason=found.strategy.reason,
        sync_every_steps=sync_steps(found.scale.shard_rows, batch_size)
        if found.strategy.name == "local_sgd"
        else None,
        patience=_patience(request, found.scale, batch_size),
        chosen=_chosen(request, robust=rule.robust),
        secure_aggregation=request.secure_aggregation,
        refit=found.refit,
        class_weight=found.decision.class_weight,
        threshold=found.decision.threshold,
        positive_class=found.decision.positive_class,
    )


def _clients(request: TrainRequest, found: Circumstances) -> tuple[int, int]:
    """Workers that take part in a round, and the fewest that complete it."""
    everybody = asks_all(request, found.consensus)
    all_usual = everybody or found.partition == EACH_CLIENT
    usual = found.eligible if all_usual else min(DEFAULT_CLIENTS, found.eligible)
    clients = request.clients_per_round or usual
    if clients > found.eligible:
        raise InvalidArguments(
            f"clients_per_round={clients} is above the {found.eligible} {_kind(found)} that can train",
            hint="lower it, or leave it out for all of them"
            if found.partition == EACH_CLIENT
            else "lower it, or deploy more workers with neural_node_deploy; partition each_client trains"
            " every client of the data by itself, however few workers there are",
        )
    fewest = request.min_nodes_per_round or _usual_minimum(clients, asks_all=everybody)
    if fewest > clients:
        raise NoWorkers(
            f"a round needs {fewest} {_kind(found)} and {clients} take part",
            hint="lower min_nodes_per_round"
            if found.partition == EACH_CLIENT
            else "deploy more workers with neural_node_deploy or lower min_nodes_per_round",
        )
    return clients, fewest


def _kind(found: Circumstances) -> str:
    return "clients of the data" if found.partition == EACH_CLIENT else "workers"


def _usual_minimum(clients: int, *, asks_all: bool) -> int:
    """Four fifths of the clients, rounded up, and from 3 clients on one less than all.

    Of 3 or 4 the four fifths are all of them: one slow client would then hold up every round ten times as
    long, and fail it. A rule that asks all may need each of them.
    """
    four_fifths = max(1, -(-4 * clients // 5))
    return (
        min(four_fifths, clients - 1) if clients >= LEAST_TO_SPARE and not asks_all else four_fifths
    )


def _chosen(request: TrainRequest, *, robust: bool) -> list[str]:
    """Names of what the data decide; who gives the rounds is not interrupted unless a patience is given."""
    of_data = ["batch_size", "learning_rate", *(("byzantine_f",) if robust else ())]
    if request.rounds is None and request.epochs is None:
        of_data = ["epochs", *of_data, "patience"]
    return [name for name in of_data if getattr(request, name) is None]


def _patience(request: TrainRequest, scale: Scale, batch_size: int) -> int:
    """The given one where there are validation rows to count by; else none if the rounds were given."""
    if not scale.has_validation or (
        request.patience is None and (request.rounds or request.epochs)
    ):
        return 0
    if request.patience is not None:
        return request.patience
    return training_defaults.patience(scale, batch_size, passes=request.local_epochs or 1)


def sync_steps(largest_shard: int, batch_size: int) -> int:
    """Optimiser steps between two averagings of data-parallel workers: at most four times an epoch.

    Local SGD with periodic averaging (Stich, ICLR 2019). A fixed rule, not a measured one, so that two runs
    with one seed give the same bytes.
    """
    steps_per_epoch = -(-largest_shard // batch_size)
    return max(MIN_SYNC_STEPS, -(-steps_per_epoch // SYNCS_PER_EPOCH))


def resolve_partition(request: TrainRequest, *, clients: int, workers: int) -> str:
    """The partition in force: the asked one, else by clients, capability or at random.

    Who asks for more clients a round than there are workers means the clients of the data.
    """
    if request.partition is not None:
        return request.partition.strip().lower()
    if not request.federated:
        return "iid"
    if clients and (request.clients_per_round or 0) > workers:
        return EACH_CLIENT
    return "client" if clients else "capability"


def _check_partition(request: TrainRequest) -> None:
    if request.partition is None:
        return
    kind = parse_partition(request.partition).kind
    if not request.federated and kind != "iid":
        raise InvalidArguments(
            f"partition {request.partition!r} belongs to federated training, and federated is false",
            hint="pass federated: true, or leave partition out",
        )
