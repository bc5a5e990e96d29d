"""Prepares data for a training: reads, checks, splits and scales it. The entry point of the data layer.

Everything that is learnt from data (scaling, categories, medians) is learnt from training rows only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.column_names import outcomes_among
from flow_nexus_neural.data.columns import ColumnChoice, Layout, lay_out
from flow_nexus_neural.data.folds import Fold, earlier_folds, span_of
from flow_nexus_neural.data.last_value import known_before, last_known
from flow_nexus_neural.data.market import with_lags
from flow_nexus_neural.data.matrix import Matrix, scaled_matrix, without_leaks
from flow_nexus_neural.data.memory import return_free_memory
from flow_nexus_neural.data.options import DataRequest, SourceOptions, read_options
from flow_nexus_neural.data.part_classes import (
    lacking_classes,
    lacking_in_folds,
    require_classes,
)
from flow_nexus_neural.data.part_sizes import SplitRule
from flow_nexus_neural.data.positive_class import with_positive_class
from flow_nexus_neural.data.remarks import remarks_on, unknown_values
from flow_nexus_neural.data.resolve import Source, resolve
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.schema import DataSchema, Description
from flow_nexus_neural.data.series import (
    Series,
    Windows,
    last_rows,
    require_windows,
    run_within,
    series_of,
    windows_in,
)
from flow_nexus_neural.data.splits import Split, split_by_time, split_stratified
from flow_nexus_neural.data.table import Indices, Table, check_size
from flow_nexus_neural.data.targets import Labels, label_rows
from flow_nexus_neural.data.written_numbers import with_numbers
from flow_nexus_neural.errors import InvalidArguments, InvalidDataset, NeuralError
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.settings import Settings

__all__ = ["DataRequest", "Fold", "PreparedData", "Rows", "prepare"]


@dataclass(frozen=True)
class PreparedData:
    """Data ready for training.

    Attributes:
        description: What the training reports about the data.
        schema: How records to predict for are read and scaled.
        parts: Rows by part: train, select, meta, verify, calib, test; a part may be empty.
        clients: Names of clients, when the source is divided by client.
        warnings: For the caller.
        whole: All samples with a label, also those dropped at cuts and the test rows, in the order of the
            parts and scaled as they are; None without `refit` and `folds`.
        refit: Whether the final model is to be trained again on `whole`.
        folds: The earlier folds of a walk-forward split, earliest first; `parts` are the last fold.
        test_span: Times of the first and the last test row of the last fold; None without folds or dates.
        replay: Rows that a later training on outcomes may replay, where these are not the train rows.
        replayed: How many of the train rows, the first, are replayed ones.
        crossing: Whether those who learn from rows that the workers have not seen have none, so that they
            need answers out of fold.
        gap: Rows over which a label or a window reaches; None for rows without an order.
    """

    description: Description
    schema: DataSchema
    parts: Mapping[str, Rows]
    clients: tuple[str, ...]
    warnings: list[str]
    whole: Rows | None = None
    refit: bool = False
    folds: tuple[Fold, ...] = ()
    test_span: tuple[str | None, str | None] = (None, None)
    replay: Rows | None = None
    replayed: int = 0
    crossing: bool = False
    gap: int | None = None


@dataclass(frozen=True)
class _Draft:
    """A data set with its columns, series, labels and split, before scaling."""

    source: Source
    layout: Layout
    series: Series
    labels: Labels
    rule: SplitRule
    split: Split

    @property
    def usable(self) -> Indices:
        """Rows that have a label, in the order of the parts: by time, then series, where rows have one."""
        usable = np.flatnonzero(self.labels.usable)
        if not self.series.ordered:
            return usable
        return usable[np.lexsort((self.series.of_row[usable], self.series.time[usable]))]


def prepare(request: DataRequest, settings: Settings) -> PreparedData:
    """Read, check, split and scale a data set. Blocking; meant for a worker thread.

    Raises:
        InvalidArguments: If an option or a named column does not exist or contradicts another.
        DatasetNotFound: If nothing has the name.
        PathNotAllowed: If a path leads out of the data roots.
        SourceUnavailable: If the data would have to be downloaded.
        NotAvailable: If an optional library is missing.
        InvalidDataset: If the data cannot be learnt from.
        DataTooSmall: If there are fewer than 30 usable rows.
        LimitExceeded: If the data are too large.
    """
    try:
        return _prepare(request, settings)
    except NeuralError as error:
        refusal = error
    # Its traces hold all that had been read of the data, for as long as anybody keeps the error.
    refusal.__context__ = refusal.__cause__ = None
    refusal.__traceback__ = None
    return_free_memory()
    raise refusal


def _prepare(request: DataRequest, settings: Settings) -> PreparedData:
    request, options = read_options(request)
    source = _source(request, options, settings)
    draft = _draft(source, request, options)
    train = draft.split.rows["train"]
    matrix = scaled_matrix(source.table, draft.layout, train)
    gaps = unknown_values(draft.layout.features)
    draft = _without_values(draft)
    source = draft.source
    matrix = without_leaks(matrix, draft.labels, train, _kept_anyway(request, draft))
    refit = draft.series.ordered if request.refit is None else request.refit
    samples, whole = _samples(draft, matrix, request.window, whole=refit or bool(request.folds))
    folds: tuple[Fold, ...] = ()
    if whole is not None and request.folds:
        folds = earlier_folds(draft.usable, whole, draft.series, draft.rule, draft.split.starts)
    schema = _schema(draft, matrix, request.window)
    parts, all_rows = _parts(samples, whole, matrix.x, draft, schema)
    return PreparedData(
        description=_describe(draft, matrix, schema, parts),
        schema=schema,
        parts=parts,
        clients=source.table.clients,
        warnings=[
            *source.warnings,
            *draft.layout.warnings,
            *draft.series.warnings,
            *draft.split.warnings,
            *matrix.warnings,
            *gaps,
            *lacking_classes(schema.classes, parts),
            *([] if all_rows is None else lacking_in_folds(schema.classes, all_rows, folds)),
            *remarks_on(matrix, draft.labels, draft.split.rows, samples),
        ],
        whole=all_rows,
        refit=refit,
        folds=folds,
        test_span=span_of(last_rows(samples["test"]), draft.series) if folds else (None, None),
        crossing=draft.rule.verifying and not len(parts["calib"]),
        gap=draft.rule.gap if draft.series.ordered else None,
    )


def _source(request: DataRequest, options: SourceOptions, settings: Settings) -> Source:
    source = resolve(request.dataset, settings, rows=options.rows, seed=options.seed)
    if options.rows is not None and not source.synthetic:
        raise InvalidArguments(
            f"option rows={options.rows} is for generators; these data have {source.table.rows} rows",
            hint="remove rows=",
        )
    if source.table.channels and request.window is not None:
        raise InvalidArguments(
            f"window={request.window}, but every row is a sequence already", hint="remove window"
        )
    source = replace(source, table=_with_numbers(source, request))
    source.warnings.extend(source.table.remarks)
    if source.market and not source.synthetic:
        table, notes = with_lags(source.table)
        return replace(source, table=table, warnings=[*source.warnings, *notes])
    return source


def _with_numbers(source: Source, request: DataRequest) -> Table:
    labels = {name.lower() for name in (request.target, source.target) if name}
    inputs = {name.lower() for name in request.features or ()}
    names = list(source.table.columns)
    return with_numbers(
        source.table,
        [name for name in names if name.lower() in labels],
        [name for name in names if name.lower() in inputs],
    )


def _draft(source: Source, request: DataRequest, options: SourceOptions) -> _Draft:
    choice = ColumnChoice(
        target=request.target,
        time_column=request.time_column,
        features=request.features,
        horizon=request.horizon,
        given_target=source.target,
        given_reach=source.label_reach,
        exclude=request.exclude or (),
    )
    layout = lay_out(source.table, choice)
    series = series_of(source.table, layout, request.window)
    labels = label_rows(layout, series.order, series.of_row, request.task)
    seed = request.seed if options.seed is None or source.synthetic else options.seed
    window = request.window or 1
    rule = SplitRule(
        seed=seed,
        gap=labels.reach + window - 1,
        embargo=options.embargo,
        folds=request.folds,
        window=window,
        test_size=request.test_size,
        validation_size=request.validation_size,
        stacking=request.stacking,
        verifying=request.admitting or (request.doubting and labels.task != "regression"),
    )
    split = _split(source, series, labels, rule)
    require_classes(labels, split.rows["train"])
    # After the split, which thus stays the same whichever class is called positive.
    labels = with_positive_class(labels, request.positive_class)
    return _Draft(source, layout, series, labels, rule, split)


def _without_values(draft: _Draft) -> _Draft:
    """The draft with only the names of its columns: their values are in the matrix now."""
    nothing = np.empty(0)
    table = draft.source.table
    layout = replace(
        draft.layout,
        features=dict.fromkeys(draft.layout.features, nothing),
        target_column=None,
        price_column=None,
    )
    emptied = replace(table, columns=dict.fromkeys(table.columns, nothing))
    return replace(draft, source=replace(draft.source, table=emptied), layout=layout)


def _kept_anyway(request: DataRequest, draft: _Draft) -> tuple[str, ...]:
    """Columns that the leak check does not remove, even if they almost equal the label.

    A slowly changing value resembles its own future; in a forecast that is no leak.
    """
    forecast = draft.labels.task == "regression" and draft.layout.horizon > 0
    return tuple(draft.layout.features) if forecast else request.features or ()


def _split(source: Source, series: Series, labels: Labels, rule: SplitRule) -> Split:
    usable = np.flatnonzero(labels.usable)
    in_test = source.table.in_test
    if series.ordered:
        return split_by_time(usable, series.time, series.of_row, rule, in_test)
    if rule.embargo:
        raise InvalidArguments(
            f"embargo={rule.embargo} needs rows in time order",
            hint="name a time_column, or remove embargo",
        )
    strata = np.zeros(source.table.rows, dtype=np.int64)
    if labels.classes is not None:
        strata[usable] = labels.values[usable].astype(np.int64)
    if source.table.client_of is not None:
        strata += 64 * source.table.client_of.astype(np.int64)
    return split_stratified(usable, strata, rule, in_test)


def _samples(
    draft: _Draft, matrix: Matrix, window: int | None, *, whole: bool
) -> tuple[Mapping[str, Indices | Windows], Indices | Windows | None]:
    """The samples of every part, and those of the whole data if they are wanted."""
    usable = draft.usable if whole else None
    if window is None:
        return draft.split.rows, usable
    windows = {
        name: windows_in(rows, draft.series, window) for name, rows in draft.split.rows.items()
    }
    require_windows(windows, window)
    every = None if usable is None else windows_in(usable, draft.series, window)
    count = max(sum(len(rows) for rows in windows.values()), len(every or ()))
    check_size(count * window, matrix.x.shape[1], "the data set in windows")
    return windows, every


def _schema(draft: _Draft, matrix: Matrix, window: int | None) -> DataSchema:
    layout, labels = draft.layout, draft.labels
    width = matrix.x.shape[-1]
    steps = matrix.x.shape[1] if matrix.x.ndim == 3 else window
    vector = 0
    if steps is None and matrix.specs[0].kind == "vector":
        vector = matrix.specs[0].width
    mean, sd = 0.0, 1.0
    if labels.task == "regression":
        values = labels.values[draft.split.rows["train"]]
        mean, sd = float(values.mean()), float(values.std())
        if not (np.isfinite(sd) and sd > 0):
            raise InvalidDataset(
                f"target '{labels.name}' does not vary in the training rows",
                hint="give rows with different values",
            )
    outcomes = outcomes_among(draft.source.table.columns)
    return DataSchema(
        input=InputSpec(vector_length=vector, n_scalars=width - vector, window=steps),
        task=labels.task,
        classes=labels.classes,
        columns=tuple(matrix.specs),
        target=labels.name,
        target_name=layout.target,
        target_mean=mean,
        target_sd=sd,
        symbols=layout.symbols,
        time_ordered=draft.series.ordered,
        target_is_return=labels.is_return,
        horizon=labels.reach,
        outcome_names=tuple(outcomes),
    )


def _parts(
    samples: Mapping[str, Indices | Windows],
    whole: Indices | Windows | None,
    x: NDArray[np.float32],
    draft: _Draft,
    schema: DataSchema,
) -> tuple[dict[str, Rows], Rows | None]:
    """The rows of every part and of the whole; a part that is a run of the whole shares its memory."""
    before = known_before(draft.series, draft.labels)
    all_rows = None if whole is None else _rows(whole, x, draft, schema, before)
    parts = {}
    for name, own in samples.items():
        run = None if whole is None else run_within(own, whole, len(x))
        if all_rows is None or run is None:
            parts[name] = _rows(own, x, draft, schema, before)
        else:
            parts[name] = all_rows.at(run)
    return parts, all_rows


def _rows(
    rows: Indices | Windows,
    x: NDArray[np.float32],
    draft: _Draft,
    schema: DataSchema,
    before: Indices | None,
) -> Rows:
    last, taken = last_rows(rows), rows.of(x) if isinstance(rows, Windows) else x[rows]
    values = draft.labels.values[last]
    client_of = draft.source.table.client_of
    no_client = np.full(len(last), -1, dtype=np.int32)
    y: NDArray[np.float32] | NDArray[np.int64]
    if schema.task == "multiclass":
        y = values.astype(np.int64)
    else:
        y = ((values - schema.target_mean) / schema.target_sd).astype(np.float32)
    return Rows(
        x=np.ascontiguousarray(taken),
        y=y,
        symbols=draft.layout.symbol_of[last],
        clients=no_client if client_of is None else client_of[last],
        last=None if before is None else last_known(before[last], draft.labels, schema),
    )


def _describe(
    draft: _Draft, matrix: Matrix, schema: DataSchema, parts: Mapping[str, Rows]
) -> Description:
    source = draft.source
    names = {
        spec.name: f"{spec.name}[{spec.width}]" if spec.kind == "vector" else spec.name
        for spec in matrix.specs
    }
    return Description(
        name=source.name,
        kind=source.kind,
        source=source.origin,
        rows=int(draft.labels.usable.sum()),
        columns=[names[name] for name in draft.layout.features if name in names],
        target=schema.target,
        task=schema.task,
        classes=schema.classes,
        split={**{name: len(rows) for name, rows in parts.items()}, "purged": draft.split.purged},
        synthetic=source.synthetic,
        sha256=source.sha256,
        symbols=list(schema.symbols),
        excluded_columns=[*draft.layout.excluded, *matrix.excluded],
    )
