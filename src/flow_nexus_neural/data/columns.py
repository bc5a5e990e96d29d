"""Assigns a role to every column: target, time, symbol, feature (vector, scalar, categories), or excluded."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.column_names import (
    PRICE_NAMES,
    SYMBOL_NAMES,
    first_named,
    label_like,
    outcomes_among,
)
from flow_nexus_neural.data.dates import is_date
from flow_nexus_neural.data.row_numbers import ROW_NUMBER, groups_of_rows, names_rows, numbers_rows
from flow_nexus_neural.data.symbols import symbols_in
from flow_nexus_neural.data.table import Column, Indices, Table, TextColumn
from flow_nexus_neural.data.target_choice import default_target
from flow_nexus_neural.data.time_columns import TimeRole, find_time
from flow_nexus_neural.data.vectors import group_vectors, step_of
from flow_nexus_neural.errors import InvalidArguments, InvalidDataset

MAX_LEVELS = 16
LABEL_LIKE = "label-like"


@dataclass(frozen=True)
class ColumnChoice:
    """Columns that the caller named; `given_target` and `given_reach` come from the source."""

    target: str | None = None
    time_column: str | None = None
    features: tuple[str, ...] | None = None
    horizon: int | None = None
    given_target: str | None = None
    given_reach: int = 0
    exclude: tuple[str, ...] = ()


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
        time: [rows] float64 moments; None without a time column.
        dated: Whether they are milliseconds since 1970.
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
    dated: bool = False


def lay_out(table: Table, choice: ColumnChoice) -> Layout:
    """Give every column its role.

    Raises:
        LimitExceeded: If there are more than 1,024 symbols.
        InvalidArguments: If a named column does not exist.
        InvalidDataset: If no label or no feature can be found, or times cannot be read.
    """
    warnings: list[str] = []
    unwanted = _unwanted(table.columns, choice)
    columns = {
        name: _booleans(column) for name, column in table.columns.items() if name not in unwanted
    }
    excluded = [{"name": name, "reason": "in exclude"} for name in unwanted]
    time = _time(columns, choice, warnings)
    choice = _without_times(choice, time, warnings)
    times = () if time is None else time.names
    excluded.extend({"name": name, "reason": "time"} for name in times)
    symbol_name = _symbol_name(columns, choice)
    symbols, symbol_of = symbols_in(columns, symbol_name, table.rows)
    if symbol_name is not None:
        excluded.append({"name": symbol_name, "reason": "routing"})
    groups = groups_of_rows(table.client_of, table.in_test, symbol_of if symbols else None)
    target = _target_name(columns, choice, time, symbol_name, groups, warnings)
    price = None if target is not None else first_named(columns, PRICE_NAMES)
    horizon = _horizon(choice, target, price)
    # A label from later rows leaves today's value of its column as a legitimate feature.
    todays = target is not None and horizon > 0 and not label_like(target)
    roles = {*times, symbol_name, None if todays else target}
    candidates = {name: column for name, column in columns.items() if name not in roles}
    vector = None
    if not table.channels:
        candidates, vector = group_vectors(candidates, choice.features or (), warnings)
    if time is None:
        warnings.extend(_overlooked_dates(candidates))
    features, unused = _usable(candidates, choice, target, groups, warnings, todays=todays)
    excluded.extend(unused)
    _check_features(features, excluded)
    return Layout(
        features=features,
        vector=vector if vector in features else None,
        target=target,
        target_column=None if target is None else columns[target],
        price=price,
        price_column=None if price is None else columns[price],
        horizon=horizon,
        given_reach=choice.given_reach if target == choice.given_target else 0,
        time=None if time is None else time.times,
        symbols=symbols,
        symbol_of=symbol_of,
        excluded=excluded,
        warnings=warnings,
        dated=time is not None and time.dated,
    )


def _check_features(features: Collection[str], excluded: Sequence[Mapping[str, str]]) -> None:
    """Raises `InvalidDataset` where none is left, with what became of the others."""
    if not features:
        listed = "; ".join(f"{item['name']}: {item['reason']}" for item in excluded[:8])
        raise InvalidDataset(
            f"no column is left as a feature ({listed or 'the target is the only column'})",
            hint="add a numeric column, or name the columns in features",
        )


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


def _unwanted(columns: Mapping[str, Column], choice: ColumnChoice) -> list[str]:
    """The columns that the caller wants left out; the name of a vector stands for all its steps."""
    found: dict[str, None] = {}
    for name in choice.exclude:
        steps = [column for column in columns if (step_of(column) or ("",))[0] == name]
        known = steps if steps and name not in columns else [find_column(name, columns, "exclude")]
        found.update(dict.fromkeys(known))
    named = (*(choice.features or ()), choice.target, choice.time_column, choice.given_target)
    wanted = {name.lower() for name in named if name}
    both = next((name for name in found if name.lower() in wanted), None)
    if both is not None:
        raise InvalidArguments(
            f"exclude names '{both}', which is needed as target, time_column or feature",
            hint="name it once",
        )
    return list(found)


def _booleans(column: Column) -> Column:
    """Convert a text column whose only values are true and false to 1 and 0."""
    if not isinstance(column, TextColumn):
        return column
    if not column.levels or any(level.lower() not in ("true", "false") for level in column.levels):
        return column
    values = np.array([float(level.lower() == "true") for level in column.levels])
    return np.where(column.codes < 0, np.nan, values[column.codes])


def _time(columns: dict[str, Column], choice: ColumnChoice, warnings: list[str]) -> TimeRole | None:
    named = choice.time_column
    if named is not None:
        named = find_column(named, columns, "time_column")
    labels = {name.lower() for name in (choice.target, choice.given_target) if name}
    inputs = {name.lower() for name in choice.features or ()}
    taken = [
        name
        for name, column in columns.items()
        # Dates in text can be no input, so they are the time all the same.
        if name.lower() in labels
        or (name.lower() in inputs and (name == named or _unusable(column) is None))
    ]
    if named in taken:
        raise InvalidArguments(
            f"'{named}' is the time_column and cannot be a target or feature as well",
            hint="name another time_column, or leave it out of target and features",
        )
    return find_time(columns, named, taken, warnings)


def _without_times(
    choice: ColumnChoice, time: TimeRole | None, warnings: list[str]
) -> ColumnChoice:
    """The choice without features that are the time."""
    times = {name.lower() for name in time.names} if time else set()
    dropped = [name for name in choice.features or () if name.lower() in times]
    if not dropped:
        return choice
    warnings.extend(f"features names '{name}', which cannot be used: time" for name in dropped)
    kept = tuple(name for name in choice.features or () if name not in dropped)
    if not kept:
        raise InvalidArguments(
            f"features names only '{dropped[0]}', which is the time", hint="name other columns too"
        )
    return replace(choice, features=kept)


def _symbol_name(columns: Mapping[str, Column], choice: ColumnChoice) -> str | None:
    targets = {name.lower() for name in (choice.target, choice.given_target) if name}
    others = [name for name in columns if name.lower() not in targets]
    found = first_named(others, SYMBOL_NAMES)
    return None if found in (choice.features or ()) else found


def _target_name(
    columns: dict[str, Column],
    choice: ColumnChoice,
    time: TimeRole | None,
    symbol_name: str | None,
    groups: Indices | None,
    warnings: list[str],
) -> str | None:
    """The label column; None means the return of the price."""
    if choice.target is not None:
        return find_column(choice.target, columns, "target")
    given = choice.given_target
    if given is not None:
        priced = time is not None and first_named(columns, PRICE_NAMES) is not None
        another_horizon = choice.horizon not in (None, choice.given_reach)
        return None if choice.given_reach and another_horizon and priced else given
    # A feature of today may also be the target of a later row.
    chosen = () if choice.horizon else choice.features or ()
    barred = {*(time.names if time else ()), *filter(None, [symbol_name]), *chosen}
    return default_target(columns, barred, groups, warnings, has_time=time is not None)


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


def _usable(
    columns: dict[str, Column],
    choice: ColumnChoice,
    target: str | None,
    groups: Indices | None,
    warnings: list[str],
    *,
    todays: bool,
) -> tuple[dict[str, Column], list[dict[str, str]]]:
    wanted = _wanted(columns, choice, None if todays else target)
    outcomes = {*outcomes_among([*columns, *([target] if target else [])]), choice.given_target}
    reasons: dict[str, str | None] = {}
    for name, column in columns.items():
        chosen = name in wanted
        outcome = name in outcomes
        reason = "not chosen" if wanted and not chosen else _unusable(column)
        if reason is None and outcome and not chosen:
            reason = LABEL_LIKE
        elif reason is None and outcome:
            warnings.append(f"'{name}' is named like an outcome and is used because you chose it")
        elif reason is None and not chosen and name != target and names_rows(name, column):
            reason = ROW_NUMBER
        reasons[name] = reason
    if not wanted:
        _leave_out_row_numbers(columns, reasons, target, groups, warnings)
    _say_what_is_left_out(reasons, wanted, warnings)
    features = {name: column for name, column in columns.items() if reasons[name] is None}
    excluded = [{"name": name, "reason": reason} for name, reason in reasons.items() if reason]
    return features, excluded


def _wanted(columns: Mapping[str, Column], choice: ColumnChoice, target: str | None) -> set[str]:
    """The columns that the caller named as features; empty when none was named."""
    names = [*columns, *([target] if target else [])]
    wanted = {find_column(name, names, "features") for name in choice.features or ()}
    if target in wanted:
        raise InvalidArguments(
            f"'{target}' is the target and cannot be a feature", hint="remove it from features"
        )
    return wanted


def _leave_out_row_numbers(
    columns: Mapping[str, Column],
    reasons: dict[str, str | None],
    target: str | None,
    groups: Indices | None,
    warnings: list[str],
) -> None:
    usable = [name for name, reason in reasons.items() if reason is None]
    found = [
        name for name in usable if name != target and numbers_rows(name, columns[name], groups)
    ]
    if found and len(found) == len(usable):
        listed = ", ".join(f"'{name}'" for name in found)
        warnings.append(f"{listed} may number the rows; nothing else is left to learn from")
        return
    reasons.update(dict.fromkeys(found, ROW_NUMBER))


def _say_what_is_left_out(
    reasons: Mapping[str, str | None], wanted: set[str], warnings: list[str]
) -> None:
    for reason, words in (
        (LABEL_LIKE, "being named like an outcome"),
        (ROW_NUMBER, "numbering or naming the rows"),
    ):
        names = [f"'{name}'" for name, given in reasons.items() if given == reason]
        if names:
            warnings.append(
                f"left out, {words}: {', '.join(names[:8])}"
                + (f" and {len(names) - 8} more" if len(names) > 8 else "")
                + "; name the columns in features to use them"
            )
    warnings.extend(
        f"features names '{name}', which cannot be used: {reasons[name]}"
        for name in sorted(wanted)
        if reasons[name]
    )


def _overlooked_dates(columns: dict[str, Column]) -> list[str]:
    return [
        f"'{name}' looks like dates: name it as time_column if the split should follow time"
        for name, column in columns.items()
        if isinstance(column, TextColumn)
        and len(column.levels) > MAX_LEVELS
        and is_date(column.levels[0])
    ]


def _unusable(column: Column) -> str | None:
    if isinstance(column, TextColumn):
        if len(column.levels) > MAX_LEVELS:
            return f"text with {len(column.levels)} distinct values"
        return None if column.levels else "empty"
    return None if np.isfinite(column).any() else "empty"
