"""Which files are clients, and a table that is divided by client as one table for each."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Final

import numpy as np

from flow_nexus_neural.data.table import Table, take

_WORDS: Final = re.compile(
    r"(client|user|device|site|silo|party|hospital|bank|worker|node|shard)s?[-_ ]?\d*$|"
    r"(client|user|device|site|silo|party|hospital|bank|worker|node|shard)s?[-_ ]",
    re.IGNORECASE,
)


def say_that_they_are_clients(paths: Sequence[PurePath]) -> bool:
    """Whether the names of several files say that each is a client: `clients/a.csv`, `hospital_1.csv`."""
    stems = {stem_of(path.name) for path in paths}
    if len(stems) < len(paths) or len(paths) < 2:
        return False
    folders = {path.parent.name for path in paths}
    in_folder = len(folders) == 1 and _WORDS.match(next(iter(folders))) is not None
    return in_folder or all(_WORDS.match(stem) for stem in stems)


def stem_of(name: str) -> str:
    """The name of a file without its suffixes."""
    return name.split(".", maxsplit=1)[0]


def by_client(table: Table) -> Iterator[tuple[str, Table]]:
    """The rows of each client of a table that is divided by client."""
    if table.client_of is None:
        return
    for number, name in enumerate(table.clients):
        rows = np.flatnonzero(table.client_of == number)
        columns = {title: take(column, rows) for title, column in table.columns.items()}
        yield name, replace(table, columns=columns, rows=len(rows), clients=(), client_of=None)
