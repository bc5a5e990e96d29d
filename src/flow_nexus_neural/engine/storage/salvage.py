"""What can still be read of a journal with damaged pages, in a new journal.

A damaged page takes the rows on it, and no others. Which rows are missing is not known here: the ledgers name
the rows of their clusters, so that whoever reads the new journal refuses a cluster that lost some, and opens
the others.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

_FARTHEST = 1 << 40
"""No table has that many rows."""


def salvage(damaged: Path, fresh: Path) -> bool:
    """Copy every row that can be read into a new journal with the same tables. Blocking.

    Args:
        damaged: Is only read. Nobody writes into it.
        fresh: Is made; one that is there already is replaced.

    Returns:
        Whether there is such a journal; not where even the tables cannot be told.
    """
    fresh.unlink(missing_ok=True)
    # Writable, for sqlite cannot read a journal without its log otherwise; nothing is written.
    uri = f"{damaged.resolve().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as source, closing(_new(fresh)) as target:
            source.execute("PRAGMA query_only=ON")
            source.text_factory = bytes
            version = source.execute("PRAGMA user_version").fetchone()[0]
            made = source.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
            tables = [name.decode() for kind, name, _ in made if kind == b"table"]
            target.execute("BEGIN")
            for _, _, sql in made:
                if sql is not None:  # an index that belongs to a key has none
                    target.execute(sql.decode())
            for table in tables:
                _copy(source, target, table)
            target.execute(f"PRAGMA user_version={int(version)}")
            target.execute("COMMIT")
    except (sqlite3.Error, UnicodeDecodeError):
        fresh.unlink(missing_ok=True)
        return False
    return True


def _new(fresh: Path) -> sqlite3.Connection:
    fresh.touch(mode=0o600)
    connection = sqlite3.connect(fresh, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=OFF")  # a row may have lost the one that it refers to
    return connection


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> None:
    names = [row[1] for row in target.execute(f"PRAGMA table_info({table})")]
    columns, places = ", ".join(names), ", ".join("?" * len(names))
    insert = f"INSERT OR IGNORE INTO {table} (rowid, {columns}) VALUES (?, {places})"  # noqa: S608
    for row in _rows(source, table, columns):
        try:
            target.execute(insert, [_text(value) for value in row])
        except sqlite3.Error:
            continue  # not what its table holds: damaged, and missing from now on


def _rows(source: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """Rows in order, without those on pages that cannot be read."""
    statement = f"SELECT rowid, {columns} FROM {table} WHERE rowid>? ORDER BY rowid"  # noqa: S608
    last: int | None = -1
    while last is not None:
        try:
            for row in source.execute(statement, (last,)):
                last = row[0]
                yield row
        except sqlite3.Error:
            last = _before_next(source, table, last)
        else:
            return


def _before_next(source: sqlite3.Connection, table: str, last: int) -> int | None:
    """The largest place after `last` behind which rows can be read again; None where there is none."""
    step = 1
    while not _readable(source, table, last + step):
        step *= 2
        if step > _FARTHEST:
            return None
    low, high = last + step // 2, last + step
    while high - low > 1:
        middle = (low + high) // 2
        if _readable(source, table, middle):
            high = middle
        else:
            low = middle
    return max(high, last + 1)


def _readable(source: sqlite3.Connection, table: str, place: int) -> bool:
    """Whether the row that follows a place can be read, or none follows."""
    statement = f"SELECT * FROM {table} WHERE rowid>? ORDER BY rowid LIMIT 1"  # noqa: S608
    try:
        source.execute(statement, (place,)).fetchall()
    except sqlite3.Error:
        return False
    return True


def _text(value: Any) -> Any:
    """Text as it was read, also where it is none any more: its row's digest tells."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
