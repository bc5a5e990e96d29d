"""Turns one column per quantity and symbol into rows of one symbol each, with a column `symbol`."""

from collections.abc import Sequence

import numpy as np

from flow_nexus_neural.data.table import Column, TextColumn, rows_of


def rows_per_symbol(
    columns: dict[str, Column], keys: Sequence[str], names: Sequence[str], symbols: Sequence[str]
) -> dict[str, Column]:
    """Put the columns of all symbols below each other.

    Args:
        columns: By key, one key per column of the source.
        keys: Keys in the source's order.
        names: [columns] names of quantities.
        symbols: [columns] symbol of every column, empty where it holds for all of them.

    Returns:
        Columns by the name of the quantity, missing where a symbol has none of it; and the symbol.
    """
    order = list(dict.fromkeys(filter(None, symbols)))
    places = {(name, symbol): key for key, name, symbol in zip(keys, names, symbols, strict=True)}
    rows = rows_of(columns[keys[0]])
    result: dict[str, Column] = {}
    for name in dict.fromkeys(names):
        keys_of_name = [places.get((name, symbol), places.get((name, ""))) for symbol in order]
        parts = [None if key is None else columns[key] for key in keys_of_name]
        result[name] = _below_each_other(parts, rows)
    if len(order) > 1:
        codes = np.repeat(np.arange(len(order), dtype=np.int32), rows)
        result["symbol"] = TextColumn(codes, tuple(order))
    return result


def _below_each_other(parts: Sequence[Column | None], rows: int) -> Column:
    if not any(isinstance(part, TextColumn) for part in parts):
        missing = np.full(rows, np.nan)
        return np.concatenate([missing if part is None else part for part in parts])
    levels: dict[str, int] = {}
    codes = []
    for part in parts:
        column = part
        if column is None:
            column = TextColumn(np.full(rows, -1, dtype=np.int32), ())
        elif not isinstance(column, TextColumn):
            texts, places = np.unique(column.astype(str), return_inverse=True)
            column = TextColumn(places.astype(np.int32), tuple(texts.tolist()))
        shared = [levels.setdefault(level, len(levels)) for level in column.levels]
        codes.append(np.array([*shared, -1], dtype=np.int32)[column.codes])
    return TextColumn(np.concatenate(codes), tuple(levels))
