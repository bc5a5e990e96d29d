"""The label that was known at each row: what persistence would answer there."""

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.data.series import Series
from flow_nexus_neural.data.table import Indices
from flow_nexus_neural.data.targets import Labels, rows_ahead


def known_before(series: Series, labels: Labels) -> Indices | None:
    """[rows] the row with the latest label known at each row, -1 for none; None without an order in time."""
    if not series.ordered:
        return None
    # The label of a row is known `reach` rows later; one that looks nowhere is known at the next row.
    ahead = rows_ahead(series.order, series.of_row, max(1, labels.reach))
    before = np.full(len(ahead), -1, dtype=np.int64)
    before[ahead[ahead >= 0]] = np.flatnonzero(ahead >= 0)
    return before


def last_known(known: Indices, labels: Labels, schema: DataSchema) -> NDArray[np.float32]:
    """Labels of these rows, scaled as labels are: what persistence would answer."""
    values = np.where(known >= 0, labels.values[known], np.nan)
    return ((values - schema.target_mean) / schema.target_sd).astype(np.float32)
