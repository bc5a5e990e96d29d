"""A directory as data: one file per client, with `train/` and `test/` honoured."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from flow_nexus_neural.data.clients import by_client
from flow_nexus_neural.data.data_file import DataFile, data_suffix
from flow_nexus_neural.data.inline import JoinedLimits, stack, stack_clients
from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.data.opening import DataDirectory
from flow_nexus_neural.data.readers.by_suffix import READERS, read_file
from flow_nexus_neural.data.table import Table
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

MAX_FILES = 10_000
SECTIONS = ("train", "test")

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
    with ExitStack() as stack_of_sections:
        sections: dict[str, DataDirectory] = {}
        for part in SECTIONS:
            if part not in directory.names():
                continue
            entered = stack_of_sections.enter_context(directory.open(part))
            if isinstance(entered, DataDirectory):
                sections[part] = entered
        files = {part: _files(section, subject) for part, section in sections.items()}
        top = _files(directory, subject)
        if files.get("train"):
            if top:
                raise InvalidDataset(
                    f"{subject} has data files beside train/", hint="move them into train/ or test/"
                )
            train = _read_all(
                sections["train"], files["train"], f"{subject}, train", limits, joined
            )
            if not files.get("test"):
                return (
                    stack_clients(train.tables, subject, limits),
                    train.target,
                    train.digests,
                )
            test = _read_all(sections["test"], files["test"], f"{subject}, test", limits, joined)
            return _with_parts(train, test, subject, limits)
    if files.get("test"):
        raise InvalidDataset(f"{subject} has test/ but no data file in train/", hint="add train/")
    if not top:
        raise InvalidDataset(
            f"{subject} holds no data file", hint="formats: " + ", ".join(sorted(READERS))
        )
    read = _read_all(directory, top, subject, limits, joined)
    if sorted(top) == sorted(SECTIONS):
        return _train_and_test(read, subject)
    return stack_clients(read.tables, subject, limits), read.target, read.digests


def _files(directory: DataDirectory, subject: str) -> dict[str, str]:
    """Names of data files by stem, in name order."""
    files: dict[str, str] = {}
    for name in directory.names():
        if data_suffix(name) not in READERS or name.startswith("."):
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
    parts: Sequence[Table] = [read.tables[part] for part in SECTIONS]
    digests = sorted(read.digests, key=lambda item: SECTIONS.index(item[0].split(".")[0]))
    table = stack(parts, SECTIONS, subject)
    in_test = np.arange(table.rows) >= read.tables["train"].rows
    return replace(table, in_test=in_test), read.target, digests
