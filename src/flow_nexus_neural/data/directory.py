"""A directory as data: one file per client, parts of a table, or partitions; with train/ and test/."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from flow_nexus_neural.data.clients import by_client
from flow_nexus_neural.data.data_file import DataFile, data_suffix
from flow_nexus_neural.data.file_parts import (
    HUGGING_FACE,
    are_parts,
    is_partition,
    joined_parts,
    with_partitions,
)
from flow_nexus_neural.data.inline import JoinedLimits, stack, stack_clients, stack_parts
from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.data.opening import DataDirectory
from flow_nexus_neural.data.readers.by_suffix import READERS, read_file
from flow_nexus_neural.data.table import Table
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

MAX_FILES = 10_000
MAX_PARTITIONS = 8
SECTIONS = ("train", "test")
SPLITS_OF_PARTS = ("train", "validation", "test")

Digests = list[tuple[str, str]]
"""Name and sha256 of each file, in the order in which they were read."""


@dataclass
class _Section:
    """What the files of one directory hold: tables by client, the label column they name, their digests."""

    tables: dict[str, Table] = field(default_factory=dict)
    target: str | None = None
    digests: Digests = field(default_factory=list)


def read_directory(directory: DataDirectory, limits: Limits) -> tuple[Table, str | None, Digests]:
    """Read every data file of a directory.

    A file's stem is its client's name. With sub-directories `train` and `test`, a client may have a file in
    both. A directory with just the files `train.*` and `test.*` has these parts and no clients.

    Returns:
        The table, the name of the label column if the files say it, and the files' digests.

    Raises:
        InvalidDataset: If there is no data file, or files do not fit each other.
        PathNotAllowed: If a link leads out of the data roots.
        LimitExceeded: If there are too many files or rows, or they take too much memory.
    """
    subject = f"directory '{directory.name}'"
    joined = JoinedLimits(subject, limits)
    top = _files(directory, subject)
    read = _read_sections(directory, top, subject, limits, joined)
    if read is not None:
        return read
    if not top and any(map(is_partition, directory.names())):
        return _read_partitions(directory, subject, limits, joined)
    if not top:
        raise InvalidDataset(
            f"{subject} holds no data file", hint="formats: " + ", ".join(sorted(READERS))
        )
    section = _read_all(directory, top, subject, limits, joined)
    if sorted(top) == sorted(SECTIONS):
        return _train_and_test(section, subject)
    if are_parts(top):
        table = joined_parts(section.tables, subject)
    else:
        table = stack_clients(section.tables, subject, limits)
    return table, section.target, section.digests


def _read_sections(
    directory: DataDirectory,
    top: dict[str, str],
    subject: str,
    limits: Limits,
    joined: JoinedLimits,
) -> tuple[Table, str | None, Digests] | None:
    """What the folders `train` and `test` hold; None if there is no data file in them."""
    with ExitStack() as stack_of_sections:
        sections: dict[str, DataDirectory] = {}
        names = directory.names()
        for part in SPLITS_OF_PARTS:
            if part not in names:
                continue
            entered = stack_of_sections.enter_context(directory.open(part))
            if isinstance(entered, DataDirectory):
                sections[part] = entered
        files = {part: _files(section, subject) for part, section in sections.items()}
        if not files.get("train"):
            if files.get("test"):
                raise InvalidDataset(
                    f"{subject} has test/ but no data file in train/", hint="add train/"
                )
            return None
        if top:
            raise InvalidDataset(
                f"{subject} has data files beside train/", hint="move them into train/ or test/"
            )
        if are_parts(files["train"]):
            return _splits_of_parts(sections, files, subject, limits, joined)
        train = _read_all(sections["train"], files["train"], f"{subject}, train", limits, joined)
        if not files.get("test"):
            return stack_clients(train.tables, subject, limits), train.target, train.digests
        test = _read_all(sections["test"], files["test"], f"{subject}, test", limits, joined)
        return _with_parts(train, test, subject, limits)


def _splits_of_parts(
    sections: Mapping[str, DataDirectory],
    files: Mapping[str, dict[str, str]],
    subject: str,
    limits: Limits,
    joined: JoinedLimits,
) -> tuple[Table, str | None, Digests]:
    """Folders `train`, `validation` and `test` of parts, as `save_to_disk` of Hugging Face writes them."""
    tables: dict[str, Table] = {}
    targets: list[str | None] = []
    digests: Digests = []
    for part in SPLITS_OF_PARTS:
        if files.get(part):
            read = _read_all(sections[part], files[part], f"{subject}, {part}", limits, joined)
            tables[part] = joined_parts(read.tables, subject)
            targets.append(read.target)
            digests += read.digests
    return stack_parts(tables, subject), targets[0], digests


def _read_partitions(
    directory: DataDirectory, subject: str, limits: Limits, joined: JoinedLimits
) -> tuple[Table, str | None, Digests]:
    """Folders that are named after a column and its value, as Hive, Spark and pyarrow write them."""
    tables: list[Table] = []
    folders: list[tuple[str, ...]] = []
    whole = _Section()

    def enter(inside: DataDirectory, path: tuple[str, ...]) -> None:
        if len(path) > MAX_PARTITIONS:
            raise LimitExceeded(
                f"{subject} has folders more than {MAX_PARTITIONS} deep",
                hint="use fewer partitions",
            )
        files = _files(inside, subject) if path else {}
        if files:
            read = _read_all(inside, files, "/".join((subject, *path)), limits, joined)
            tables.extend(read.tables.values())
            folders.extend([path] * len(read.tables))
            whole.digests += [("/".join((*path, name)), digest) for name, digest in read.digests]
            whole.target = read.target
        if len(tables) > MAX_FILES:
            raise LimitExceeded(
                f"{subject} has more than {MAX_FILES} files", hint="use fewer files"
            )
        for name in filter(is_partition, inside.names()):
            with inside.open(name) as entered:
                if isinstance(entered, DataDirectory):
                    enter(entered, (*path, name))

    enter(directory, ())
    if not tables:
        raise InvalidDataset(
            f"{subject} holds no data file", hint="formats: " + ", ".join(sorted(READERS))
        )
    return with_partitions(tables, folders, subject), whole.target, whole.digests


def _files(directory: DataDirectory, subject: str) -> dict[str, str]:
    """Names of data files by stem, in name order."""
    files: dict[str, str] = {}
    names = directory.names()
    beside = HUGGING_FACE if HUGGING_FACE & {"state.json", "dataset_dict.json"} & set(names) else ()
    for name in names:
        if data_suffix(name) not in READERS or name.startswith(".") or name in beside:
            continue
        stem = name.split(".")[0]
        if stem in files:
            raise InvalidDataset(
                f"{subject} has two files for client '{stem}'", hint="keep one file per client"
            )
        files[stem] = name
        if len(files) > MAX_FILES:
            raise LimitExceeded(
                f"{subject} has more than {MAX_FILES} files", hint="use fewer files"
            )
    return files


def _read_all(
    directory: DataDirectory,
    files: dict[str, str],
    subject: str,
    limits: Limits,
    joined: JoinedLimits,
) -> _Section:
    section = _Section()
    targets: set[str | None] = set()
    for stem, name in files.items():
        with directory.open(name) as opened:
            if not isinstance(opened, DataFile):
                raise InvalidDataset(f"{subject}: '{name}' is not a file", hint="remove it")
            table, target = read_file(opened, limits.max_rows)
            section.digests.append((opened.name, opened.sha256))
        joined.add(table)
        for client, part in by_client(table) if table.clients else [(stem, table)]:
            if client in section.tables:
                raise InvalidDataset(
                    f"{subject}: client '{client[:40]}' occurs in two files",
                    hint="keep all rows of a client in one file",
                )
            section.tables[client] = part
        targets.add(target)
    if len(targets) > 1:
        raise InvalidDataset(
            f"{subject}: files name their labels differently", hint="use one format for all files"
        )
    section.target = targets.pop()
    return section


def _with_parts(
    train: _Section, test: _Section, subject: str, limits: Limits
) -> tuple[Table, str | None, Digests]:
    if test.target != train.target:
        raise InvalidDataset(
            f"{subject}: train and test name their labels differently", hint="use one format"
        )
    joined = dict(train.tables)
    marks = {name: np.zeros(table.rows, dtype=np.bool_) for name, table in train.tables.items()}
    for name, table in test.tables.items():
        parts = [joined[name], table] if name in joined else [table]
        joined[name] = stack(parts, [f"train/{name}", f"test/{name}"][-len(parts) :], subject)
        before = marks.get(name, np.zeros(0, dtype=np.bool_))
        marks[name] = np.concatenate([before, np.ones(table.rows, dtype=np.bool_)])
    table = stack_clients(joined, subject, limits)
    in_test = np.concatenate([marks[name] for name in table.clients])
    return replace(table, in_test=in_test), train.target, [*train.digests, *test.digests]


def _train_and_test(read: _Section, subject: str) -> tuple[Table, str | None, Digests]:
    if set(read.tables) != set(SECTIONS):
        raise InvalidDataset(
            f"{subject}: {' and '.join(SECTIONS)} hold clients of their own",
            hint="put the files of clients into folders train/ and test/",
        )
    parts: Sequence[Table] = [read.tables[part] for part in SECTIONS]
    digests = sorted(read.digests, key=lambda item: SECTIONS.index(item[0].split(".")[0]))
    table = stack(parts, SECTIONS, subject)
    in_test = np.arange(table.rows) >= read.tables["train"].rows
    return replace(table, in_test=in_test), read.target, digests
