"""Files that are parts of one table, as Spark and Hugging Face cut them, and folders that name partitions."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import unquote

import numpy as np

from flow_nexus_neural.data.inline import stack, stack_parts
from flow_nexus_neural.data.labelled_arrays import labels_column
from flow_nexus_neural.data.table import Table, take
from flow_nexus_neural.errors import InvalidDataset

HUGGING_FACE: Final = frozenset({"dataset_info.json", "state.json", "dataset_dict.json"})
"""What `save_to_disk` writes beside the data."""
SPLITS: Final = {
    "train": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test",
}  # fmt: skip
_NUMBERED: Final = re.compile(r"(?:(?P<name>.*)-\d{5}-of-\d{5}|part-\d+.*)", re.IGNORECASE)
_PARTITION: Final = re.compile(r"(?P<name>[^=]+)=(?P<value>.*)", re.DOTALL)
_NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"


def are_parts(stems: Iterable[str]) -> bool:
    """Whether the names of files are numbers of parts: `part-00000-...`, `data-00000-of-00002`."""
    named = list(stems)
    return bool(named) and all(_NUMBERED.fullmatch(stem) for stem in named)


def is_partition(name: str) -> bool:
    """Whether the name of a folder gives a column and its value: `symbol=BTC`."""
    return _PARTITION.fullmatch(name) is not None


def joined_parts(tables: Mapping[str, Table], subject: str) -> Table:
    """The table of all parts; names of parts that begin with `train`, `test`, ... are that split.

    Raises:
        InvalidDataset: If their columns differ.
    """
    groups: dict[str, list[str]] = {}
    for stem in tables:
        found = _NUMBERED.fullmatch(stem)
        name = (found.group("name") or "" if found else stem).lower()
        groups.setdefault(SPLITS.get(name, ""), []).append(stem)
    if "train" in groups and "" not in groups:
        order = [split for split in ("train", "validation", "test") if split in groups]
        return stack_parts(
            {split: _one(tables, groups[split], subject) for split in order}, subject
        )
    return _one(tables, list(tables), subject)


def _one(tables: Mapping[str, Table], stems: Sequence[str], subject: str) -> Table:
    return stack([tables[stem] for stem in stems], stems, subject)


def with_partitions(
    tables: Sequence[Table], folders: Sequence[Sequence[str]], subject: str
) -> Table:
    """Join tables from folders such as `year=2024/symbol=BTC`; each folder's value becomes a column.

    Args:
        tables: One of each file.
        folders: The names of the folders of each file, from the outside in.
        subject: Names the source in errors.

    Raises:
        InvalidDataset: If files lie under different partitions, or columns differ.
    """
    named = [[_named(folder) for folder in path] for path in folders]
    names = [name for name, _ in named[0]]
    if any([name for name, _ in path] != names for path in named):
        raise InvalidDataset(
            f"{subject}: files lie under different partitions",
            hint="give every file the same folders",
        )
    table = stack(tables, ["/".join(path) for path in folders], subject)
    part_of_row = np.repeat(np.arange(len(tables)), [part.rows for part in tables])
    columns = dict(table.columns)
    for place, name in enumerate(names):
        if name in columns:
            continue  # some writers keep the column in the files as well
        values = labels_column([path[place][1] for path in named], subject)
        columns[name] = take(values, part_of_row)
    return Table(
        {**{name: columns[name] for name in names}, **columns}, table.rows, remarks=table.remarks
    )


def _named(folder: str) -> tuple[str, str | None]:
    found = _PARTITION.fullmatch(folder)
    if found is None:
        return folder, None
    value = unquote(found.group("value"))
    return unquote(found.group("name")), None if value == _NO_VALUE else value
