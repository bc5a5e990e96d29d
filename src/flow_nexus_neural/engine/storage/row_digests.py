"""The digests under which a ledger names the rows of its cluster.

Every entry names the rows that were written with it, so that the ledger as a whole says what each row of the
cluster must be. A row that was altered, is an older one, or is missing does not agree with it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from flow_nexus_neural.engine.storage.schema import CHECK, TABLES, ClusterPart, Table, json_text
from flow_nexus_neural.protocol.digest import canonical_json

ROWS = "rows"
"""Field of a ledger entry: digests by the name of the row."""

_DOMAIN = b"fnn-row-1\0"


def digests_of(rows: Iterable[ClusterPart]) -> dict[str, JsonValue]:
    """The digest of each row, by the name of the row inside its cluster."""
    named: dict[str, JsonValue] = {}
    for row in rows:
        table = TABLES[type(row)]
        values = table.values(row)
        named[row_name(table, values)] = row_digest(table, values)
    return named


def row_name(table: Table, values: Sequence[Any]) -> str:
    """What a row is called inside its cluster, for example `slots worker-0`."""
    by_column = dict(zip(table.columns, values, strict=True))
    keys = [str(by_column[key]) for key in table.keys if key != "cluster_id"]
    return " ".join([table.name, *keys])


def row_digest(table: Table, values: Sequence[Any]) -> str:
    """sha256 over a row as its columns hold it, the table's name with it.

    Numbers that differ from run to run are left out where the row has a check of its own over them.
    """
    named = [
        _without_measured(table, value) if _has_measured(table, column) else value
        for column, value in zip(table.columns, values, strict=True)
    ]
    return hashlib.sha256(_DOMAIN + canonical_json([table.name, *named])).hexdigest()


def named_rows(entries: Iterable[Mapping[str, JsonValue]]) -> dict[str, str]:
    """The digest that a ledger names last for each row; empty for one that names none."""
    named: dict[str, str] = {}
    for entry in entries:
        rows = entry.get(ROWS)
        if isinstance(rows, dict):
            named.update({name: str(digest) for name, digest in rows.items()})
    return named


def first_difference(named: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """Why rows are not those that the ledger names; None when they are.

    Args:
        named: Digests by row, from the ledger.
        found: Digests by row, from the tables.
    """
    for name in sorted(named.keys() | found.keys()):
        if name not in found:
            return f"its row {name!r} is missing"
        if name not in named:
            return f"its row {name!r} is named by no ledger entry"
        if found[name] != named[name]:
            return (
                f"its row {name!r} has changed: its digest is {found[name][:12]},"
                f" the ledger says {named[name][:12]}"
            )
    return None


def _has_measured(table: Table, column: str) -> bool:
    return table.measured is not None and column == table.measured.column


def _without_measured(table: Table, text: Any) -> Any:
    """An open part without what the ledger leaves out; as it is where it is not as it was written."""
    try:
        content = json.loads(text)
    except (TypeError, ValueError):
        return text
    if not isinstance(content, dict) or CHECK not in content or json_text(content) != text:
        return text
    left_out = {CHECK, *(table.measured.names if table.measured else ())}
    return json_text({name: value for name, value in content.items() if name not in left_out})
