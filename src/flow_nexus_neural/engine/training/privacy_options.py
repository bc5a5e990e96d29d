"""The argument `privacy` of a training: what it excludes, and what it becomes."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.federated_methods import SCAFFOLD, FederatedMethod
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.coordination.privacy.accountant import Sums, epsilon_of, noise_multiplier_for
from flow_nexus_neural.coordination.privacy.settings import (
    AskedPrivacy,
    PrivacySettings,
    check_clients,
    read_privacy,
)
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent
from flow_nexus_neural.coordination.rounds import sample_clients
from flow_nexus_neural.data.schema import Description
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import TrainingConfig
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.storage.privacy_rows import StoredSpending
from flow_nexus_neural.engine.training.aggregation_rule import find_rule
from flow_nexus_neural.engine.training.strategies import ClientHistory
from flow_nexus_neural.errors import (
    InvalidArguments,
    PrivacyBudgetSpent,
    UnsupportedCombination,
)
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.vocabulary import Consensus


def check_privacy(request: TrainRequest, consensus: Consensus) -> None:
    """Refuse what cannot be private, before any data is read.

    Raises:
        InvalidArguments: A setting is wrong, or contradicts another argument.
        UnsupportedCombination: The rule needs single updates as they are.
    """
    if request.privacy is None:
        return
    read_privacy(request.privacy)
    if not request.federated:
        raise InvalidArguments(
            "privacy belongs to federated training, and federated is false",
            hint="pass federated: true, or leave privacy out",
        )
    for name, given in (("folds", request.folds), ("refit", request.refit)):
        if given:
            raise InvalidArguments(
                f"{name} trains on the same rows once more, which privacy does not count",
                hint=f"leave {name} out, or privacy",
            )
    policy = find_rule(request.aggregation_method, consensus)
    if not goes_on_from_a_mean(policy):
        raise UnsupportedCombination(
            f"privacy adds noise to a sum of clipped updates, and {policy.name} works on single ones",
            hint="set aggregation_method to federated_averaging, fedprox, fedavgm, fedadam, fedyogi or"
            " fedadagrad, in a cluster whose consensus is not gossip; or leave privacy out",
        )


def goes_on_from_a_mean(policy: AggregationPolicy) -> bool:
    """Whether a policy needs nothing of the updates but their mean."""
    return isinstance(policy, FederatedAveraging | FederatedMethod) and policy is not SCAFFOLD


def effective_privacy(
    request: TrainRequest,
    config: TrainingConfig,
    groups: Mapping[str, str],
    networks: Mapping[str, NetworkGroup],
    run: tuple[int, int],
) -> PrivacySettings:
    """The settings in force, with the noise that `target_epsilon` needs. Blocking.

    Args:
        request: As checked by `check_privacy`, with privacy.
        config: Of the training.
        groups: Capability group of each worker with rows.
        networks: To be trained.
        run: Root of every seed of the training.

    Raises:
        InvalidArguments: Too few clients for it.
        UnsupportedCombination: A network has running statistics.
        NotAvailable: The extra `privacy` is not installed.
    """
    asked = read_privacy(request.privacy or {})
    per_round = min(config.clients_per_round or 1, len(groups))
    smallest = min(sum(slot in groups for slot in n.slots) for n in networks.values())
    check_clients(asked, min(per_round, smallest))
    for network in networks.values():
        refuse_running_statistics(network, "privacy")
    return PrivacySettings(
        **asked.model_dump(exclude={"noise_multiplier"}),
        noise_multiplier=_noise_multiplier(asked, most_sums(config, groups, run)),
    )


def _noise_multiplier(asked: AskedPrivacy, most: int) -> float:
    if asked.noise_multiplier is not None or asked.target_epsilon is None:
        return asked.noise_multiplier or 0.0
    return noise_multiplier_for(asked.target_epsilon, asked.delta, most)


def refuse_running_statistics(network: NetworkGroup, wish: str) -> None:
    """Refuse a network whose means over rows would be shared. Raises `UnsupportedCombination`."""
    if network.plan.n_buffers:
        raise UnsupportedCombination(
            f"the network of {', '.join(network.slots[:8])} keeps running statistics"
            " (batch_normalization), which are means over rows that nothing hides",
            hint=f"deploy workers with layer_normalization instead, or leave {wish} out",
        )


def most_sums(config: TrainingConfig, groups: Mapping[str, str], run: tuple[int, int]) -> int:
    """In how many rounds the client is asked that is asked most often, if no worker fails."""
    wanted = config.clients_per_round or 1
    if wanted >= len(groups):
        return config.rounds
    history, times = ClientHistory(), dict.fromkeys(groups, 0)
    for number in range(1, config.rounds + 1):
        clients = [history.client(slot, group) for slot, group in groups.items()]
        chosen = sample_clients(clients, wanted, seed64(run, number, "", 0, "sample"))
        history.asked(chosen, number)
        for slot in chosen:
            times[slot] += 1
    return max(times.values())


def identity_of(data: Description) -> tuple[str, ...]:
    """What identifies a data set in the ledger of budgets: its content, and the place of a file."""
    content = f"sha256:{data.sha256}"
    return (content,) if data.kind == "inline" else (content, f"{data.kind}:{data.source}")


def spent_before(
    settings: PrivacySettings, data: Sequence[str], stored: Sequence[StoredSpending]
) -> PrivacySpent:
    """What a training has spent that has not begun: what others have on its data set. Blocking.

    Raises:
        PrivacyBudgetSpent: The first round would exceed `max_epsilon`.
    """
    earlier = [one.sums for one in stored if one.concerns(data)]
    spent = PrivacySpent(data=tuple(data), epsilon_of_data=epsilon_of(earlier, settings.delta))
    why = spent.charged([""], settings, earlier).exceeds(settings)
    if why is not None:
        raise PrivacyBudgetSpent(
            f"the privacy budget of this data set does not allow one round: {why}",
            hint="raise max_epsilon, or noise_multiplier, or train on other rows",
        )
    return spent


def _newest_in(cluster: LiveCluster) -> float:
    """Ordinal of the training that made the weights in force; infinity where it is not known.

    No later one is in them: after a roll back the trainings since then are not.
    """
    committed = cluster.committed
    if committed is None or not committed.kept:
        return math.inf
    digest = committed.kept[-1].digest
    makers = {one.training_id for one in committed.kept if one.digest == digest}
    ordinals = [t.ordinal for t in cluster.state.trainings if t.training_id in makers]
    return min(ordinals, default=math.inf)


def foreseen(
    settings: PrivacySettings,
    config: TrainingConfig,
    groups: Mapping[str, str],
    networks: Mapping[str, NetworkGroup],
    run: tuple[int, int],
    earlier: Sequence[Sums],
) -> list[str]:
    """What is known before the first round: a budget that ends it early, noise that hides all. Blocking.

    The noise of R sums has an expected norm of about sqrt(R d) noise_multiplier clip_norm / clients in the
    mean, d parameters; R clipped updates can change the model by R clip_norm at most.

    Args:
        settings: In force.
        config: As of `effective_privacy`, and so are groups, networks and run.
        groups: See there.
        networks: See there.
        run: See there.
        earlier: What other trainings have spent on the same data set.
    """
    planned = most_sums(config, groups, run)

    def exceeds(times: int) -> bool:
        spent = PrivacySpent(sums={"": times - 1}).charged([""], settings, earlier)
        return spent.exceeds(settings) is not None

    allowed, told = bisect_left(range(1, planned + 1), x=True, key=exceeds), []
    if allowed < planned:
        of = "rounds" if planned == config.rounds else "rounds in which one worker is asked"
        told.append(
            f"the privacy budget allows {allowed} of {planned} {of}; the training ends then"
        )
    per_round = min(config.clients_per_round or 1, len(groups))
    ratio = max(
        settings.noise_multiplier
        * math.sqrt(network.plan.n_params / max(1, allowed))
        / min(per_round, sum(slot in groups for slot in network.slots))
        for network in networks.values()
    )
    if ratio > 1:
        told.append(
            f"the noise of all rounds is expected to be {ratio:.3g} times the largest change that their"
            " clipped updates can make: little can be learnt. More workers, more rounds, a smaller network or"
            " a lower noise_multiplier help"
        )
    return told


def check_lineage(cluster: LiveCluster, data: Sequence[str], *, continues: bool) -> list[str]:
    """Warnings of a private training about the weights that it starts from.

    Raises:
        UnsupportedCombination: They were trained on the same data without privacy, and may tell all of it.
    """
    newest = _newest_in(cluster)
    bare = [
        one
        for one in cluster.state.trainings
        if one.config.privacy is None and one.advance.rounds_done and one.ordinal <= newest
    ]
    if not continues or not bare:
        return []
    for training in bare:
        seen = training.advance.privacy.data
        if not seen or not set(seen).isdisjoint(data):
            raise UnsupportedCombination(
                f"this training would go on from weights that training {training.training_id} made without"
                " privacy, perhaps from the same rows",
                hint="create another cluster with neural_cluster_init for private training",
            )
    warning = (
        "this training starts from weights that were trained on other data without privacy: the rows of those"
        " data are not protected"
    )
    return [warning]
