"""Builds one scaled array of all features of all rows, and removes columns that leak the label."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.columns import Layout
from flow_nexus_neural.data.leakage import suspicious_values
from flow_nexus_neural.data.normalise import (
    ColumnSpec,
    fit_channel,
    fit_column,
    scale,
    scale_column,
)
from flow_nexus_neural.data.outlying_clients import ClientStatistics
from flow_nexus_neural.data.table import Indices, Table, TextColumn, check_size
from flow_nexus_neural.data.targets import Labels
from flow_nexus_neural.errors import InvalidDataset

PIECE_VALUES = 1_000_000


@dataclass(frozen=True)
class Matrix:
    """Scaled features.

    Attributes:
        x: [rows, width] float32, or [rows, steps, channels] when the rows are sequences.
        specs: Columns in the order of `x`: the vector column first.
        excluded: Columns left out as suspected leaks, with the reason.
        warnings: For the caller.
    """

    x: NDArray[np.float32]
    specs: list[ColumnSpec]
    excluded: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def scaled_matrix(table: Table, layout: Layout, train: Indices) -> Matrix:
    """Scale all features by statistics of the training rows, but those of outlying clients.

    Raises:
        LimitExceeded: If categories make the data too wide.
    """
    statistics = ClientStatistics(table, train)
    if table.channels:
        return _channels(table, layout, statistics)
    names = sorted(layout.features, key=lambda name: name != layout.vector)
    ratios = bool(layout.symbols) or layout.time is not None
    specs = [
        fit_column(
            name,
            layout.features[name],
            statistics.rows_for(name, layout.features[name]),
            layout.symbols,
            layout.symbol_of,
            ratios=ratios,
        ).model_copy(update={"decimal": table.decimals.get(name)})
        for name in names
    ]
    width = sum(spec.width for spec in specs)
    check_size(table.rows, width, "the data set")
    x = np.empty((table.rows, width), dtype=np.float32)
    start = 0
    for spec in specs:
        # Piece by piece, since scaling takes several times the memory of what it scales.
        for first in range(0, table.rows, height := max(1, PIECE_VALUES // spec.width)):
            rows = np.arange(first, min(first + height, table.rows))
            x[rows[0] : rows[-1] + 1, start : start + spec.width] = scale_column(
                spec, layout.features[spec.name], rows, layout.symbols, layout.symbol_of
            )
        start += spec.width
    return Matrix(x, specs, warnings=statistics.warnings())


def without_leaks(
    matrix: Matrix, labels: Labels, train: Indices, chosen: tuple[str, ...]
) -> Matrix:
    """Leave out columns that are almost the label on training rows.

    A vector, a channel, and a column that the caller named are kept, with a warning.

    Raises:
        InvalidDataset: If nothing is left.
    """
    n_classes = None if labels.classes is None else len(labels.classes)
    flat = matrix.x.reshape(len(matrix.x), -1)
    found = suspicious_values(flat[train], labels.values[train], n_classes)
    if not found.any():
        return matrix
    if matrix.x.ndim == 3:
        told = [*matrix.warnings, "a step of a sequence is almost the label"]
        return Matrix(matrix.x, matrix.specs, [], told)
    kept, specs = np.ones(len(found), dtype=np.bool_), []
    excluded, warnings = [], list(matrix.warnings)
    start = 0
    for spec in matrix.specs:
        place = slice(start, start + spec.width)
        start += spec.width
        if found[place].any() and spec.kind != "vector" and spec.name not in chosen:
            kept[place] = False
            excluded.append({"name": spec.name, "reason": "suspected leak"})
            warnings.append(
                f"'{spec.name}' is left out: its correlation with the target is above 0.999"
            )
            continue
        specs.append(spec)
        if found[place].any():
            warnings.append(f"'{spec.name}' is almost the label: it may be a leak")
    if not specs:
        raise InvalidDataset(
            "every feature is almost the label (correlation above 0.999), which suggests a leak",
            hint="name the columns in features to use them all the same",
        )
    return Matrix(matrix.x[:, kept] if excluded else matrix.x, specs, excluded, warnings)


def _channels(table: Table, layout: Layout, statistics: ClientStatistics) -> Matrix:
    columns = {name: c for name, c in layout.features.items() if not isinstance(c, TextColumn)}
    shapes = {column.shape for column in columns.values()}
    if len(columns) != len(layout.features) or len(shapes) != 1:
        raise InvalidDataset(
            "sequences are mixed with plain columns", hint="give every feature as a channel of X"
        )
    shape = shapes.pop()
    x = np.empty((table.rows, shape[1], len(columns)), dtype=np.float32)
    specs = []
    for index, (name, column) in enumerate(columns.items()):
        spec = fit_channel(name, column[statistics.rows_for(name, column)])
        values = np.asarray(column, dtype=np.float64).reshape(-1, 1)
        x[:, :, index] = scale(spec, values, None)[0].reshape(shape)
        specs.append(spec)
    return Matrix(x, specs, warnings=statistics.warnings())
