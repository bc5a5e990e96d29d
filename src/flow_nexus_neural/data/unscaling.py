"""Back from scaled rows to the data's own units: the inverse of scaling, but for what it clips and rounds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.schema import DataSchema


def unscaled(
    schema: DataSchema, x: NDArray[np.float32], symbols: Sequence[str | None]
) -> NDArray[np.float64]:
    """Rows in the data's own units.

    A value that was clipped comes back at the bound; a missing one as the training mean.

    Args:
        schema: Whose scaling is undone.
        x: [n, *row_shape] scaled rows.
        symbols: [n] of the rows.

    Returns:
        [n, *row_shape] float64, finite.
    """
    width = sum(column.width for column in schema.columns)
    flat = x.astype(np.float64).reshape(-1, width)
    of = np.repeat(np.array([*symbols, None], dtype=object)[:-1], len(flat) // max(len(x), 1))
    raw, start = np.empty_like(flat), 0
    for column in schema.columns:
        place = slice(start, start + column.width)
        start += column.width
        mean, sd = np.array(column.mean), np.array(column.sd)
        values = flat[:, place]
        if column.medians is None:
            raw[:, place] = values * sd + mean
            continue
        bases = np.array([column.medians.get(symbol or "", np.nan) for symbol in of])[:, None]
        pooled_mean, pooled_sd = column.pooled or (0.0, 0.0)
        own = np.log(bases) + values * sd + mean
        raw[:, place] = np.exp(np.where(np.isfinite(bases), own, values * pooled_sd + pooled_mean))
    return raw.reshape(x.shape)
