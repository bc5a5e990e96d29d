"""Answering a prediction: ask the serving nodes under a deadline, fuse, calibrate, report.

The committed version is read once at the start; an answer made with other weights is left out, so every
number of a reply belongs to one bundle.
"""

from collections.abc import Mapping
from dataclasses import replace

import anyio

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.coordination.quorum import robust_quorum
from flow_nexus_neural.data.adapter import adapt
from flow_nexus_neural.data.schema import Adapted, DataSchema
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.links.connect import link_as_before
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.lifecycle import revive
from flow_nexus_neural.engine.prediction.answer import Answer
from flow_nexus_neural.engine.prediction.consult import Ahead, with_roles
from flow_nexus_neural.engine.prediction.fan_out import FanOut
from flow_nexus_neural.engine.prediction.outcomes import with_outcomes
from flow_nexus_neural.engine.prediction.question import MAX_DEADLINE_S, Question
from flow_nexus_neural.engine.prediction.reply import STALE, report
from flow_nexus_neural.engine.prediction.weighting import Weighting, weights_of
from flow_nexus_neural.engine.raft.gate import cannot_decide
from flow_nexus_neural.engine.reports import PredictionReport
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.state.advice import next_step
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.versions.loading import expected_slots, serving_slots
from flow_nexus_neural.errors import (
    InvalidArguments,
    NoServingNode,
    NotTrained,
    Overloaded,
)
from flow_nexus_neural.protocol.node_words import shortened

QUEUE = 64
MAX_REASON_CHARS = 80
VERSIONS = 3
"""A training of milliseconds a round may replace a version twice before a node gets to answer with it."""
COMEBACK_S = 30.0
"""How long nodes that must be started first are waited for, by callers without a deadline of their own."""
MS_PER_FURTHER_RECORD = 5
LATE_ANSWER_S = 5.0
"""How long fewer answers than are of use are waited for after a default deadline."""


async def predict(cluster: LiveCluster, request: PredictRequest) -> PredictionReport:
    """Answer one request.

    Raises:
        NotTrained: There is no committed version.
        InvalidRecord, NoKnownFeature, InvalidArguments: The input cannot be used.
        Overloaded: 64 predictions are being answered.
        NoServingNode: Nobody answered in time.
    """
    began_s = cluster.clock()
    committed = in_force(cluster, request)
    refuse_more(cluster)
    with cluster.state.answering():
        await cannot_decide(cluster)  # so that the reply can say it
        adapted = adapt(committed.schema, request.input_data)
        await bring_back(cluster, request)
        answer = await _answer(cluster, request, (committed, adapted), began_s)
        made = report(cluster.cluster_id, cluster.context.new_id("prd"), answer)
    cluster.metrics.note_prediction(made.latency_ms, made.node_agreement)
    return await with_outcomes(cluster, request, answer, made)


def in_force(cluster: LiveCluster, request: PredictRequest) -> CommittedVersion:
    """What answers such a request now. Raises `NotTrained`, `InvalidArguments`."""
    committed = cluster.committed
    if committed is None:
        raise NotTrained(
            f"cluster {cluster.cluster_id} has no trained model yet"
            + ("; its first round is not committed" if cluster.is_training else ""),
            hint='wait with neural_cluster_status (wait_seconds, until "change")'
            if cluster.is_training
            else "call neural_train_distributed, then neural_cluster_status with wait_seconds",
        )
    _check_threshold(committed.schema, request)
    return committed


def refuse_more(cluster: LiveCluster) -> None:
    """Raises `Overloaded` where too many predictions are being answered."""
    if cluster.state.predictions_waiting >= QUEUE:
        raise Overloaded(
            f"{QUEUE} predictions are being answered by this cluster",
            hint="call neural_predict_distributed again after 100 ms, or send records as one list",
        )


async def _answer(
    cluster: LiveCluster,
    request: PredictRequest,
    read: tuple[CommittedVersion, Adapted],
    began_s: float,
) -> Answer:
    """Answer with the version in force; with the next one when that has replaced it in the nodes."""
    committed, adapted = read
    for _ in range(VERSIONS):
        weights = weights_of(cluster, committed, request)
        ahead = Ahead.begin(cluster, committed, request.aggregation, adapted)
        gathered = await ask_all(cluster, committed, request, adapted)
        newer = cluster.committed
        if gathered.logits or newer is None or newer is committed:
            break
        _check_threshold(newer.schema, request)
        committed, adapted = newer, adapt(newer.schema, request.input_data)
    else:
        raise NoServingNode(
            f"{VERSIONS} versions were replaced before a node could answer with them",
            hint="call neural_predict_distributed again",
        )
    answer = answer_from(cluster, request, (committed, adapted), (gathered, weights), began_s)
    limit_s = deadline_s(cluster.context, request, len(adapted.x))
    answer = await with_roles(cluster, answer, began_s + limit_s, ahead)
    if not answer.logits and not answer.by_student:
        raise nobody_answered(cluster, committed, gathered)
    return replace(answer, elapsed_ms=(cluster.clock() - began_s) * 1e3)


def answer_from(
    cluster: LiveCluster,
    request: PredictRequest,
    read: tuple[CommittedVersion, Adapted],
    found: tuple[FanOut, Weighting],
    began_s: float,
) -> Answer:
    """What a reply is made of.

    Args:
        cluster: Its cluster.
        request: What was asked.
        read: The version that answered, and the records as it reads them.
        found: What its nodes answered, and their weights.
        began_s: When the request came.
    """
    (committed, adapted), (gathered, weights) = read, found
    undecided = None if cluster.voters is None else cluster.voters.missing
    stale = () if undecided is None else (f"{STALE}: {undecided}",)
    return Answer(
        committed=committed,
        request=request,
        adapted=adapted,
        slots=_slots_of(cluster, committed, gathered),
        logits=gathered.logits,
        latency_ms=gathered.latency_ms,
        excluded=gathered.excluded,
        backends=gathered.backends,
        levels=cluster.state.feedback.levels_of(committed.version),
        weighting=weights,
        elapsed_ms=(cluster.clock() - began_s) * 1e3,
        cautions=(*stale, *cluster.state.cautions),
        undecided=undecided,
    )


def _slots_of(cluster: LiveCluster, committed: CommittedVersion, gathered: FanOut) -> list[Slot]:
    """Who was to answer, in slot order; also a node that answered and was removed meanwhile."""
    slots = {slot.name: slot for slot in expected_slots(cluster, committed)} | gathered.heard
    return [slots[name] for name in sorted(slots, key=slot_order)]


async def bring_back(cluster: LiveCluster, request: PredictRequest) -> None:
    """Start serving nodes whose processes ended with the server or the runtime.

    Waited for only where nobody else could answer, and no longer than the caller's own deadline.
    """
    # Also those that somebody else starts: a training that goes on brings its nodes back too.
    away = {s.name for s in cluster.slots if s.state == "recovering" or s.restarting.locked()}
    if not away or away.isdisjoint(s.name for s in expected_slots(cluster)):
        return
    done = anyio.Event()

    async def start_them() -> None:
        try:
            await revive(cluster)
            for slot in expected_slots(cluster):
                async with slot.restarting:
                    pass
        finally:
            done.set()
        await link_as_before(cluster)

    cluster.context.spawn(start_them)
    if not serving_slots(cluster):
        own_s = None if request.deadline_ms is None else request.deadline_ms / 1e3
        with anyio.move_on_after(COMEBACK_S if own_s is None else own_s):
            await done.wait()


def deadline_s(context: EngineContext, request: PredictRequest, rows: int) -> float:
    """Time for the nodes to answer."""
    if request.deadline_ms is not None:
        return request.deadline_ms / 1e3
    default_ms = context.settings.predict_deadline_ms + MS_PER_FURTHER_RECORD * (rows - 1)
    return min(default_ms / 1e3, MAX_DEADLINE_S)


def _check_threshold(schema: DataSchema, request: PredictRequest) -> None:
    """Refuse a threshold where there are not two classes to decide between. Raises `InvalidArguments`."""
    if request.threshold is not None and schema.task != "binary":
        raise InvalidArguments(
            f"threshold={request.threshold:g} decides between two classes, and the model's task is"
            f" {schema.task}",
            hint="leave threshold out",
        )


async def gather(
    cluster: LiveCluster,
    committed: CommittedVersion,
    request: PredictRequest,
    adapted: Adapted,
    limit_s: float | None = None,
) -> FanOut:
    """Ask every serving node at once and stop waiting at the deadline; as `ask_all`.

    Raises:
        NoServingNode: Nobody answered in time.
    """
    fan_out = await ask_all(cluster, committed, request, adapted, limit_s)
    if not fan_out.logits:
        raise nobody_answered(cluster, committed, fan_out)
    return fan_out


async def ask_all(
    cluster: LiveCluster,
    committed: CommittedVersion,
    request: PredictRequest,
    adapted: Adapted,
    limit_s: float | None = None,
) -> FanOut:
    """Ask every serving node at once and stop waiting at the deadline; nobody may have answered then.

    Args:
        cluster: Of the nodes.
        committed: The version that is asked.
        request: Of the caller, with the caller's own deadline.
        adapted: The rows.
        limit_s: The deadline where the caller gave none; None for the one that suits the number of rows.
    """
    asked, expected = serving_slots(cluster, committed), expected_slots(cluster, committed)
    fan_out = FanOut(cluster, Question(committed, adapted.x, usual=not adapted.ood))
    for slot in expected:
        if slot not in asked:
            fan_out.excluded[slot.name] = slot.last_error or slot.state
    bundle = committed.bundle
    stand_in = bundle.roles.uses("student") and not bundle.robust
    patience_s = None if request.deadline_ms is not None or stand_in else LATE_ANSWER_S
    if limit_s is None or request.deadline_ms is not None:
        limit_s = deadline_s(cluster.context, request, len(adapted.x))
    needed = robust_quorum(len(expected), 0).needed if bundle.robust else 1
    await fan_out.ask(asked, limit_s, patience_s, needed)
    return fan_out


def nobody_answered(
    cluster: LiveCluster, committed: CommittedVersion, fan_out: FanOut
) -> NoServingNode:
    """What to say where no serving node answered in time."""
    expected = expected_slots(cluster, committed)
    return NoServingNode(
        f"0 of {len(expected)} serving nodes answered ({fan_out.asked} asked, deadline"
        f" {fan_out.limit_s * 1e3:.0f} ms): {_told(fan_out.excluded)}",
        hint=next_step(expected, "call neural_predict_distributed again, or raise deadline_ms"),
    )


def _told(excluded: Mapping[str, str]) -> str:
    """Why slots did not answer, a few of them."""
    told = [
        f"{slot}: {shortened(reason, MAX_REASON_CHARS)}"
        for slot, reason in list(excluded.items())[:4]
    ]
    return "; ".join(told) + (f" and {len(excluded) - 4} more" if len(excluded) > 4 else "")
