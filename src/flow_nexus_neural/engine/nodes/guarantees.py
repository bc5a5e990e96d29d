"""What the consensus mode promises with the nodes that are alive."""

from flow_nexus_neural.coordination.consensus.registry import AVERAGING
from flow_nexus_neural.coordination.guarantees import guarantees as promised
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import Guarantees


def guarantees(cluster: LiveCluster) -> Guarantees:
    """What the mode promises with the workers that are alive."""
    workers = cluster.slots.healthy("worker")
    evaluators = cluster.slots.healthy("validator") or workers
    evaluator = evaluators[0].name if evaluators else None
    latest = cluster.state.latest_training
    rule = latest.config.aggregation_method if latest else AVERAGING.name
    found = promised(cluster.spec.consensus, len(workers), evaluator, rule)
    return Guarantees(
        mode=found.mode,
        n=found.n,
        f_tolerated=found.f_tolerated,
        condition=found.condition,
        holds=found.holds,
        trusted=list(found.trusted),
        notes=list(found.notes),
    )
