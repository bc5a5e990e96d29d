"""A plot of a cluster: what is known of it at one moment, drawn in a worker thread, written where asked."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

from flow_nexus_neural.artifacts.plots.figure import Figure
from flow_nexus_neural.artifacts.plots.rendering import SUFFIXES, Rendering, render, usual_format
from flow_nexus_neural.data.output_place import OutputPlace, output_place
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.data.writing import OutputFile
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.figures.kinds import FIGURES
from flow_nexus_neural.engine.figures.seen import Copied, RecordedLinks, Seen, SeenOutcome
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.operations.status import status_report
from flow_nexus_neural.engine.reports import PlotReport
from flow_nexus_neural.engine.requests import PlotRequest, StatusRequest
from flow_nexus_neural.engine.state.feedback import RecordedOutcome
from flow_nexus_neural.engine.storage.store import Store
from flow_nexus_neural.errors import InvalidArguments, NotAvailable, NotTrained, NoWorkers
from flow_nexus_neural.vocabulary import Label, PlotFormat


async def plot(
    cluster: LiveCluster, request: PlotRequest, copied: Copied | None = None
) -> PlotReport:
    """Draw one kind of plot.

    Args:
        cluster: Of this server, or of the copy of a state directory that another server has.
        request: What to draw.
        copied: What the copy was made of; None where the server itself draws its cluster.

    Raises:
        ClusterTerminated: It has ended, and only a living one could get what it would show.
        NotTrained, NotAvailable, NoWorkers: What it would show was not measured, or it cannot be drawn here.
        InvalidArguments, PathNotAllowed: The path cannot be used.
        StoreUnavailable: The disk refuses; nothing is left.
    """
    context, place = cluster.context, None
    chosen = request.format or (usual_format() if request.path is None else _named(request.path))
    if request.path is not None:
        place = await _place(context, request.path, chosen)
    elif request.overwrite:
        raise InvalidArguments("overwrite is of a file, and no path is given", hint="give a path")
    figure = _figure(cluster, request, await _seen(cluster, copied))
    made = await context.offload_data(render, figure, chosen)
    written = None
    if place is not None:
        written = await context.offload_data(_write, place, made, request.overwrite)
    return PlotReport(
        cluster_id=cluster.cluster_id,
        kind=request.kind,
        format=made.format,
        content=made.content,
        text=made.text,
        path=str(place.path) if place else None,
        sha256=written,
    )


def _figure(cluster: LiveCluster, request: PlotRequest, seen: Seen) -> Figure:
    try:
        return FIGURES[request.kind](seen)
    except (NotTrained, NoWorkers):
        cluster.state.refuse_ended()
        raise
    except NotAvailable:
        if request.kind in ("latency", "learning_curve"):
            cluster.state.refuse_ended()
        raise


def _named(path: str) -> PlotFormat:
    """The format that the suffix of a path names."""
    for name, suffixes in SUFFIXES.items():
        if path.strip().lower().endswith(suffixes):
            return name
    return usual_format()


async def _place(context: EngineContext, path: str, chosen: PlotFormat) -> OutputPlace:
    settings = context.settings
    if settings.read_only:
        raise NotAvailable("a read-only server writes no file", hint="leave path out")
    placed = partial(output_place, notes_dir=settings.notes_dir)
    place = await context.offload_data(
        placed, path, settings.write_roots, settings.state_dir, "path"
    )
    if place.suffix not in SUFFIXES[chosen]:
        raise InvalidArguments(
            f"path '{place.name}' does not end in {SUFFIXES[chosen][0]}, as a file of format {chosen} does",
            hint=f"give a name like plot{SUFFIXES[chosen][0]}, or another format",
        )
    return place


async def _seen(cluster: LiveCluster, copied: Copied | None) -> Seen:
    """What is known now."""
    request = StatusRequest(cluster_id=cluster.cluster_id, detail="full")
    status = await status_report(cluster, request, changed=False, timed_out=False)
    context, training, committed = cluster.context, cluster.state.latest_training, cluster.committed
    if training is not None and copied is not None and training.training_id in copied.running:
        status = status.model_copy(update={"training_status": "running"})
    outcomes, without = [], 0
    if committed is not None and cluster.state.feedback.kept:
        stored, _ = await context.store.outcomes(cluster.cluster_id)
        outcomes = list(seen_outcomes(committed.schema, stored))
        without = len(stored) - len(outcomes)
    return Seen(
        status=status,
        schema=committed.schema if committed is not None else None,
        history=tuple(training.history) if training else (),
        predict_ms=tuple(cluster.metrics.predict_ms.values()),
        outcomes=tuple(outcomes),
        outcomes_without_answer=without,
        copied=copied,
        recorded_links=None
        if copied is None
        else await recorded_links(context.store, cluster.cluster_id),
    )


async def recorded_links(store: Store, cluster_id: str) -> RecordedLinks | None:
    """The links of the ledger's last entry about them; None where the nodes were never linked."""
    stored = await store.load(cluster_id)
    for entry in reversed(stored.ledgers.get(cluster_id, ())):
        if entry["kind"] == "topology":
            edges = cast("list[tuple[str, str]]", entry["edges"])
            return RecordedLinks(
                str(entry["topology"]),
                str(entry["at"]),
                tuple((one, other) for one, other in edges),
            )
    return None


def seen_outcomes(schema: DataSchema, stored: Sequence[RecordedOutcome]) -> Iterator[SeenOutcome]:
    """Outcomes of the same kind of data of which it is known what had been predicted."""
    for one in stored:
        answer = one.answer
        if one.schema_digest != schema.digest or answer is None or answer.prediction is None:
            continue
        yield SeenOutcome(
            at=one.at,
            prediction=answer.prediction,
            confidence=answer.confidence,
            low=answer.low,
            high=answer.high,
            outcome=_in_words(schema, one.outcome),
        )


def _in_words(schema: DataSchema, outcome: float) -> Label:
    """A class by its label, a value in the target's unit."""
    if schema.task == "regression":
        return outcome * schema.target_sd + schema.target_mean
    return schema.classes[int(outcome)] if schema.classes else int(outcome)


def _write(place: OutputPlace, made: Rendering, overwrite: bool) -> str:  # noqa: FBT001  an offloaded call
    """Write a plot, whole or not at all; its sha256. Blocking."""
    file = OutputFile(place, overwrite=overwrite)
    try:
        file.write(made.content)
        file.publish()
    finally:
        file.abandon()
    return file.sha256
