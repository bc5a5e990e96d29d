"""Assigns a role to every column: target, time, symbol, feature (vector, scalar, categories), or excluded."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.table import Column, Numbers, Table, TextColumn
from flow_nexus_neural.errors import InvalidArguments, InvalidDataset, LimitExceeded

TIME_NAMES = ("timestamp", "time", "date", "datetime")
SYMBOL_NAMES = ("symbol", "ticker", "asset")
PRICE_NAMES = ("price", "close")
VOLUME_NAMES = ("volume", "vol")
TARGET_NAMES = ("target", "label", "y", "class", "direction")
LABEL_LIKE = frozenset(
    {
        "trend",
        "label",
        "labels",
        "target",
        "targets",
        "y",
        "class",
        "outcome",
        "expectedoutcome",
        "expected_outcome",
        "direction",
    }
)
LABEL_LIKE_PREFIXES = ("future_", "next_")
MAX_LEVELS = 16
MAX_SYMBOLS = 1_024
MIN_VECTOR = 4
_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}(?:[T ]\d|$)")
_STEP_NAME = re.compile(r"^(?P<name>.+?)(?:\[(?P<index>\d{1,4})\]|_(?P<tail>\d{1,4}))$")


@dataclass(frozen=True)
class ColumnChoice:
    """Columns that the caller named; `given_target` and `given_reach` come from the source."""

    target: str | None = None
    time_column: str | None = None
    features: tuple[str, ...] | None = None
    horizon: int | None = None
    given_target: str | None = None
    given_reach: int = 0


@dataclass(frozen=True)
class Layout:
    """The roles of a table's columns.

    Attributes:
        features: Usable columns in the table's order; a vector column is [rows, steps].
        vector: Name of the one vector column among them.
        target: Name of the label column; None when the label is the return of `price`.
        target_column: The label column's values.
        price: Name of the price column whose return is the label; None where `target` is not None.
        price_column: Its values, also when the price is not a feature.
        horizon: Rows ahead from which the label is taken.
        given_reach: Rows that the values of the label column already look ahead.
        time: [rows] float64 moments (milliseconds for dates); None without a time column.
        symbols: Names of symbols, sorted.
        symbol_of: [rows] int32 index into `symbols`, -1 where unknown.
        excluded: Columns that are not features, with the reason.
    """

    features: dict[str, Column]
    vector: str | None
    target: str | None
    target_column: Column | None
    price: str | None
    price_column: Column | None
    horizon: int
    given_reach: int
    time: NDArray[np.float64] | None
    symbols: tuple[str, ...]
    symbol_of: NDArray[np.int32]
    excluded: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def lay_out(table: Table, choice: ColumnChoice) -> Layout:
    """Give every column its role.

    Raises:
        LimitExceeded: If there are more than 1,024 symbols.
        InvalidArguments: If a named column does not exist.
        InvalidDataset: If no label or no feature can be found, or times cannot be read.
    """
    warnings: list[str] = []
    columns = {name: _booleans(column) for name, column in table.columns.items()}
    excluded: list[dict[str, str]] = []
    time_name = _time_name(columns, choice)
    if time_name is not None:
        excluded.append({"name": time_name, "reason": "time"})
    target = _target_name(columns, choice, time_name, warnings)
    price = None if target is not None else _first(columns, PRICE_NAMES)
    symbol_name = _first([name for name in columns if name != target], SYMBOL_NAMES)
    if symbol_name is not None and choice.features and symbol_name in choice.features:
        symbol_name = None
    symbols, symbol_of = _symbols(columns, symbol_name, table.rows)
    if len(symbols) > MAX_SYMBOLS:
        raise LimitExceeded(
            f"column '{symbol_name}' names {len(symbols)} symbols; the limit is {MAX_SYMBOLS}",
            hint="use fewer symbols, or rename the column if it is none",
        )
    if symbol_name is not None:
        excluded.append({"name": symbol_name, "reason": "routing"})
    horizon = _horizon(choice, target, price)
    # A label from later rows leaves today's value of its column as a legitimate feature.
    todays = target is not None and horizon > 0 and not label_like(target)
    roles = {time_name, symbol_name, None if todays else target}
    candidates = {name: column for name, column in columns.items() if name not in roles}
    vector = None
    if not table.channels:
        candidates, vector = _group_vectors(candidates, warnings)
    features, unused = _usable(candidates, choice, None if todays else target, warnings)
    excluded.extend(unused)
    if not features:
        listed = "; ".join(f"{item['name']}: {item['reason']}" for item in excluded[:8])
        raise InvalidDataset(
            f"no column is left as a feature ({listed or 'the target is the only column'})",
            hint="add a numeric column, or name the columns in features",
        )
    return Layout(
        features=features,
        vector=vector if vector in features else None,
        target=target,
        target_column=None if target is None else columns[target],
        price=price,
        price_column=None if price is None else columns[price],
        horizon=horizon,
        given_reach=choice.given_reach if target == choice.given_target else 0,
        time=None if time_name is None else moments(columns[time_name], time_name),
        symbols=symbols,
        symbol_of=symbol_of,
        excluded=excluded,
        warnings=warnings,
    )


def label_like(name: str) -> bool:
    """Whether a column's name says that it is an outcome, which is not known when predicting."""
    lowered = name.lower()
    return lowered in LABEL_LIKE or lowered.startswith(LABEL_LIKE_PREFIXES)


def find_column(name: str, names: Iterable[str], argument: str) -> str:
    """A column by its name, exactly or else case-insensitively.

    Raises:
        InvalidArguments: If there is none.
    """
    known = list(names)
    if name in known:
        return name
    folded = [column for column in known if column.lower() == name.lower()]
    if len(folded) == 1:
        return folded[0]
    near = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    raise InvalidArguments(
        f"{argument} names column '{name}', which the data do not have",
        hint=(f"did you mean '{near[0]}'? " if near else "") + f"columns: {listed}",
    )


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


def step_of(name: str) -> tuple[str, int] | None:
    """Split `name[3]` or `name_3` into the vector's name and the step."""
    match = _STEP_NAME.match(name)
    if match is None:
        return None
    return match["name"], int(match["index"] or match["tail"])


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


def _booleans(column: Column) -> Column:
    """Convert a text column whose only values are true and false to 1 and 0."""
    if not isinstance(column, TextColumn):
        return column
    if not column.levels or any(level.lower() not in ("true", "false") for level in column.levels):
        return column
    values = np.array([float(level.lower() == "true") for level in column.levels])
    return np.where(column.codes < 0, np.nan, values[column.codes])


def _first(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    lowered: dict[str, str] = {}
    for name in names:
        lowered.setdefault(name.lower(), name)
    return next((lowered[name] for name in wanted if name in lowered), None)


def _time_name(columns: dict[str, Column], choice: ColumnChoice) -> str | None:
    if choice.time_column is not None:
        return find_column(choice.time_column, columns, "time_column")
    found = _first(columns, TIME_NAMES)
    return None if found is not None and found in (choice.features or ()) else found


def _target_name(
    columns: dict[str, Column], choice: ColumnChoice, time_name: str | None, warnings: list[str]
) -> str | None:
    """The label column; None means the return of the price."""
    if choice.target is not None:
        return find_column(choice.target, columns, "target")
    priced = time_name is not None and _first(columns, PRICE_NAMES) is not None
    given = choice.given_target
    if given is not None:
        another_horizon = choice.horizon not in (None, choice.given_reach)
        return None if choice.given_reach and another_horizon and priced else given
    named = _first(columns, TARGET_NAMES)
    if named is not None:
        return named
    if priced:
        return None
    last = list(columns)[-1]
    warnings.append(f"no target was named: the last column '{last}' is taken")
    return last


def _horizon(choice: ColumnChoice, target: str | None, price: str | None) -> int:
    if target is None and price is not None:
        horizon = 1 if choice.horizon is None else choice.horizon
        if horizon < 1:
            raise InvalidArguments(
                "horizon=0 for the return of the price", hint="give a horizon of 1 or more"
            )
        return horizon
    if target == choice.given_target and choice.horizon == choice.given_reach:
        return 0
    return choice.horizon or 0


def _symbols(
    columns: dict[str, Column], name: str | None, rows: int
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    unknown = np.full(rows, -1, dtype=np.int32)
    if name is None:
        return (), unknown
    column = columns[name]
    if isinstance(column, TextColumn):
        order = sorted(range(len(column.levels)), key=column.levels.__getitem__)
        rank = np.empty(len(order) or 1, dtype=np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        symbols = tuple(column.levels[index] for index in order)
        return symbols, np.where(column.codes < 0, np.int32(-1), rank[column.codes])
    if column.ndim != 1:
        return (), unknown
    present = np.isfinite(column)
    values, codes = np.unique(column[present], return_inverse=True)
    unknown[present] = codes
    return tuple(f"{value:g}" for value in values), unknown


def _group_vectors(
    columns: dict[str, Column], warnings: list[str]
) -> tuple[dict[str, Column], str | None]:
    """Join `name[0]..name[k]` into a vector; of several vectors only `features` stays one."""
    groups = _step_groups(columns)
    native = [
        name
        for name, column in columns.items()
        if not isinstance(column, TextColumn) and column.ndim == 2
    ]
    names = [*native, *groups]
    kept = names[0] if len(names) == 1 else ("features" if "features" in names else None)
    if len(names) > 1 and (kept or native):
        warnings.append(
            f"{len(names)} vector columns: "
            + (f"only '{kept}' is kept as a sequence" if kept else "all are used step by step")
        )
    result: dict[str, Column] = {}
    for name, column in columns.items():
        step = step_of(name)
        if kept in groups and step is not None and name in groups[kept]:
            result.setdefault(kept, _joined(columns, groups[kept]))
        elif name in native and name != kept and not isinstance(column, TextColumn):
            result.update({f"{name}[{k}]": column[:, k] for k in range(column.shape[1])})
        else:
            result[name] = column
    return result, kept


def _joined(columns: dict[str, Column], names: Sequence[str]) -> Numbers:
    parts = [columns[name] for name in names]
    return np.stack([part for part in parts if not isinstance(part, TextColumn)], axis=1)


def _step_groups(columns: dict[str, Column]) -> dict[str, list[str]]:
    steps: dict[str, dict[int, str]] = {}
    for name, column in columns.items():
        split = step_of(name)
        if split is not None and not isinstance(column, TextColumn) and column.ndim == 1:
            steps.setdefault(split[0], {}).setdefault(split[1], name)
    return {
        stem: [found[index] for index in range(len(found))]
        for stem, found in steps.items()
        if len(found) >= MIN_VECTOR and set(found) == set(range(len(found))) and stem not in columns
    }


def _usable(
    columns: dict[str, Column], choice: ColumnChoice, target: str | None, warnings: list[str]
) -> tuple[dict[str, Column], list[dict[str, str]]]:
    wanted: set[str] | None = None
    if choice.features is not None:
        names = [*columns, *([target] if target else [])]
        wanted = {find_column(name, names, "features") for name in choice.features}
        if target in wanted:
            raise InvalidArguments(
                f"'{target}' is the target and cannot be a feature", hint="remove it from features"
            )
    features: dict[str, Column] = {}
    excluded: list[dict[str, str]] = []
    warnings.extend(_overlooked_dates(columns))
    for name, column in columns.items():
        chosen = wanted is not None and name in wanted
        reason = "not chosen" if wanted is not None and not chosen else None
        reason = reason or _unusable(name, column)
        if reason is None and (label_like(name) or name == choice.given_target):
            if chosen:
                warnings.append(
                    f"'{name}' is named like an outcome and is used because you chose it"
                )
            else:
                reason = "label-like"
        if reason is None:
            features[name] = column
        else:
            excluded.append({"name": name, "reason": reason})
    outcomes = [f"'{column['name']}'" for column in excluded if column["reason"] == "label-like"]
    if outcomes:
        warnings.append(
            f"left out, being named like an outcome: {', '.join(outcomes)};"
            " name the columns in features to use them"
        )
    return features, excluded


def _overlooked_dates(columns: dict[str, Column]) -> list[str]:
    return [
        f"'{name}' looks like dates: name it as time_column if the split should follow time"
        for name, column in columns.items()
        if isinstance(column, TextColumn)
        and len(column.levels) > MAX_LEVELS
        and _DATE.match(column.levels[0])
    ]


def _unusable(name: str, column: Column) -> str | None:
    if isinstance(column, TextColumn):
        if len(column.levels) > MAX_LEVELS:
            return f"text with {len(column.levels)} distinct values"
        return None if column.levels else "empty"
    if not np.isfinite(column).any():
        return "empty"
    unnamed = name.lower().startswith("unnamed") and column.ndim == 1
    if unnamed and (column == np.arange(len(column))).all():
        return "row number"
    return None
