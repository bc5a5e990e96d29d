"""A directory as data: one file per client, with `train/` and `test/` honoured."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from flow_nexus_neural.data.inline import stack, stack_clients
from flow_nexus_neural.data.readers import READERS, data_suffix, read_file
from flow_nexus_neural.data.table import Table
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded, PathNotAllowed
from flow_nexus_neural.settings import Settings

MAX_FILES = 10_000
SECTIONS = ("train", "test")


def read_directory(directory: Path, settings: Settings) -> tuple[Table, str | None, list[Path]]:
    """Read every data file of a directory.

    A file's stem is its client's name. With sub-directories `train` and `test`, a client may have a file in
    both. A directory with just the files `train.*` and `test.*` has these parts and no clients.

    Returns:
        The table, the name of the label column if the files say it, and the files read.

    Raises:
        InvalidDataset: If there is no data file, or files do not fit each other.
        PathNotAllowed: If a link leads out of the data roots.
        LimitExceeded: If there are too many files or rows.
    """
    subject = f"directory '{directory.name}'"
    sections = {part: _files(directory / part, settings, subject) for part in SECTIONS}
    top = _files(directory, settings, subject)
    if sections["train"]:
        if top:
            raise InvalidDataset(
                f"{subject} has data files beside train/", hint="move them into train/ or test/"
            )
        return _with_parts(sections, subject, settings)
    if sections["test"]:
        raise InvalidDataset(f"{subject} has test/ but no data file in train/", hint="add train/")
    if not top:
        raise InvalidDataset(
            f"{subject} holds no data file", hint="formats: " + ", ".join(sorted(READERS))
        )
    if sorted(top) == sorted(SECTIONS):
        return _train_and_test({part: top[part] for part in SECTIONS}, subject, settings)
    tables, target = _read_all(top, subject, settings.max_rows)
    return stack_clients(tables, subject, settings.max_rows), target, list(top.values())


def _files(directory: Path, settings: Settings, subject: str) -> dict[str, Path]:
    """Data files by stem, in name order, every link checked."""
    if not directory.is_dir():
        return {}
    roots = [root.resolve() for root in settings.data_roots]
    files: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        if data_suffix(path) not in READERS or path.name.startswith("."):
            continue
        resolved = path.resolve()
        if not any(resolved.is_relative_to(root) for root in roots):
            raise PathNotAllowed(
                f"{subject}: '{path.name}' leads out of the data roots", hint="remove the link"
            )
        stem = path.name.split(".")[0]
        if stem in files:
            raise InvalidDataset(
                f"{subject} has two files for client '{stem}'", hint="keep one file per client"
            )
        if not resolved.is_file():
            raise InvalidDataset(f"{subject}: '{path.name}' is not a file", hint="remove it")
        files[stem] = resolved
        if len(files) > MAX_FILES:
            raise LimitExceeded(
                f"{subject} has more than {MAX_FILES} files", hint="use fewer files"
            )
    return files


def _read_all(
    files: Mapping[str, Path], subject: str, max_rows: int
) -> tuple[dict[str, Table], str | None]:
    tables: dict[str, Table] = {}
    targets: set[str | None] = set()
    for stem, path in files.items():
        tables[stem], target = read_file(path, max_rows)
        targets.add(target)
    if len(targets) > 1:
        raise InvalidDataset(
            f"{subject}: files name their labels differently", hint="use one format for all files"
        )
    return tables, targets.pop()


def _with_parts(
    sections: Mapping[str, Mapping[str, Path]], subject: str, settings: Settings
) -> tuple[Table, str | None, list[Path]]:
    train, target = _read_all(sections["train"], f"{subject}, train", settings.max_rows)
    paths = list(sections["train"].values())
    if not sections["test"]:
        return stack_clients(train, subject, settings.max_rows), target, paths
    test, test_target = _read_all(sections["test"], f"{subject}, test", settings.max_rows)
    if test_target != target:
        raise InvalidDataset(
            f"{subject}: train and test name their labels differently", hint="use one format"
        )
    joined = dict(train)
    marks = {name: np.zeros(table.rows, dtype=np.bool_) for name, table in train.items()}
    for name, table in test.items():
        parts = [joined[name], table] if name in joined else [table]
        joined[name] = stack(parts, [f"train/{name}", f"test/{name}"][-len(parts) :], subject)
        before = marks.get(name, np.zeros(0, dtype=np.bool_))
        marks[name] = np.concatenate([before, np.ones(table.rows, dtype=np.bool_)])
    table = stack_clients(joined, subject, settings.max_rows)
    in_test = np.concatenate([marks[name] for name in table.clients])
    return replace(table, in_test=in_test), target, [*paths, *sections["test"].values()]


def _train_and_test(
    files: Mapping[str, Path], subject: str, settings: Settings
) -> tuple[Table, str | None, list[Path]]:
    tables, target = _read_all(files, subject, settings.max_rows)
    table = stack([tables[part] for part in SECTIONS], SECTIONS, subject)
    in_test = np.arange(table.rows) >= tables["train"].rows
    return replace(table, in_test=in_test), target, list(files.values())
