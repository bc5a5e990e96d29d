"""Autonomy in this version: it watches, it says what it would do, it does nothing."""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy import (
    Memory,
    Observation,
    SlotObservation,
    effective_level,
    plan,
)
from flow_nexus_neural.engine.reports import DaaReport

if TYPE_CHECKING:
    from flow_nexus_neural.engine.state.cluster import Cluster

EVENTS_KEPT = 50
EVENTS_SHOWN = 20


@dataclass
class AutonomyLog:
    """Recommendations of one cluster, and since when each slot has been failed."""

    memory: Memory = field(default_factory=dict)
    events: deque[dict[str, JsonValue]] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    recommended: int = 0
    failed_since_s: dict[str, float] = field(default_factory=dict)


def observe(cluster: "Cluster", at: str) -> None:
    """Look at a cluster now and log what has become advisable.

    Args:
        cluster: The cluster; only its autonomy log changes.
        at: Timestamp for the log.
    """
    log = cluster.autonomy
    actions, log.memory = plan(_observation(cluster), log.memory)
    for action in actions:
        log.recommended += 1
        log.events.append(
            {
                "at": at,
                "rule": action.kind,
                "scope": action.scope,
                "target": action.target,
                "level_required": action.level_required,
                "level_effective": action.level_effective,
                "decision": action.decision,
                "evidence": dict(action.evidence),
            }
        )


def report(cluster: "Cluster", *, events: bool) -> DaaReport:
    """What status says; the last events only when asked for."""
    log = cluster.autonomy
    return DaaReport(
        enabled=cluster.spec.daa_enabled,
        level_effective=effective_level(_observation(cluster)),
        executed=0,
        recommended=log.recommended,
        suppressed=0,
        events=list(log.events)[-EVENTS_SHOWN:] if events else [],
    )


def _observation(cluster: "Cluster") -> Observation:
    now_s, since = cluster.clock(), cluster.autonomy.failed_since_s
    for slot in cluster.slots:
        if slot.state == "failed":
            since.setdefault(slot.name, now_s)
        else:
            since.pop(slot.name, None)
    training = cluster.latest_training if cluster.run is not None else None
    return Observation(
        at_s=now_s,
        daa_enabled=cluster.spec.daa_enabled,
        slots=[
            SlotObservation(
                slot=slot.name,
                state=slot.state,
                autonomy=slot.spec.autonomy,
                failed_since_s=since.get(slot.name),
            )
            for slot in cluster.slots
        ],
        select_losses=[point.val_loss for point in training.history] if training else [],
        min_workers=1 if training else 0,
        healthy_workers=len(cluster.slots.healthy("worker")),
    )
