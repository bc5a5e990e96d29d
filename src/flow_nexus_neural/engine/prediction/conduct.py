"""Holds nodes to account for their answers: counted, doubted, asked by the engine itself, ended and named.

What counts and when it is enough is decided by `coordination.conduct`.
"""

import anyio

from flow_nexus_neural.coordination.conduct import told
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.prediction.question import Outcome, Question, put
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.versions.loading import holds_version, synchronise
from flow_nexus_neural.errors import NodeError
from flow_nexus_neural.runtime.base import NodeHandle


async def hold_to_account(
    cluster: LiveCluster, slot: Slot, handle: NodeHandle, question: Question, outcome: Outcome
) -> None:
    """Note what became of a caller's question, and look into a node that is doubted for it."""
    await _note(cluster, slot, handle, outcome, from_caller=True)
    if outcome.doubtful and _is_open(slot, handle) and slot.begin_inquiry(handle):
        cluster.context.spawn(_inquire, cluster, slot, handle, question.first_row())


async def _note(
    cluster: LiveCluster, slot: Slot, handle: NodeHandle, outcome: Outcome, *, from_caller: bool
) -> None:
    if outcome.conduct is None or not _is_open(slot, handle):
        return
    found = slot.note_answer(outcome.conduct, from_caller=from_caller)
    if found == "trusted":
        if slot.trust():
            cluster.changed()
        return
    counts = f"{told(slot.conduct)}; the last: {outcome.reason}"
    if found == "suspect":
        slot.doubt(f"doubted, {counts}")
        cluster.changed()
        return
    code = "predictions_refused" if outcome.conduct == "refused" else "predictions_unanswered"
    slot.condemn(f"{code}: ended and killed for its answers, {counts}")
    cluster.changed()
    await handle.stop(grace_s=0)


async def _inquire(
    cluster: LiveCluster, slot: Slot, handle: NodeHandle, question: Question
) -> None:
    """Ask a doubted node again until it is trusted or ended, so that nobody's request is spent on that."""
    try:
        while True:
            outcome = await put(cluster, slot, question)
            await _note(cluster, slot, handle, outcome, from_caller=False)
            if not _is_open(slot, handle) or slot.state != "suspect":
                break
            if outcome.conduct is None:  # neither right nor its fault, and perhaps at once
                await anyio.sleep(cluster.context.patience.ping_s)
    finally:
        slot.end_inquiry(handle)
    await _catch_up(cluster, slot, handle)


async def _catch_up(cluster: LiveCluster, slot: Slot, handle: NodeHandle) -> None:
    """Load what was put in force while a node that is trusted again was doubted."""
    try:
        while slot.handle is handle and slot.healthy and not holds_version(cluster, slot):
            await synchronise(cluster, slot)
    except NodeError as failure:
        slot.note_error(str(failure))


def _is_open(slot: Slot, handle: NodeHandle) -> bool:
    """Whether it is still to be decided what this process is worth."""
    return slot.handle is handle and not slot.condemned
