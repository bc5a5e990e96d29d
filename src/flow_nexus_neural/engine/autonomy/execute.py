"""Carries out what was decided about a cluster, by the same operations as a client's calls."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.observation import Kind
from flow_nexus_neural.coordination.autonomy.planner import Decision
from flow_nexus_neural.engine.links.connect import connect
from flow_nexus_neural.engine.live import LiveCluster, RunningTraining
from flow_nexus_neural.engine.nodes.deploy import deploy
from flow_nexus_neural.engine.nodes.lifecycle import give_up
from flow_nexus_neural.engine.nodes.quarantine import quarantine
from flow_nexus_neural.engine.requests import ConnectRequest, DeployRequest
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.start import learn_from_feedback
from flow_nexus_neural.engine.versions.loading import (
    expected_slots,
    keep_up,
    serving_slots,
    synchronise,
)
from flow_nexus_neural.errors import NeuralError, TrainingNotFound
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
    before = facts(slot)
    if slot.handle is not None:
        return Done(ok=True, outcome="somebody else had restarted it", before=before, after=before)
    await deploy(
        cluster, DeployRequest(cluster_id=cluster.cluster_id, replace_node_id=decision.target)
    )
    expected = slot in expected_slots(cluster)
    if slot.healthy and expected:  # a round may be committed this moment, and reaches the slot last
        await keep_up(cluster, slot)
    if slot.healthy and (not expected or slot in serving_slots(cluster)):
        what = "healthy with the committed weights" if expected else "healthy"
        return Done(ok=True, outcome=what, before=before, after=facts(slot))
    why = slot.last_error or slot.state
    return Done(ok=False, outcome=f"not healthy: {why}", before=before, after=facts(slot))


async def _give_up_node(cluster: LiveCluster, decision: Decision) -> Done:
    slot = cluster.slots.find(decision.target)
    before = facts(slot)
    restarts = decision.evidence.get("restarts")
    reason = f"it failed again after {restarts} restarts; {slot.last_error or 'no error is known'}"
    await give_up(cluster, slot, reason)
    return Done(ok=True, outcome="failed permanently", before=before, after=facts(slot))


async def _resync_node(cluster: LiveCluster, decision: Decision) -> Done:
    slot = cluster.slots.find(decision.target)
    before: Facts = {"served": [*sorted(digest[:12] for digest in slot.served.values())]}
    await synchronise(cluster, slot)
    after: Facts = {"served": [*sorted(digest[:12] for digest in slot.served.values())]}
    ok = slot in serving_slots(cluster)
    outcome = "holds the committed weights" if ok else "still holds other weights"
    return Done(ok=ok, outcome=outcome, before=before, after=after)


async def _quarantine_node(cluster: LiveCluster, decision: Decision) -> Done:
    slot = cluster.slots.find(decision.target)
    before = facts(slot)
    await quarantine(cluster, slot, slot.accused or "it was caught cheating")
    return Done(ok=True, outcome="quarantined", before=before, after=facts(slot))


async def _pause_training(cluster: LiveCluster, decision: Decision) -> Done:
    run = _running(cluster)
    needed, healthy = decision.evidence["needed"], decision.evidence["healthy"]
    run.steer(paused=f"{healthy} of the {needed} workers that a round needs are healthy")
    return Done(ok=True, outcome="waits between two rounds")


async def _resume_training(cluster: LiveCluster, _decision: Decision) -> Done:
    run = _running(cluster)
    run.steer(paused=None)
    return Done(ok=True, outcome="goes on")


async def _rebalance_shards(cluster: LiveCluster, _decision: Decision) -> Done:
    """Link who is there as before, which deals the rows of dead workers to live ones."""
    before = _links(cluster)
    topology = cluster.state.links.topology if cluster.state.links else None
    told = await connect(
        cluster, ConnectRequest(cluster_id=cluster.cluster_id, topology=topology, wait_seconds=25)
    )
    after = _links(cluster)
    members = set(cluster.state.links.members) if cluster.state.links else set()
    ok = all(cluster.slots.find(name).handle is not None for name in members)
    outcome = f"{told.status}; {len(members)} nodes linked as {cluster.state.topology}"
    return Done(ok=ok, outcome=outcome, before=before, after=after)


async def _early_stop(cluster: LiveCluster, decision: Decision) -> Done:
    run = _running(cluster)
    run.steer(stop_reason="autonomy: " + _told(decision.evidence))
    done = run.training.advance.rounds_done
    outcome = f"ends after round {done} of {run.training.config.rounds}; the best round answers"
    return Done(ok=True, outcome=outcome)


async def _adapt_learning_rate(cluster: LiveCluster, decision: Decision) -> Done:
    run = _running(cluster)
    training = run.training
    before, after = training.learning_rate, float(str(decision.change["learning_rate"]))
    diverged = decision.change["back_to_best"] is True
    run.steer(
        learning_rate=after,
        # A change that ended a divergence is not taken back.
        rate_before=None if diverged else before,
        adapted_at=len(training.history),
        diverged=training.steering.diverged + diverged,
    )
    if diverged:
        run.back_to_best()
    back = f", from the weights of round {training.advance.best_round}" if diverged else ""
    return Done(
        ok=True,
        outcome=f"the next round trains with it{back}",
        before={"learning_rate": before},
        after={"learning_rate": after},
    )


async def _restore_learning_rate(cluster: LiveCluster, decision: Decision) -> Done:
    run = _running(cluster)
    before, after = run.training.learning_rate, float(str(decision.change["learning_rate"]))
    run.steer(learning_rate=after, rate_before=None, adapted_at=len(run.training.history))
    return Done(
        ok=True,
        outcome="the change is taken back",
        before={"learning_rate": before},
        after={"learning_rate": after},
    )


async def _deploy_spare(cluster: LiveCluster, decision: Decision) -> Done:
    """A further node like one that is lost for good; never more than were lost."""
    lost = cluster.slots.find(str(decision.change["like"]))
    spec = lost.spec
    report = await deploy(
        cluster,
        DeployRequest(
            cluster_id=cluster.cluster_id,
            role=spec.role,
            node_type=spec.node_type,
            model=spec.model,
            capabilities=spec.capabilities,
            autonomy=spec.autonomy,
            template=spec.template,
            layers=tuple(dict(layer) for layer in spec.layers) or None,
            replace=False,
        ),
        stands_in_for=lost.name,
    )
    return Done(ok=report.healthy, outcome=f"{report.slot} stands in for {lost.name}")


async def _raise_clients(cluster: LiveCluster, decision: Decision) -> Done:
    run = _running(cluster)
    asked = run.training.steering.clients_per_round or run.training.config.clients_per_round
    more = int(str(decision.change["clients_per_round"]))
    run.steer(clients_per_round=more)
    return Done(
        ok=True,
        outcome="from the next round on",
        before={"clients_per_round": asked},
        after={"clients_per_round": more},
    )


async def _learn_from_feedback(cluster: LiveCluster, _decision: Decision) -> Done:
    """Start a training on recorded outcomes; what it makes is admitted only where it is better."""
    report = await learn_from_feedback(cluster)
    rows = report.dataset_info.rows
    return Done(ok=True, outcome=f"training {report.training_id} on {rows} outcomes has begun")


def _running(cluster: LiveCluster) -> RunningTraining:
    if cluster.run is None:
        raise TrainingNotFound("the training has ended meanwhile", hint="nothing is to be done")
    if not cluster.run.is_steered:
        raise TrainingNotFound("this training is not steered", hint="nothing is to be done")
    return cluster.run


def _links(cluster: LiveCluster) -> Facts:
    links, run = cluster.state.links, cluster.run
    owners = [name for name, rows in run.shards.items() if rows.size] if run is not None else []
    return {"linked": [*links.members] if links else [], "owners": [*sorted(owners)]}


def _told(evidence: Mapping[str, JsonValue]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in evidence.items()
    )


def facts(slot: Slot) -> Facts:
    """What an action on a slot is to change."""
    return {"state": slot.state, "incarnation": slot.incarnation, "node_id": slot.node_id}


_PERFORMED: Mapping[Kind, Callable[[LiveCluster, Decision], Awaitable[Done]]] = {
    "restart_node": _restart_node,
    "give_up_node": _give_up_node,
    "resync_node": _resync_node,
    "quarantine_node": _quarantine_node,
    "pause_training": _pause_training,
    "resume_training": _resume_training,
    "rebalance_shards": _rebalance_shards,
    "early_stop": _early_stop,
    "adapt_learning_rate": _adapt_learning_rate,
    "restore_learning_rate": _restore_learning_rate,
    "learn_from_feedback": _learn_from_feedback,
    "deploy_spare": _deploy_spare,
    "raise_clients": _raise_clients,
}
