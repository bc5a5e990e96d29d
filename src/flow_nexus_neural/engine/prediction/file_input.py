"""The rows of a prediction, from a file or from the call itself, in parts that one question holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from flow_nexus_neural.data.adapter import MAX_VALUES, adapt
from flow_nexus_neural.data.file_labels import FileLabels, label_column, labels_in_file
from flow_nexus_neural.data.file_series import series_in_file
from flow_nexus_neural.data.opening import resolved_path
from flow_nexus_neural.data.output_place import OutputPlace
from flow_nexus_neural.data.records import MAX_RECORDS
from flow_nexus_neural.data.resolve import resolve_file
from flow_nexus_neural.data.row_numbers import ROW_NUMBER
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.data.table import Table, TextColumn, number_text
from flow_nexus_neural.data.table_adapter import AdaptedRows, TableAdapter
from flow_nexus_neural.data.writers.row_writer import Value
from flow_nexus_neural.engine.prediction.file_output import OWN_COLUMNS
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.settings import Settings

BATCH_PRODUCTS = 10_000_000
"""Multiplications of one batch, roughly: some 10 ms of a node, behind which other predictions wait."""
MIN_BATCH = 16
TIME = "time"
"""The reason for which a column of times was left out of the inputs."""


@dataclass(frozen=True)
class FileInput:
    """Rows to predict.

    Attributes:
        rows: How many.
        read: (first, end) to these rows as network input.
        id_names: Columns that say which row it is.
        ids: Their cells of all rows, one sequence per column.
        labels: What the rows are labelled with; None where that is unknown.
        warnings: For the caller.
    """

    rows: int
    read: Callable[[int, int], AdaptedRows]
    id_names: list[str] = field(default_factory=list)
    ids: list[Sequence[Value]] = field(default_factory=list)
    labels: FileLabels | None = None
    warnings: list[str] = field(default_factory=list)


def rows_per_batch(committed: CommittedVersion) -> int:
    """Rows of one question: a function of the model alone, since another number could round differently."""
    schema = committed.schema
    products = max(
        network.plan.n_params * (schema.input.window or schema.input.vector_length or 1)
        for network in committed.networks.values()
    )
    fitting = min(MAX_RECORDS, MAX_VALUES // schema.input.flat_width)
    return max(1, min(fitting, max(MIN_BATCH, BATCH_PRODUCTS // max(1, products))))


def read_input(
    request: PredictRequest, committed: CommittedVersion, settings: Settings
) -> FileInput:
    """Read the rows of a request. Blocking.

    Raises:
        InvalidRecord, NoKnownFeature, InvalidDataset, LimitExceeded, DatasetNotFound, PathNotAllowed: They
            cannot be used.
    """
    if request.input_path is None:
        adapted = adapt(committed.schema, request.input_data)
        every = np.ones(len(adapted.x), dtype=np.bool_)
        return FileInput(len(every), lambda _first, _end: AdaptedRows(adapted, every, every))
    source = resolve_file(request.input_path, settings)
    return _of_table(_with_target(source.table, committed.schema, source.name), committed)


def refuse_same_file(request: PredictRequest, place: OutputPlace, settings: Settings) -> None:
    """Raises `InvalidArguments` where the output would replace the input."""
    named = (request.input_path or "").strip().removeprefix("file://")
    if not named or "\0" in named:
        return
    if any(resolved_path(root / named) == place.path for root in settings.data_roots):
        raise InvalidArguments(
            f"output_path '{place.name}' is the input", hint="give another output_path"
        )


def _of_table(table: Table, committed: CommittedVersion) -> FileInput:
    schema, dataset = committed.schema, committed.dataset
    ahead = _rows_ahead(committed)
    by_window = schema.input.window is not None and not table.channels
    labelled = label_column(schema, table) is not None
    series = None
    warnings = [*table.remarks]
    if by_window or (ahead and labelled):
        times = [left_out.name for left_out in dataset.excluded_columns if left_out.reason == TIME]
        series = series_in_file(schema, table, times)
        warnings += series.warnings
    adapter = TableAdapter(schema, table, series if by_window else None)
    labels = labels_in_file(schema, table, series, ahead)
    names, ids = _ids(schema, table, committed)
    return FileInput(
        rows=table.rows,
        read=lambda first, end: adapter.read(np.arange(first, end)),
        id_names=names,
        ids=ids,
        labels=labels,
        warnings=[*warnings, *adapter.warnings, *(labels.warnings if labels else ())],
    )


def _with_target(table: Table, schema: DataSchema, name: str) -> Table:
    """The rows with the last column of a matrix as the target where it is one more than the inputs."""
    if not name.lower().endswith(".npy") or schema.target_name is None:
        return table
    *inputs, last = table.columns
    if inputs != [spec.name for spec in schema.columns]:
        return table
    return replace(
        table,
        columns={**{n: table.columns[n] for n in inputs}, schema.target_name: table.columns[last]},
    )


def _rows_ahead(committed: CommittedVersion) -> int:
    """How many rows later a file holds the label of a row: the built-in market's label looks ahead itself."""
    schema = committed.schema
    market = committed.dataset.synthetic and len(schema.symbols) > 1
    own = 1 if market and schema.target_name is not None else 0
    return max(0, schema.horizon - own)


def _ids(
    schema: DataSchema, table: Table, committed: CommittedVersion
) -> tuple[list[str], list[Sequence[Value]]]:
    """The client of a row, and the column that numbered the training rows where the file has it."""
    names: list[str] = []
    cells: list[Sequence[Value]] = []
    taken = {"row", *OWN_COLUMNS, *(f"p_{label}" for label in schema.classes or ())}
    if table.client_of is not None:
        names.append("client")
        cells.append([table.clients[index] for index in table.client_of])
    for left_out in committed.dataset.excluded_columns:
        column = table.columns.get(left_out.name)
        if left_out.reason != ROW_NUMBER or column is None or left_out.name in {*taken, *names}:
            continue
        names.append(left_out.name)
        if isinstance(column, TextColumn):
            texts: list[Value] = [*column.levels, None]
            cells.append([texts[code] for code in column.codes])
        else:
            flat = np.asarray(column, dtype=np.float64).reshape(table.rows, -1)[:, 0]
            cells.append([None if np.isnan(v) else number_text(v) for v in flat.tolist()])
        break
    return names, cells
