"""The argument `privacy` of a training: what it excludes, and what it becomes."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.federated_methods import SCAFFOLD, FederatedMethod
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.coordination.privacy.accountant import (
    Sums,
    epsilon_of,
    noise_multiplier_for,
    seen_by,
)
from flow_nexus_neural.coordination.privacy.lineage import UNKNOWN, ModelPrivacy
from flow_nexus_neural.coordination.privacy.settings import (
    AskedPrivacy,
    Mode,
    PrivacySettings,
    check_clients,
    check_rows,
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
    asked = read_privacy(request.privacy)
    if asked.mode == "central_dp" and not request.federated:
        raise InvalidArguments(
            "privacy: mode central_dp belongs to federated training, and federated is false",
            hint="pass federated: true, or use mode record_dp, or leave privacy out",
        )
    for name, given in (("folds", request.folds), ("refit", request.refit)):
        if given:
            raise InvalidArguments(
                f"{name} trains on the same rows once more, which privacy does not count",
                hint=f"leave {name} out, or privacy",
            )
    policy = find_rule(request.aggregation_method, consensus)
    if asked.mode == "central_dp" and not goes_on_from_a_mean(policy):
        raise UnsupportedCombination(
            f"privacy adds noise to a sum of clipped updates, and {policy.name} works on single ones",
            hint="set aggregation_method to federated_averaging, fedprox, fedavgm, fedadam, fedyogi or"
            " fedadagrad, in a cluster whose consensus is not gossip; or use mode record_dp, or no privacy",
        )


def goes_on_from_a_mean(policy: AggregationPolicy) -> bool:
    """Whether a policy needs nothing of the updates but their mean."""
    return isinstance(policy, FederatedAveraging | FederatedMethod) and policy is not SCAFFOLD


@dataclass(frozen=True)
class Planned:
    """What is known of a training before its privacy.

    Attributes:
        config: Without privacy.
        rows: Of each worker that has some.
        groups: Capability group of each worker with rows.
        networks: To be trained.
        run: Root of every seed of the training.
        of_data: Rows and groups are of clients of the data, each of which trains by itself.
    """

    config: TrainingConfig
    rows: Mapping[str, int]
    groups: Mapping[str, str]
    networks: Mapping[str, NetworkGroup]
    run: tuple[int, int]
    of_data: bool = False

    @property
    def clients(self) -> int:
        """Workers of a round."""
        all_of_them = len(self.groups)
        wanted = self.config.clients_per_round if self.config.federated else all_of_them
        return min(wanted or 1, all_of_them)

    def most_rounds(self) -> int:
        """In how many rounds the client is asked that is asked most often, if no worker fails."""
        if self.clients >= len(self.groups):
            return self.config.rounds
        history, times = ClientHistory(), dict.fromkeys(self.groups, 0)
        for number in range(1, self.config.rounds + 1):
            clients = [history.client(slot, group) for slot, group in self.groups.items()]
            seed = seed64(self.run, number, "", 0, "sample")
            chosen = sample_clients(clients, self.clients, seed)
            history.asked(chosen, number)
            for slot in chosen:
                times[slot] += 1
        return max(times.values())

    def members(self, network: NetworkGroup) -> int:
        """Workers with rows that train a network, or clients of the data."""
        if self.of_data:
            return len(self.groups)
        return sum(slot in self.groups for slot in network.slots)


@dataclass(frozen=True)
class PrivatePlan:
    """The privacy of a training that can start.

    Attributes:
        spent: By others on the same data.
        warnings: About a budget that ends it early, too much noise, and the weights that it starts from.
    """

    settings: PrivacySettings
    spent: PrivacySpent
    warnings: list[str]


async def plan_privacy(
    cluster: LiveCluster,
    request: TrainRequest,
    planned: Planned,
    data: tuple[str, ...],
    *,
    continues: bool,
) -> PrivatePlan:
    """What privacy becomes. Raises as the functions below.

    Args:
        cluster: Of the training.
        request: As checked by `check_privacy`, with privacy.
        planned: Without it.
        data: Identity of the data set.
        continues: Whether it starts from committed weights.
    """
    offload = cluster.context.offload
    settings = await offload(effective_privacy, request, planned)
    stored = await cluster.context.store.privacy_spending()
    earlier = [one.sums for one in stored if one.concerns(data)]
    spent = await offload(spent_before, settings, planned.config, data, stored)
    told = await offload(foreseen, settings, planned, earlier)
    return PrivatePlan(settings, spent, told + check_lineage(cluster, data, continues=continues))


def effective_privacy(request: TrainRequest, planned: Planned) -> PrivacySettings:
    """The settings in force, with the noise that `target_epsilon` needs. Blocking.

    Raises:
        InvalidArguments: Too few clients for it, or delta is too large.
        UnsupportedCombination: A network has running statistics.
        NotAvailable: The extra `privacy` is not installed.
    """
    asked = read_privacy(request.privacy or {})
    config, rate, steps = planned.config, 1.0, 1
    if asked.mode == "central_dp":
        smallest = min(planned.members(network) for network in planned.networks.values())
        check_clients(asked, min(planned.clients, smallest), of_data=planned.of_data)
    else:
        check_rows(asked, sum(planned.rows.values()))
        # One rate and one number of steps for all workers: equally many noised sums may have each row, and
        # what a worker with few rows sends is noisier by as much as its share of the average is smaller.
        largest = max(planned.rows.values())
        steps, rate = -(-largest // config.batch_size), min(1.0, config.batch_size / largest)
    for network in planned.networks.values():
        refuse_running_statistics(network, "privacy")
    most = planned.most_rounds() * _per_round(asked.mode, config, steps)
    return PrivacySettings(
        **asked.model_dump(exclude={"noise_multiplier"}),
        noise_multiplier=_noise_multiplier(asked, most, rate),
        sampling_rate=rate,
        steps=steps,
        of_data=planned.of_data,
    )


def steps_of_pass(config: TrainingConfig) -> int | None:
    """Noised steps of a pass over any shard; None where it is made in batches."""
    settings = config.privacy
    return settings.steps if settings is not None and settings.mode == "record_dp" else None


def _noise_multiplier(asked: AskedPrivacy, most: int, rate: float) -> float:
    if asked.noise_multiplier is not None or asked.target_epsilon is None:
        return asked.noise_multiplier or 0.0
    return noise_multiplier_for(asked.target_epsilon, asked.delta, most, rate)


def _per_round(mode: Mode, config: TrainingConfig, steps: int) -> int:
    """Noised sums of a client in a round for which it is asked."""
    return config.local_epochs * steps if mode == "record_dp" else 1


def refuse_running_statistics(network: NetworkGroup, wish: str) -> None:
    """Refuse a network with numbers beside its parameters. Raises `UnsupportedCombination`."""
    if network.plan.n_buffers:
        raise UnsupportedCombination(
            f"the network of {', '.join(network.slots[:8])} keeps numbers that no gradient moves: running"
            " statistics (batch_normalization), means over rows that nothing hides, or frozen layers",
            hint=f"deploy workers with layer_normalization and without frozen layers, or leave {wish} out",
        )


def identity_of(data: Description) -> tuple[str, ...]:
    """What identifies a data set in the ledger of budgets: its content, and the place of a file."""
    content = f"sha256:{data.sha256}"
    return (content,) if data.kind == "inline" else (content, f"{data.kind}:{data.source}")


def spent_before(
    settings: PrivacySettings,
    config: TrainingConfig,
    data: Sequence[str],
    stored: Sequence[StoredSpending],
) -> PrivacySpent:
    """What a training has spent that has not begun: what others have on its data set. Blocking.

    Raises:
        PrivacyBudgetSpent: The first round would exceed `max_epsilon`.
        UnsupportedCombination: What others have spent cannot be counted with this.
    """
    earlier = seen_by(settings.unit, [one.sums for one in stored if one.concerns(data)])
    spent = PrivacySpent(data=tuple(data), epsilon_of_data=epsilon_of(earlier, settings.delta))
    first = {"": _per_round(settings.mode, config, settings.steps)}
    why = spent.charged(first, settings, earlier).exceeds(settings)
    if why is not None:
        raise PrivacyBudgetSpent(
            f"the privacy budget of this data set does not allow one round: {why}",
            hint="raise max_epsilon, or noise_multiplier, or train on other rows",
        )
    return spent


OTHER_DATA = (
    "this training starts from weights that were trained on other data without privacy: the rows of those"
    " data are not protected"
)


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


def foreseen(settings: PrivacySettings, planned: Planned, earlier: Sequence[Sums]) -> list[str]:
    """What is known before the first round: a budget that ends it early, noise that hides all. Blocking.

    The noise of R sums has an expected norm of about sqrt(R d) noise_multiplier clip_norm / members in the
    mean, d parameters; R clipped vectors can change the model by R clip_norm at most. Members are the clients
    of a round, or the rows that a step has, over the root of the workers that draw noise side by side.

    Args:
        settings: In force.
        planned: As of `effective_privacy`.
        earlier: What other trainings have spent on the same data set.
    """
    rounds = planned.most_rounds()
    per_round = _per_round(settings.mode, planned.config, settings.steps)

    def exceeds(times: int) -> bool:
        spent = PrivacySpent().charged({"": times * per_round}, settings, earlier)
        return spent.exceeds(settings) is not None

    allowed, told = bisect_left(range(1, rounds + 1), x=True, key=exceeds), []
    if allowed < rounds:
        every = rounds == planned.config.rounds
        who = "client" if planned.of_data else "worker"
        of = "rounds" if every else f"rounds in which one {who} is asked"
        told.append(f"the privacy budget allows {allowed} of {rounds} {of}; the training ends then")
    ratio = max(
        settings.noise_multiplier
        * math.sqrt(network.plan.n_params / max(1, allowed * per_round))
        / _hidden_among(settings, planned, min(planned.clients, planned.members(network)))
        for network in planned.networks.values()
    )
    if ratio > 1:
        told.append(
            f"the noise of all rounds is expected to be {ratio:.3g} times the largest change that their"
            " clipped updates can make: little can be learnt. More workers, more rounds, a smaller network or"
            " a lower noise_multiplier help"
        )
    return told


def _hidden_among(settings: PrivacySettings, planned: Planned, clients: int) -> float:
    """In how many clipped vectors of a mean one of them hides, as of `foreseen`."""
    if settings.mode == "central_dp":
        return clients
    rows = sum(planned.rows.values()) / len(planned.rows)
    return settings.sampling_rate * math.sqrt(clients) * rows


def check_lineage(cluster: LiveCluster, data: Sequence[str], *, continues: bool) -> list[str]:
    """Warnings of a private training about the weights that it starts from.

    Raises:
        UnsupportedCombination: They were trained on the same data without privacy, and may tell all of it.
    """
    committed = cluster.committed
    if not continues:
        return []
    if committed is not None:
        privacy = committed.privacy or UNKNOWN
        bare_one = privacy.bare_on(data)
        if bare_one is not None:
            raise _bare_start(f"training {bare_one} made without privacy")
        if privacy.mode != "unknown":
            other = any(one.mode == "none" for one in privacy.trainings)
            return [OTHER_DATA] if other else []
        _refuse_unexplained(cluster, privacy)
    newest = _newest_in(cluster)
    bare = [
        one
        for one in cluster.state.trainings
        if one.config.privacy is None and one.advance.rounds_done and one.ordinal <= newest
    ]
    if not bare:
        return []
    for training in bare:
        seen = training.advance.privacy.data
        if not seen or not set(seen).isdisjoint(data):
            raise _bare_start(f"training {training.training_id} made without privacy")
    return [OTHER_DATA]


def _refuse_unexplained(cluster: LiveCluster, privacy: ModelPrivacy) -> None:
    """Refuse weights of unknown origin where no training of the cluster, stored before, explains them."""
    recorded = {one.training_id for one in privacy.trainings}
    older = [one for one in cluster.state.trainings if one.training_id not in recorded]
    if not any(one.advance.rounds_done for one in older):
        raise _bare_start("are of a model of which it is not recorded how it was trained")


def _bare_start(of: str) -> UnsupportedCombination:
    return UnsupportedCombination(
        f"this training would go on from weights that {of}, perhaps from the same rows",
        hint="create another cluster with neural_cluster_init for private training",
    )
