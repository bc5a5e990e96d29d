"""Shortens a status to a size that suits a model, with a warning about what was left out."""

from collections.abc import Callable

from flow_nexus_neural.server.rounding import OnWire
from flow_nexus_neural.server.schemas import StatusResult

MAX_STATUS_BYTES = 24_000
N_POINTS = 5
N_SESSIONS = 5
N_EVENTS = 5
N_LINKS = 48


def short_enough(status: StatusResult) -> OnWire[StatusResult]:
    """Leave out parts that are available elsewhere, step by step, until the status has at most 24,000 bytes.

    A status of usual size is returned unchanged.
    """
    steps: tuple[tuple[Callable[[StatusResult], StatusResult], str], ...] = (
        (_with_short_history, "history was thinned; the resource {uri}/history has every round"),
        (_without_good_proofs, "`pol` of nodes whose proofs were all valid was left out"),
        (_with_short_nodes, "`last_error` of nodes was left out to keep this short"),
        (_without_shards, "`training.shards` was left out to keep this short"),
        (
            _with_last_events,
            f"only the last {N_EVENTS} events of daa are listed; {{uri}}/audit has more",
        ),
        (
            _with_bad_links,
            f"of more than {N_LINKS} `links` those that work were left out to keep this short",
        ),
        (_with_last_sessions, f"only the last {N_SESSIONS} training sessions are listed"),
    )
    now = OnWire(status)
    for shorten, notice in steps:
        if now.n_bytes <= MAX_STATUS_BYTES:
            break
        shorter = shorten(now.result)
        if shorter is not now.result:
            uri = f"neural://clusters/{status.cluster_id}"
            warnings = [*shorter.warnings, notice.format(uri=uri)]
            now = OnWire(shorter.model_copy(update={"warnings": warnings}))
    return now


def _with_short_history(status: StatusResult) -> StatusResult:
    points = status.history
    if len(points) <= N_POINTS:
        return status
    last = len(points) - 1
    kept = [points[round(i * last / (N_POINTS - 1))] for i in range(N_POINTS)]
    return status.model_copy(update={"history": kept})


def _with_bad_links(status: StatusResult) -> StatusResult:
    """Links that do not work stay."""
    if status.links is None or len(status.links) <= N_LINKS:
        return status
    bad = [link for link in status.links if link.fault is not None]
    return status.model_copy(update={"links": bad[:N_LINKS]})


def _with_last_events(status: StatusResult) -> StatusResult:
    """The newest events of autonomy, and as many of the nodes that are gone."""
    events, gone = status.daa.events, status.retired_nodes
    if len(events) <= N_EVENTS and len(gone) <= N_EVENTS:
        return status
    daa = status.daa.model_copy(update={"events": events[-N_EVENTS:]})
    return status.model_copy(update={"daa": daa, "retired_nodes": gone[-N_EVENTS:]})


def _without_good_proofs(status: StatusResult) -> StatusResult:
    """What was found wrong with a node's proofs stays."""
    nodes = [
        node
        if node.pol is None or node.pol["last_reason"] is not None
        else node.model_copy(update={"pol": None})
        for node in status.nodes
    ]
    return status if nodes == status.nodes else status.model_copy(update={"nodes": nodes})


def _with_short_nodes(status: StatusResult) -> StatusResult:
    nodes = [node.model_copy(update={"last_error": None}) for node in status.nodes]
    return status if nodes == status.nodes else status.model_copy(update={"nodes": nodes})


def _without_shards(status: StatusResult) -> StatusResult:
    training = status.training
    if training is None or training.shards is None:
        return status
    return status.model_copy(update={"training": training.model_copy(update={"shards": None})})


def _with_last_sessions(status: StatusResult) -> StatusResult:
    sessions = status.training_sessions
    if len(sessions) <= N_SESSIONS:
        return status
    return status.model_copy(update={"training_sessions": sessions[-N_SESSIONS:]})
