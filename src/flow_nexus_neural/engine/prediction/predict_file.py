"""Predicting a file, or into one: batch by batch with one version, in the background of its calls.

A call waits for the end as long as hosts wait for a reply; after that it is answered with how far the file
is, and the same call again waits on. Who cancels a call that waits ends the work, and nothing is left of it.
"""

from typing import TYPE_CHECKING

import anyio

from flow_nexus_neural.data.output_place import OutputPlace, output_place
from flow_nexus_neural.data.records import MAX_RECORDS
from flow_nexus_neural.data.writers.by_suffix import check_suffix, row_writer
from flow_nexus_neural.data.writing import OutputFile
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.prediction.answer import Answer
from flow_nexus_neural.engine.prediction.consult import with_roles
from flow_nexus_neural.engine.prediction.file_input import (
    FileInput,
    read_input,
    refuse_same_file,
    rows_per_batch,
)
from flow_nexus_neural.engine.prediction.file_output import (
    Tally,
    output_cells,
    output_columns,
    report_of_all,
)
from flow_nexus_neural.engine.prediction.pinned import PinnedVersion
from flow_nexus_neural.engine.prediction.predict import (
    answer_from,
    bring_back,
    in_force,
    refuse_more,
)
from flow_nexus_neural.engine.prediction.question import MAX_DEADLINE_S
from flow_nexus_neural.engine.prediction.reply import NODE_ANSWERS_LEFT_OUT, report, served
from flow_nexus_neural.engine.prediction.weighting import weights_of
from flow_nexus_neural.engine.reports import PredictedFile, PredictionReport
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.surface import Progress
from flow_nexus_neural.errors import (
    InvalidArguments,
    InvalidRecord,
    NeuralError,
    NotAvailable,
    Overloaded,
    ShuttingDown,
)

if TYPE_CHECKING:
    from flow_nexus_neural.data.table_adapter import AdaptedRows
    from flow_nexus_neural.data.writers.row_writer import OutputColumn, RowWriter

ANSWER_WITHIN_S = 45.0
"""Hosts give a call 60 s."""
KEPT_S = 600.0
"""How long the same call is told what became of the work; after that it means to have it done anew."""


async def predict_file(
    cluster: LiveCluster, request: PredictRequest, progress: Progress | None
) -> PredictionReport:
    """Predict the rows of a file, or write predictions into one.

    Raises:
        NotTrained, NoServingNode, Overloaded: As `predict`.
        InvalidArguments, PathNotAllowed, NotAvailable: The paths cannot be used; nothing was written.
        InvalidRecord, NoKnownFeature, InvalidDataset, LimitExceeded, DatasetNotFound: The input cannot be
            used.
        StoreUnavailable: The disk refuses; nothing is left.
    """
    _refuse_contradictions(request)
    if request.output_path is None:
        job = FileJob(cluster, request, in_force(cluster, request))
        refuse_more(cluster)
        await job.run()
        return job.outcome()
    job = _job_of(cluster, request)
    try:
        job.waiting += 1
        with anyio.move_on_after(ANSWER_WITHIN_S):
            await job.wait(progress)
    except anyio.get_cancelled_exc_class():
        if job.waiting == 1:
            with anyio.CancelScope(shield=True):
                await job.stop()
            _forget(cluster, job)
        raise
    finally:
        job.waiting -= 1
    if not job.finished.is_set():
        return job.so_far()
    _forget(cluster, job)
    return job.outcome()


def _refuse_contradictions(request: PredictRequest) -> None:
    """Raises `InvalidArguments` for arguments that would do nothing beside the others."""
    if request.input_data is not None and request.input_path is not None:
        raise InvalidArguments(
            "input_data and input_path are both given", hint="give the records or their file"
        )
    if request.outcomes is not None:
        raise InvalidArguments(
            "outcomes do not go with a file",
            hint="send them with input_data, in a call of their own",
        )
    if request.output_path is None and request.overwrite:
        raise InvalidArguments(
            "overwrite without output_path", hint="give output_path too, or leave overwrite out"
        )
    if request.output_path is not None and request.detail == "full":
        raise InvalidArguments(
            "detail full has no effect on a file: it holds no answers of single nodes",
            hint="leave detail or output_path out",
        )


def _job_of(cluster: LiveCluster, request: PredictRequest) -> "FileJob":
    """The work that these arguments ask for, if it goes on or nobody knows its end yet; else a new one."""
    job = cluster.file
    if isinstance(job, FileJob):
        if job.request == request and not job.outdated:
            return job
        if not job.finished.is_set():
            raise Overloaded(
                f"this cluster is predicting a file: {job.told()}",
                hint="call neural_predict_distributed again when that is written; the same call waits for it",
            )
    if cluster.context.settings.read_only:
        raise NotAvailable(
            "this server was started with --read-only and writes no files",
            hint="leave output_path out",
        )
    made = FileJob(cluster, request, in_force(cluster, request))
    refuse_more(cluster)
    cluster.begin_file(made)
    cluster.context.spawn(made.run)
    return made


def _forget(cluster: LiveCluster, job: "FileJob") -> None:
    if cluster.file is job:
        cluster.end_file()


class FileJob:
    """The predictions of all rows of one request, with one version.

    Attributes:
        waiting: Calls that wait for it.
    """

    def __init__(
        self, cluster: LiveCluster, request: PredictRequest, committed: CommittedVersion
    ) -> None:
        self.request = request
        self.waiting = 0
        self.finished = anyio.Event()
        self._cluster = cluster
        self._committed = committed
        self._pinned = PinnedVersion(cluster, committed)
        self._weighting = weights_of(cluster, committed, request)
        self._tally = Tally(committed.schema, weighting=self._weighting)
        self._rows: int | None = None
        self._columns: tuple[OutputColumn, ...] = ()
        self._place: OutputPlace | None = None
        self._report: PredictionReport | None = None
        self._failure: Exception | None = None
        self._scope = anyio.CancelScope()
        self._stepped = anyio.Event()
        self._began_s = cluster.clock()
        self._ended_s = float("inf")
        self._prediction_id = cluster.context.new_id("prd")

    async def run(self) -> None:
        """Do it; never raises what its callers should hear."""
        try:
            with self._scope, self._cluster.state.answering():
                self._report = await self._predict()
        except Exception as failure:  # noqa: BLE001 - it is the caller's, who is told by `outcome`
            self._failure = _without_traces(failure)
        finally:
            # What it kept of the rows can be much.
            self._tally = Tally(self._committed.schema, weighting=self._weighting)
            self._ended_s = self._cluster.clock()
            self._step()
            self.finished.set()

    @property
    def outdated(self) -> bool:
        """Whether it ended too long ago for a call to be about it."""
        return self._cluster.clock() - self._ended_s > KEPT_S

    async def stop(self) -> None:
        """End it; nothing of its output is left when this returns."""
        self._scope.cancel()
        await self.finished.wait()

    async def wait(self, progress: Progress | None) -> None:
        """Return when it has ended; report how far it is meanwhile."""
        while not self.finished.is_set():
            if progress is not None and self._rows:
                await progress(self._tally.rows_done, self._rows, self.told())
            await self._stepped.wait()

    def told(self) -> str:
        """How far it is, in words."""
        if self._rows is None:
            return "its input is being read"
        return f"{self._tally.rows_done} of {self._rows} rows are predicted"

    def outcome(self) -> PredictionReport:
        """What came of it. Raises what went wrong."""
        if self._failure is not None:
            raise self._failure
        if self._report is None:
            self._cluster.state.refuse_ended()
            raise ShuttingDown(
                "the prediction of the file was ended before it was complete; nothing was written",
                hint="call neural_predict_distributed again",
            )
        return self._report

    def so_far(self) -> PredictionReport:
        """What is known while it goes on."""
        again = (
            f"{self.told()}; the file is not there yet. The work goes on: the same call again waits for its"
            " end"
        )
        made = self._summary(self._cluster.clock() - self._began_s)
        return made.model_copy(update={"warnings": [again, *made.warnings]})

    async def _predict(self) -> PredictionReport:
        context, request = self._cluster.context, self.request
        if request.output_path is None:
            source = await context.read_data(read_input, request, self._committed, context.settings)
            return await self._in_reply(source)
        roots, state_dir = context.settings.write_roots, context.settings.state_dir
        place = await context.offload(output_place, request.output_path, roots, state_dir)
        check_suffix(place.suffix, place.name)
        refuse_same_file(request, place, context.settings)
        self._place = place
        output = await context.offload(_opened, place, request.overwrite)
        try:
            source = await context.read_data(read_input, request, self._committed, context.settings)
            return await self._into(output, source)
        finally:
            with anyio.CancelScope(shield=True):
                await context.offload(output.abandon)

    async def _in_reply(self, source: FileInput) -> PredictionReport:
        """The answers to a file of few rows, as to a list of records."""
        if source.rows > MAX_RECORDS:
            raise InvalidArguments(
                f"the file has {source.rows} rows; a reply holds at most {MAX_RECORDS}",
                hint="give output_path too, such as predictions.csv, and read the file",
            )
        rows = source.read(0, source.rows)
        for numbers, why in (
            (~rows.known, "gives none of"),
            (~rows.whole, "lacks rows before it for"),
        ):
            if numbers.any():
                raise InvalidRecord(
                    f"row {int(numbers.argmax())} {why} the model's inputs, as {int(numbers.sum())} rows do",
                    hint="give output_path too: such rows are empty in the file; or leave them out",
                )
        await bring_back(self._cluster, self.request)
        answer = await self._ask(rows)
        made = report(self._cluster.cluster_id, self._prediction_id, answer)
        return made.model_copy(update={"warnings": [*made.warnings, *source.warnings]})

    async def _into(self, output: OutputFile, source: FileInput) -> PredictionReport:
        context = self._cluster.context
        self._rows = source.rows
        self._tally.labels = source.labels
        self._tally.warnings |= dict.fromkeys(source.warnings)
        self._columns = output_columns(self._committed.schema, source.id_names)
        self._step()
        await bring_back(self._cluster, self.request)
        writer = await context.offload(row_writer, output.place.suffix, output, self._columns)
        size = rows_per_batch(self._committed)
        for first in range(0, source.rows, size):
            end = min(first + size, source.rows)
            rows = await context.offload(source.read, first, end)
            answer = await self._ask(rows)
            await context.offload(self._write, writer, source, first, rows, answer)
            self._step()
        await context.offload(_finish, writer, output)
        gaps = self._gaps(self._tally.without - self._tally.undecided)
        self._tally.warnings |= dict.fromkeys(gaps)
        seconds = self._cluster.clock() - self._began_s  # a thread has no clock
        return await context.offload(self._summary, seconds, output)

    async def _ask(self, rows: "AdaptedRows") -> Answer:
        cluster, request, began_s = self._cluster, self.request, self._cluster.clock()
        gathered = await self._pinned.ask(request, rows.adapted)
        read = (self._pinned.version, rows.adapted)
        answer = answer_from(cluster, request, read, (gathered, self._weighting), began_s)
        return await with_roles(cluster, answer, cluster.clock() + MAX_DEADLINE_S)

    def _write(
        self,
        writer: "RowWriter",
        source: FileInput,
        first: int,
        rows: "AdaptedRows",
        answer: Answer,
    ) -> None:
        """Make the replies to a batch and append its rows. Blocking."""
        made_of = served(answer)
        made = report(self._cluster.cluster_id, self._prediction_id, answer, made_of)
        kept = [w for w in made.warnings if not w.startswith(NODE_ANSWERS_LEFT_OUT)]
        made = made.model_copy(update={"warnings": kept})
        ids = [cells[first : first + len(rows.known)] for cells in source.ids]
        usable = rows.usable
        writer.write(output_cells(self._columns, made, first, usable.tolist(), ids))
        self._tally.add(made, made_of.final, rows.adapted, usable)

    def _summary(self, seconds: float, output: OutputFile | None = None) -> PredictionReport:
        """The reply; of the whole file once there is one."""
        cluster, tally = self._cluster, self._tally
        made = report_of_all(
            cluster.cluster_id,
            self._prediction_id,
            self.request,
            self._committed,
            tally,
            seconds * 1e3,
        )
        told = PredictedFile(
            status="running" if output is None else "written",
            path=str(self._place.path if self._place else self.request.output_path),
            columns=[column.name for column in self._columns],
            rows=self._rows,
            rows_done=tally.rows_done,
            rows_without_prediction=tally.without,
            bytes=None if output is None else output.n_bytes,
            sha256=None if output is None else output.sha256,
            seconds=seconds,
            batches=tally.batches,
            degraded_batches=tally.degraded,
            class_counts=None if self._committed.schema.classes is None else dict(tally.classes),
            measured=None if output is None else tally.measured(self.request),
        )
        return made.model_copy(update={"output": told})

    def _gaps(self, missing: int) -> list[str]:
        if not missing:
            return []
        window = self._committed.schema.input.window
        also = (
            f", or have fewer than {window - 1} rows of their series before them" if window else ""
        )
        return [f"{missing} rows give none of the model's inputs{also}: they have no prediction"]

    def _step(self) -> None:
        self._stepped.set()
        self._stepped = anyio.Event()


def _without_traces(failure: Exception) -> Exception:
    """A failure that may wait for its caller: its traces would hold all that was read as long as that."""
    if isinstance(failure, NeuralError):
        failure.__context__ = failure.__cause__ = failure.__traceback__ = None
    return failure


def _opened(place: OutputPlace, overwrite: bool) -> OutputFile:  # noqa: FBT001 - called by position
    return OutputFile(place, overwrite=overwrite)


def _finish(writer: "RowWriter", output: OutputFile) -> None:
    writer.finish()
    output.publish()
