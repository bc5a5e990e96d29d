"""Points in time, from numbers and dates."""

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.table import Column, TextColumn
from flow_nexus_neural.errors import InvalidDataset


def moments(column: Column, name: str) -> NDArray[np.float64]:
    """[rows] float64 points in time: numbers as they are, dates as milliseconds since 1970 (UTC).

    Raises:
        InvalidDataset: If a value is missing or is no date.
    """
    if isinstance(column, TextColumn):
        levels = np.array([_milliseconds(level, name) for level in column.levels] or [np.nan])
        times = np.where(column.codes < 0, np.nan, levels[column.codes])
    else:
        times = np.asarray(column, dtype=np.float64)
    if times.ndim != 1 or not np.isfinite(times).all():
        raise InvalidDataset(
            f"time column '{name}' has missing or infinite values",
            hint="give every row a time, or remove the column",
        )
    return times


def _milliseconds(text: str, name: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidDataset(
            f"time column '{name}' holds '{text[:40]}', which is neither a number nor an ISO 8601 date",
            hint="write dates like 2024-01-31T12:00:00Z, or name another time_column",
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() * 1_000
