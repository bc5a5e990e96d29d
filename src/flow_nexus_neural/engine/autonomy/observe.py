"""What autonomy sees of a cluster at one moment; nothing is changed."""

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.observation import (
    Observation,
    SlotObservation,
    TrainingObservation,
)
from flow_nexus_neural.engine.live import LiveCluster, RunningTraining
from flow_nexus_neural.engine.state.feedback import LEAST_OUTCOMES
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.versions.loading import serving_slots
from flow_nexus_neural.kernels.drift import PSI_LIMIT
from flow_nexus_neural.vocabulary import EACH_CLIENT

MORE_OUTCOMES = 1.5
"""Of the outcomes that trained or judged, 85 % of all then, so that about a quarter of them is new."""
FOR_GOOD = ("quarantined", "failed_permanently")
"""States in which a slot stays until somebody replaces it."""


def observation(cluster: LiveCluster) -> Observation:
    """The cluster as the planner sees it now."""
    log = cluster.state.autonomy
    return Observation(
        at_s=cluster.clock(),
        daa_enabled=cluster.spec.daa_enabled,
        slots=[_slot(cluster, slot) for slot in cluster.slots],
        training=_training(cluster),
        unlinked=_unlinked(cluster),
        drift=_drift(cluster),
        max_nodes=cluster.context.settings.max_nodes,
        finished=tuple(log.finished),
        busy=log.busy,
    )


def _slot(cluster: LiveCluster, slot: Slot) -> SlotObservation:
    return SlotObservation(
        slot=slot.name,
        state=slot.state,
        autonomy=slot.spec.autonomy,
        failed_since_s=cluster.state.autonomy.failed_since_s.get(slot.name),
        returning=slot.returning or slot.restarting.locked(),
        digest_matches=_digest_matches(cluster, slot),
        accused=slot.accused,
        has_spare=any(one.stands_in_for == slot.name for one in cluster.slots.with_retired()),
    )


def _digest_matches(cluster: LiveCluster, slot: Slot) -> bool | None:
    """Whether it holds the weights in force; None where it should hold none, or is being given others."""
    committed = cluster.committed
    if committed is None or not slot.healthy or cluster.state.installing is not None:
        return None
    if slot.spec.role != "worker" or committed.network_of(slot.name) is None:
        return None
    return slot in serving_slots(cluster)


def _unlinked(cluster: LiveCluster) -> list[str]:
    """Slots that are linked and have no process."""
    links = cluster.state.links
    if links is None:
        return []
    return [slot.name for slot in cluster.slots if slot.name in links.members and not slot.handle]


def _drift(cluster: LiveCluster) -> dict[str, JsonValue] | None:
    """How errors or inputs have moved by more than chance, where there is enough to learn from."""
    committed, feedback, inputs = cluster.committed, cluster.state.feedback, cluster.inputs
    if committed is None or cluster.is_training or feedback.version != committed.version:
        return None
    if (
        feedback.errors.width < LEAST_OUTCOMES
    ):  # since errors last rose: older ones say what is wrong now
        return None
    if _refused(cluster):
        return None
    version = committed.version
    found: dict[str, JsonValue] = {}
    if feedback.drifted:
        found |= {"errors_mean": feedback.errors.mean, "drifts": feedback.errors.drifts}
    index = inputs.index if inputs is not None and inputs.version == version else None
    if inputs is not None and index is not None and index > PSI_LIMIT:
        found |= {"input_index": index, "input_column": inputs.column}
    return {"version": version, **found} if found else None


def _refused(cluster: LiveCluster) -> bool:
    """Whether what was last learnt from about these outcomes was refused.

    Then drift counts again when a quarter of the outcomes is new: that quarter is what judges.
    """
    training = cluster.state.latest_training
    learning = training.learning if training is not None else None
    if learning is None or learning.admitted is not False:
        return False
    used = learning.outcomes + learning.held_out
    return used <= cluster.state.feedback.errors.width < MORE_OUTCOMES * used


def _training(cluster: LiveCluster) -> TrainingObservation | None:
    """The running training; None where it would not follow what is decided of it."""
    run = cluster.run
    if run is None or run.training.phase != "rounds" or not run.is_steered:
        return None
    training = run.training
    steering, config = training.steering, training.config
    workers = cluster.slots.of_role("worker")
    dead = [slot.name for slot in workers if slot.handle is None]
    return TrainingObservation(
        select_losses=[point.val_loss for point in training.history],
        learning_rate=training.learning_rate,
        adapted_at=steering.adapted_at,
        rate_before=steering.rate_before,
        diverged=steering.diverged,
        min_workers=run.least_workers,
        healthy_workers=len(cluster.slots.healthy("worker")),
        possible_workers=sum(slot.state not in FOR_GOOD for slot in workers),
        paused=steering.paused is not None,
        stopping=steering.stop_reason is not None,
        patience_chosen=config.patience > 0 or (training.request or {}).get("patience") is not None,
        dead_owners=[name for name in dead if name in run.shards and run.shards[name].size],
        delivered=tuple(run.delivered),
        clients=_clients(cluster, run),
    )


def _clients(cluster: LiveCluster, run: RunningTraining) -> tuple[int, int] | None:
    """Clients asked per round and the most that may be; None where the caller named a number, or all are.

    Clients of the data are no workers: more of them make up for none.
    """
    training = run.training
    asked = training.steering.clients_per_round or training.config.clients_per_round
    chosen = (training.request or {}).get("clients_per_round")
    if asked is None or chosen is not None or training.config.partition == EACH_CLIENT:
        return None
    return asked, len(cluster.slots.healthy("worker"))
