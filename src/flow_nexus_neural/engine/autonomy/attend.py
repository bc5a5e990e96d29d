"""Looks at a cluster after every change, decides, acts and keeps a log of it, in a task of its own."""

import logging
import math

import anyio
from anyio.abc import TaskGroup
from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.audit import INTENT, AuditEntry
from flow_nexus_neural.coordination.autonomy.observation import RULES, Finished, cluster_level
from flow_nexus_neural.coordination.autonomy.planner import Decision, Plan, not_carried_out, plan
from flow_nexus_neural.coordination.autonomy.replay import PLACE, SEEN, seen
from flow_nexus_neural.engine.autonomy.execute import execute
from flow_nexus_neural.engine.autonomy.intents import facts_of, outcome_fields, resolve_intents
from flow_nexus_neural.engine.autonomy.observe import observation
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import AuditReport, DaaReport
from flow_nexus_neural.engine.state.autonomy_log import TOTALS
from flow_nexus_neural.engine.versions.input_drift import input_drift
from flow_nexus_neural.errors import StoreError

log = logging.getLogger(__name__)

EVENTS_SHOWN = 20
ENTRIES_SHOWN = 200
NOT_SHOWN = frozenset({"cluster_id", "loop", "change", TOTALS, "prev_sha", SEEN, PLACE})
UNWRITTEN_RETRY_S = 1.0


async def attend(cluster: LiveCluster) -> None:
    """Look at a cluster after every change, and when something falls due, until it is terminated.

    A task of its own: what is decided here acts on the cluster like any client, without re-entering the
    operation whose change it saw. Slow actions have tasks beside it, so that a training is looked at
    meanwhile.
    """
    resolve_intents(cluster)
    try:
        async with anyio.create_task_group() as slow:
            await _watch(cluster, slow)
    finally:
        with anyio.CancelScope(shield=True):
            await _written(cluster)  # what ended after the last look


async def _watch(cluster: LiveCluster, slow: TaskGroup) -> None:
    autonomy = cluster.state.autonomy
    try:
        while cluster.state.terminated_at is None:
            seen = cluster.changes.count
            due_s = await look(cluster, slow)
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


async def look(cluster: LiveCluster, slow: TaskGroup) -> float | None:
    """Look at a cluster once, begin at most one action, and log every decision.

    Nothing is decided while an earlier decision is not durable, and nothing begun before that it is to be is.

    Args:
        cluster: Is looked at.
        slow: Where a slow action is carried out.

    Returns:
        When to look again although nothing changes; None for not.
    """
    if not await _written(cluster):
        return cluster.clock() + UNWRITTEN_RETRY_S
    await _look_at_inputs(cluster)
    planned, saw = _planned(cluster)
    begun: tuple[Decision, int] | None = None
    for place, decision in enumerate(planned.decisions):
        fields = _fields(cluster, decision) | {PLACE: place, SEEN: None if place else saw}
        if decision.verdict == "executed":
            begun = (decision, cluster.state.autonomy.intend(fields))
        else:
            cluster.state.autonomy.record(decision.verdict, fields)
    written = await _written(cluster)
    if begun is not None and written:
        await _begin(cluster, slow, *begun)
        return cluster.clock()
    if begun is not None:
        _withdraw(cluster, *begun)
    return planned.due_s if written else cluster.clock() + UNWRITTEN_RETRY_S


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


def _planned(cluster: LiveCluster) -> tuple[Plan, JsonValue]:
    """What is to be done, and what that was decided on; null where nothing is."""
    autonomy = cluster.state.autonomy
    failed = [slot.name for slot in cluster.slots if slot.state == "failed"]
    autonomy.see_failed(failed, cluster.clock())
    found, memory = observation(cluster), autonomy.planned
    planned = plan(found, memory)
    autonomy.clear_finished()
    autonomy.note_planned(planned.memory)
    for slot in cluster.slots:
        slot.await_restart(expected=slot.name in planned.restarting)
    return planned, seen(found, memory) if planned.decisions else None


async def _begin(cluster: LiveCluster, slow: TaskGroup, decision: Decision, intent: int) -> None:
    """Carry out an action whose intention is durable; return at once from a slow one."""
    cluster.state.autonomy.begin_action((decision.kind, decision.target))
    if RULES[decision.kind].slow:
        slow.start_soon(_act, cluster, decision, intent)
    else:
        await _act(cluster, decision, intent)


async def _act(cluster: LiveCluster, decision: Decision, intent: int) -> None:
    autonomy, began_s = cluster.state.autonomy, cluster.clock()
    done = await execute(cluster, decision)
    ended_s = cluster.clock()
    autonomy.end_action(Finished(decision.kind, decision.target, ok=done.ok, at_s=ended_s))
    outcome = outcome_fields(intent, done, duration_ms=round((ended_s - began_s) * 1e3, 3))
    autonomy.record("executed", _fields(cluster, decision) | outcome)
    cluster.changed()  # the next look makes it durable


def _withdraw(cluster: LiveCluster, decision: Decision, intent: int) -> None:
    """An action is not begun, for that it is to be cannot be made durable."""
    autonomy = cluster.state.autonomy
    autonomy.remember(not_carried_out(autonomy.planned, decision))
    told: dict[str, JsonValue] = {INTENT: intent, "reason": "its intention could not be recorded"}
    autonomy.record("suppressed", _fields(cluster, decision) | told)


def _fields(cluster: LiveCluster, decision: Decision) -> dict[str, JsonValue]:
    """What the log says of a decision, before anything came of it."""
    return {
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
        "before": facts_of(cluster, decision.target) if decision.verdict == "executed" else None,
        "after": None,
        "ok": None,
        "outcome": None,
        "duration_ms": None,
    }


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
