"""How large an epoch is: on that rests whether the workers of a training share its rows."""

from collections.abc import Mapping

from flow_nexus_neural.coordination import training_defaults
from flow_nexus_neural.coordination.consensus.gossip import GossipPolicy
from flow_nexus_neural.coordination.consensus.tolerance import RobustPolicy
from flow_nexus_neural.coordination.training_defaults import Scale
from flow_nexus_neural.coordination.training_strategy import Effort, Strategy
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.training.aggregation_rule import find_rule
from flow_nexus_neural.engine.training.arguments import sync_steps
from flow_nexus_neural.vocabulary import Consensus

ASKED = Strategy("federated", "federated is true")


def effort(
    cluster: LiveCluster,
    request: TrainRequest,
    scale: Scale,
    shards: tuple[int, int],
    networks: Mapping[str, NetworkGroup],
) -> Effort:
    """How large an epoch of a training is.

    Args:
        cluster: Whose workers would train.
        request: Of a training that is not federated.
        scale: Of the largest shard where all of them train.
        shards: Rows of all workers together, and how many workers have some.
        networks: Of the training.
    """
    rows, workers = shards
    batch_size = request.batch_size or training_defaults.batch_size(scale)
    steps = -(-scale.shard_rows // batch_size)
    plan = max((network.plan for network in networks.values()), key=lambda plan: plan.n_params)
    return Effort(
        workers=workers,
        networks=len(networks),
        places=cluster.context.runtime.capabilities.places,
        rows=rows,
        batch_size=batch_size,
        parameters=plan.n_params,
        sequence=plan.input.sequence_shape[0] if plan.view == "sequence" else 1,
        exchanges=-(-steps // sync_steps(scale.shard_rows, batch_size)),
        needs_workers=_needs_workers(request, cluster.spec.consensus),
    )


def _needs_workers(request: TrainRequest, consensus: Consensus) -> str | None:
    """Why one worker is not enough, however fast it is; None if it is."""
    policy = find_rule(request.aggregation_method, consensus)
    if isinstance(policy, RobustPolicy):
        return "a lying worker is outvoted by the updates of several"
    if isinstance(policy, GossipPolicy):
        return "gossip is between several workers"
    return None
