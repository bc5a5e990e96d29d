"""Derives lags and volatility for a user's price history that has the name of the built-in market data."""

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.column_names import (
    PRICE_NAMES,
    SYMBOL_NAMES,
    VOLUME_NAMES,
)
from flow_nexus_neural.data.synthetic import STEPS, ewma_volatility, lagged_returns
from flow_nexus_neural.data.table import Column, Indices, Table, TextColumn, take
from flow_nexus_neural.data.time_columns import find_time
from flow_nexus_neural.errors import DataTooSmall, InvalidDataset

ROLES = {
    "symbol": SYMBOL_NAMES,
    "price": PRICE_NAMES,
    "volume": VOLUME_NAMES,
    "volatility": ("volatility",),
}


def with_lags(table: Table) -> tuple[Table, list[str]]:
    """Add `features` (the last 50 returns of the row's symbol) and `volatility` where they are missing.

    Only symbol, time, price, volume and volatility are kept, under these names. Returns are log returns of
    consecutive rows. The first 50 rows of each symbol lack a history and are dropped.

    Returns:
        The table, and sentences on what was done. Unchanged if it has no price and time, or has `features`.

    Raises:
        InvalidDataset: If a price is missing, infinite or not positive.
        DataTooSmall: If no symbol has more than 50 rows.
    """
    names = _role_names(table)
    remarks: list[str] = []
    time = find_time(table.columns, None, names.values(), remarks)
    has_features = any(name.lower().startswith("features") for name in table.columns)
    if has_features or "price" not in names or time is None:
        return table, []
    price = table.columns[names["price"]]
    if isinstance(price, TextColumn) or not (np.isfinite(price) & (price > 0)).all():
        raise InvalidDataset(
            f"'{names['price']}' has values that are no positive number",
            hint="prices must be given and above 0 in every row",
        )
    symbol = table.columns[names["symbol"]] if "symbol" in names else None
    series = _series(symbol, table.rows)
    order = np.lexsort((time.times, series))
    kept, lags, volatility = _derive(np.asarray(price, dtype=np.float64), series, order)
    columns: dict[str, Column] = {
        role: take(table.columns[name], kept) for role, name in names.items()
    }
    columns["timestamp"] = time.times[kept]
    if "volatility" not in columns:
        columns["volatility"] = volatility
    columns["features"] = lags
    note = (
        f"features[{STEPS}] are the last {STEPS} log returns of each row's symbol, derived here;"
        f" {table.rows - len(kept)} rows without that history are dropped"
    )
    return Table(columns, len(kept)), [*remarks, note]


def _role_names(table: Table) -> dict[str, str]:
    lowered = {name.lower(): name for name in reversed(table.columns)}
    names: dict[str, str] = {}
    for role, known in ROLES.items():
        found = next((lowered[name] for name in known if name in lowered), None)
        if found is not None:
            names[role] = found
    return names


def _series(symbol: Column | None, rows: int) -> Indices:
    if symbol is None:
        return np.zeros(rows, dtype=np.int64)
    values = symbol.codes if isinstance(symbol, TextColumn) else symbol
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _derive(
    price: NDArray[np.float64], series: Indices, order: Indices
) -> tuple[Indices, NDArray[np.float32], NDArray[np.float64]]:
    """Indices of rows with 50 returns before them, in the table's order, and their lags and volatility."""
    rows, lags, volatility = [], [], []
    for index in np.unique(series):
        own = order[series[order] == index]
        if len(own) <= STEPS:
            continue
        returns = np.diff(np.log(price[own]))
        rows.append(own[STEPS:])
        lags.append(lagged_returns(returns))
        volatility.append(ewma_volatility(returns)[STEPS - 1 :])
    if not rows:
        raise DataTooSmall(
            f"no symbol has more than {STEPS} rows, which the lags need",
            hint="give a longer history, or a features column",
        )
    kept = np.concatenate(rows)
    back = np.argsort(kept, kind="stable")
    return kept[back], np.concatenate(lags)[back], np.concatenate(volatility)[back]
