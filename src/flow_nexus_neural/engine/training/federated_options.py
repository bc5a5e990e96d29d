"""The options of federated methods: which of them a training takes, and what is refused beside them."""

from flow_nexus_neural.coordination.consensus.federated_methods import (
    METHODS,
    OPTIONS,
    FederatedMethod,
)
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.engine.reports import TrainingConfig
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.vocabulary import Consensus


def check_method(policy: AggregationPolicy, request: TrainRequest, consensus: Consensus) -> None:
    """Refuse what contradicts a method, and options that would do nothing.

    Raises:
        InvalidArguments: An option of another method, an optimiser that the method excludes, or lying workers
            that it would have to withstand.
    """
    own = policy.options if isinstance(policy, FederatedMethod) else {}
    idle = [name for name in OPTIONS if getattr(request, name) is not None and name not in own]
    if idle:
        takers = [method.name for method in METHODS if idle[0] in method.options]
        raise InvalidArguments(
            f"{', '.join(idle)} does nothing under {policy.name}",
            hint=f"leave it out, or set aggregation_method to one that has {idle[0]}: {', '.join(takers)}",
        )
    if not isinstance(policy, FederatedMethod):
        return
    if consensus == "byzantine" or request.byzantine_f:
        against = (
            "this cluster's consensus is byzantine"
            if consensus == "byzantine"
            else "byzantine_f asks to tolerate some"
        )
        raise InvalidArguments(
            f"{policy.name} goes where the mean of the updates points, which one lying worker can turn"
            f" anywhere, and {against}",
            hint="set aggregation_method to auto or another robust rule; or create a cluster with another"
            f" consensus, leave byzantine_f out and use {policy.name}",
        )
    only = policy.client_optimizer
    if only is not None and request.optimizer != only:
        raise InvalidArguments(
            f"{policy.name} corrects plain gradient steps, and optimizer is {request.optimizer}",
            hint=f"pass optimizer: {only}",
        )


def effective_options(policy: AggregationPolicy, request: TrainRequest) -> dict[str, float]:
    """The options of a method as they take effect; {} for a rule that has none."""
    if not isinstance(policy, FederatedMethod):
        return {}
    given = {name: getattr(request, name) for name in policy.options}
    return {
        name: usual if given[name] is None else float(given[name])
        for name, usual in policy.options.items()
    }


def rate_warnings(config: TrainingConfig) -> list[str]:
    """That FedProx limits the learning rate, where it does; see `node.trainer`."""
    mu = config.proximal_mu or 0.0
    if mu * config.learning_rate <= 1:
        return []
    warning = (
        f"proximal_mu={mu:g} limits the learning rate to 1/proximal_mu = {1 / mu:g}, below"
        f" {config.learning_rate:g}: a longer step would overshoot"
    )
    return [warning]
