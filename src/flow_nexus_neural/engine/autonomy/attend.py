"""Looks at a cluster after every change, decides, acts and keeps a log of it, in a task of its own."""

import logging
import math

import anyio
from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.audit import AuditEntry
from flow_nexus_neural.coordination.autonomy.observation import Finished, cluster_level
from flow_nexus_neural.coordination.autonomy.planner import Decision, Plan, plan
from flow_nexus_neural.engine.autonomy.execute import SLOW, Done, execute
from flow_nexus_neural.engine.autonomy.observe import observation
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import AuditReport, DaaReport
from flow_nexus_neural.engine.state.autonomy_log import TOTALS
from flow_nexus_neural.engine.versions.input_drift import input_drift
from flow_nexus_neural.errors import StoreError

log = logging.getLogger(__name__)

EVENTS_SHOWN = 20
ENTRIES_SHOWN = 200
NOT_SHOWN = frozenset({"cluster_id", "loop", "change", TOTALS, "prev_sha"})
UNWRITTEN_RETRY_S = 1.0


async def attend(cluster: LiveCluster) -> None:
    """Look at a cluster after every change, and when something falls due, until it is terminated.

    A task of its own: what is decided here acts on the cluster like any client, without re-entering the
    operation whose change it saw.
    """
    autonomy = cluster.state.autonomy
    try:
        while cluster.state.terminated_at is None:
            seen = cluster.changes.count
            due_s = await look(cluster)
            if (
                due_s is None or due_s > cluster.clock()
            ):  # else it has not done all that there is to do
                autonomy.note_seen(seen)
                cluster.looked.bump()
            # A point in time and not a duration, see `supervise`.
            with anyio.CancelScope(deadline=math.inf if due_s is None else due_s):
                await cluster.changes.wait_beyond(seen)
    finally:
        autonomy.note_seen(None)
        cluster.looked.bump()


async def look(cluster: LiveCluster) -> float | None:
    """Look at a cluster once, act at most once, and log every decision.

    Nothing is decided while an earlier decision is not durable.

    Returns:
        When to look again although nothing changes; None for not.
    """
    if not await _written(cluster):
        return cluster.clock() + UNWRITTEN_RETRY_S
    await _look_at_inputs(cluster)
    planned = _planned(cluster)
    for decision in planned.decisions:
        if decision.verdict == "executed":
            await _act(cluster, decision)
        else:
            _note(cluster, decision, Done(ok=True, outcome=""), 0.0)
    if not await _written(cluster):
        return cluster.clock() + UNWRITTEN_RETRY_S
    acted = any(decision.verdict == "executed" for decision in planned.decisions)
    return cluster.clock() if acted else planned.due_s


def report(cluster: LiveCluster, *, events: bool) -> DaaReport:
    """What status says; the last events only when asked for."""
    log_ = cluster.state.autonomy
    return DaaReport(
        enabled=cluster.spec.daa_enabled,
        level_effective=cluster_level(observation(cluster)),
        executed=log_.totals["executed"],
        recommended=log_.totals["recommended"],
        suppressed=log_.totals["suppressed"],
        events=[_shown(entry) for entry in list(log_.events)[-EVENTS_SHOWN:]] if events else [],
    )


def _shown(entry: AuditEntry) -> AuditEntry:
    """An entry without what only its chain needs; the audit report has it whole."""
    return {name: value for name, value in entry.items() if name not in NOT_SHOWN}


async def audit_report(cluster: LiveCluster) -> AuditReport:
    """The newest durable decisions, verified now."""
    stored = await cluster.context.store.audit(cluster.cluster_id)
    return AuditReport(
        cluster_id=cluster.cluster_id,
        entries=list(stored.entries)[-ENTRIES_SHOWN:],
        intact=stored.damage is None,
        damage=stored.damage,
    )


async def _look_at_inputs(cluster: LiveCluster) -> None:
    """Compare recent inputs with the training rows where that is due; a failure changes nothing."""
    if not cluster.state.feedback.recorded or cluster.is_training:
        return
    try:
        await input_drift(cluster)
    except StoreError as failure:
        log.warning("recorded inputs of %s cannot be read: %s", cluster.cluster_id, failure)


def _planned(cluster: LiveCluster) -> Plan:
    autonomy = cluster.state.autonomy
    failed = [slot.name for slot in cluster.slots if slot.state == "failed"]
    autonomy.see_failed(failed, cluster.clock())
    planned = plan(observation(cluster), autonomy.planned)
    autonomy.clear_finished()
    autonomy.note_planned(planned.memory)
    for slot in cluster.slots:
        slot.await_restart(expected=slot.name in planned.restarting)
    return planned


async def _act(cluster: LiveCluster, decision: Decision) -> None:
    autonomy, began_s = cluster.state.autonomy, cluster.clock()
    autonomy.begin_action(slow=decision.kind in SLOW)
    cluster.looked.bump()
    done = await execute(cluster, decision)
    ended_s = cluster.clock()
    autonomy.end_action(Finished(decision.kind, decision.target, ok=done.ok, at_s=ended_s))
    _note(cluster, decision, done, ended_s - began_s)
    cluster.changed()


def _note(cluster: LiveCluster, decision: Decision, done: Done, duration_s: float) -> None:
    executed = decision.verdict == "executed"
    fields: dict[str, JsonValue] = {
        "cluster_id": cluster.cluster_id,
        "ts": cluster.context.timestamp(),
        "loop": cluster.state.autonomy.looks,
        "rule": decision.kind,
        "scope": decision.scope,
        "target": decision.target,
        "evidence": dict(decision.evidence),
        "change": dict(decision.change),
        "level_required": decision.level_required,
        "level_effective": decision.level_effective,
        "reason": decision.reason,
        "before": done.before if executed else None,
        "after": done.after if executed else None,
        "ok": done.ok if executed else None,
        "outcome": done.outcome if executed else None,
        "duration_ms": round(duration_s * 1e3, 3) if executed else None,
    }
    cluster.state.autonomy.record(decision.verdict, fields)


async def _written(cluster: LiveCluster) -> bool:
    """Make what was decided durable; False where the disk refuses."""
    autonomy = cluster.state.autonomy
    entries = list(autonomy.unwritten)
    if not entries:
        return True
    try:
        await cluster.context.store.append_audit(cluster.cluster_id, entries)
    except StoreError as failure:
        log.warning("decisions on %s are not recorded yet: %s", cluster.cluster_id, failure)
        return False
    autonomy.note_written(len(entries))
    return True
