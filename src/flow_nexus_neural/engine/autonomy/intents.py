"""What became of actions whose server ended between their intention and their outcome.

An intention is durable before its action begins. One without an outcome is resolved when the next server
opens the directory: by what can be seen of the action where that tells, and as not known otherwise. Nothing
is done again for it: what there still is to do is decided anew, and counts the action as one that failed
unless its effect is seen.
"""

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.audit import INTENT, AuditEntry
from flow_nexus_neural.coordination.autonomy.recollection import corrected
from flow_nexus_neural.coordination.autonomy.replay import PLACE, SEEN
from flow_nexus_neural.engine.autonomy.execute import Done, Facts, facts
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.training.feedback_data import FEEDBACK
from flow_nexus_neural.errors import NodeNotFound

NOT_KNOWN = "not known: the server ended before it was recorded"
_NOT_OF_ITS_OUTCOME = ("seq", "sha", "prev_sha", "totals", "decision", SEEN, PLACE)


def facts_of(cluster: LiveCluster, target: str) -> Facts:
    """What an action on a target can change, as it is now."""
    try:
        return facts(cluster.slots.find(target))
    except NodeNotFound:  # the cluster as a whole
        return {
            "trainings": len(cluster.state.trainings),
            "nodes": len(cluster.slots),
        }


def outcome_fields(intent: JsonValue, done: Done, duration_ms: float | None) -> Facts:
    """What the log says of the outcome of an action that was intended under this number."""
    return {
        INTENT: intent,
        "before": done.before,
        "after": done.after,
        "ok": done.ok,
        "outcome": done.outcome,
        "duration_ms": duration_ms,
    }


def resolve_intents(cluster: LiveCluster) -> None:
    """Record of every intention that a former server left open what can be told of it."""
    autonomy = cluster.state.autonomy
    for entry in autonomy.unresolved:
        ok = _had_its_effect(cluster, entry)
        told = "seen after the server had ended" if ok else NOT_KNOWN
        fields = {name: value for name, value in entry.items() if name not in _NOT_OF_ITS_OUTCOME}
        outcome: Facts = {
            INTENT: entry.get("seq"),
            "ts": cluster.context.timestamp(),
            "after": facts_of(cluster, str(entry.get("target"))) if ok else None,
            "ok": True if ok else None,
            "outcome": told,
        }
        autonomy.record("executed", fields | outcome)
        autonomy.resolve(entry.get("seq"))
        if ok:
            autonomy.remember(corrected(autonomy.planned, entry))


def _had_its_effect(cluster: LiveCluster, entry: AuditEntry) -> bool:
    """Whether what is durable shows that an action was carried out."""
    before, change = entry.get("before"), entry.get("change")
    was = before if isinstance(before, dict) else {}
    target, rule = str(entry.get("target")), entry.get("rule")
    now = facts_of(cluster, target)
    if rule == "restart_node":
        # Joined, for a restart that was begun and failed has raised the slot's incarnation too.
        then, joined = was.get("incarnation"), cluster.state.autonomy.joined.get(target)
        return isinstance(then, int) and joined is not None and joined > then
    if rule == "quarantine_node":
        return now.get("state") == "quarantined"
    if rule == "give_up_node":
        return now.get("state") == "failed_permanently"
    if rule == "learn_from_feedback":
        # Of feedback: a caller's training on other rows may have begun meanwhile.
        then = was.get("trainings")
        since = cluster.state.trainings[then:] if isinstance(then, int) else []
        return any(dict(one.request or {}).get("dataset") == FEEDBACK for one in since)
    if rule == "deploy_spare":
        lost = change.get("like") if isinstance(change, dict) else None
        return any(slot.stands_in_for == lost for slot in cluster.slots.with_retired())
    return False
