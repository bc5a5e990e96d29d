"""Carries out what was decided about a cluster, by the same operations as a client's calls."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.observation import Kind
from flow_nexus_neural.coordination.autonomy.planner import Decision
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.deploy import deploy
from flow_nexus_neural.engine.nodes.lifecycle import give_up
from flow_nexus_neural.engine.requests import DeployRequest
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.versions.loading import expected_slots, serving_slots, synchronise
from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.protocol.node_words import shortened

log = logging.getLogger(__name__)

MAX_OUTCOME_CHARS = 300
Facts = dict[str, JsonValue]


@dataclass(frozen=True)
class Done:
    """What became of an action.

    Attributes:
        ok: Whether its effect was seen.
        outcome: That, in words.
        before: What it was to change, before.
        after: The same afterwards.
    """

    ok: bool
    outcome: str
    before: Facts = field(default_factory=dict)
    after: Facts = field(default_factory=dict)


async def execute(cluster: LiveCluster, decision: Decision) -> Done:
    """Carry out one decision and see whether it had its effect. Never raises."""
    try:
        return await _PERFORMED[decision.kind](cluster, decision)
    except NeuralError as failure:
        return Done(ok=False, outcome=shortened(f"failed: {failure}", MAX_OUTCOME_CHARS))
    except (
        Exception
    ):  # a bug must cost this action only, not all that autonomy does for the cluster
        name = cluster.context.incident()
        log.exception("incident %s in action %s", name, decision.kind)
        return Done(ok=False, outcome=f"failed: internal_error (incident {name})")


async def _restart_node(cluster: LiveCluster, decision: Decision) -> Done:
    slot = cluster.slots.find(decision.target)
    before = _facts(slot)
    if slot.handle is not None:
        return Done(ok=True, outcome="somebody else had restarted it", before=before, after=before)
    await deploy(
        cluster, DeployRequest(cluster_id=cluster.cluster_id, replace_node_id=decision.target)
    )
    expected = slot in expected_slots(cluster)
    if slot.healthy and (not expected or slot in serving_slots(cluster)):
        what = "healthy with the committed weights" if expected else "healthy"
        return Done(ok=True, outcome=what, before=before, after=_facts(slot))
    why = slot.last_error or slot.state
    return Done(ok=False, outcome=f"not healthy: {why}", before=before, after=_facts(slot))


async def _give_up_node(cluster: LiveCluster, decision: Decision) -> Done:
    slot = cluster.slots.find(decision.target)
    before = _facts(slot)
    restarts = decision.evidence.get("restarts")
    reason = f"it failed again after {restarts} restarts; {slot.last_error or 'no error is known'}"
    await give_up(cluster, slot, reason)
    return Done(ok=True, outcome="failed permanently", before=before, after=_facts(slot))


async def _resync_node(cluster: LiveCluster, decision: Decision) -> Done:
    slot = cluster.slots.find(decision.target)
    before: Facts = {"served": [*sorted(digest[:12] for digest in slot.served.values())]}
    await synchronise(cluster, slot)
    after: Facts = {"served": [*sorted(digest[:12] for digest in slot.served.values())]}
    ok = slot in serving_slots(cluster)
    outcome = "holds the committed weights" if ok else "still holds other weights"
    return Done(ok=ok, outcome=outcome, before=before, after=after)


async def _not_built(_cluster: LiveCluster, _decision: Decision) -> Done:
    return Done(ok=False, outcome="failed: not part of this version")


def _facts(slot: Slot) -> Facts:
    return {"state": slot.state, "incarnation": slot.incarnation, "node_id": slot.node_id}


_PERFORMED: Mapping[Kind, Callable[[LiveCluster, Decision], Awaitable[Done]]] = {
    "restart_node": _restart_node,
    "give_up_node": _give_up_node,
    "resync_node": _resync_node,
}

SLOW: frozenset[Kind] = frozenset(
    {"restart_node", "rebalance_shards", "deploy_spare", "learn_from_feedback"}
)
"""Actions that start processes or wait for a training themselves."""
