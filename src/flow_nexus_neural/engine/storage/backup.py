"""A consistent copy of a state directory that a server may be writing into; it can be opened and served."""

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.commit_marker import NAME as MARKER
from flow_nexus_neural.engine.storage.journal_errors import translated
from flow_nexus_neural.engine.storage.snapshot import JOURNAL, copy_state_dir
from flow_nexus_neural.engine.storage.state_dir import prepare, sync_directory, unavailable
from flow_nexus_neural.errors import InvalidArguments, StoreCorrupt

TRIES = 5


@dataclass(frozen=True)
class Backup:
    """What was copied: files that rows name, and all bytes."""

    files: int
    nbytes: int


def back_up(source: Path, target: Path) -> Backup:
    """Copy a state directory to one that does not exist yet, or is empty. Blocking.

    The journal is copied as it is at one moment. Files that it names are pinned by links before they are
    copied, so that a server that removes some meanwhile takes none away. Everything is durable on return, and
    each file was verified on the way. Data files of the user (`data/`) are not copied.

    Raises:
        InvalidArguments: There is no state directory, or the target holds something.
        StoreUnavailable: It cannot be read or written; nothing is left of the target.
        StoreCorrupt: The journal or a file is damaged; nothing is left of the target.
    """
    _refuse(source, target)
    made = not target.exists()
    pins = source / "tmp" / f"backup-{uuid4().hex}"
    try:
        copied = _copied(source, pins, target)
    except (
        BaseException
    ):  # also a cancelled or interrupted copy leaves nothing half done; raised again
        _empty(target, remove=made)
        raise
    finally:
        shutil.rmtree(pins, ignore_errors=True)
    return copied


def _refuse(source: Path, target: Path) -> None:
    if not (source / JOURNAL).is_file():
        raise InvalidArguments(f"{source} holds no state of a server", hint="give --state-dir")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidArguments(
            f"{target} is not empty", hint="name a directory that is not there yet"
        )
    if target.resolve().is_relative_to(source.resolve()):
        raise InvalidArguments(f"{target} is inside {source}", hint="name another place")


def _copied(source: Path, pins: Path, target: Path) -> Backup:
    for attempt in range(TRIES):
        copy_state_dir(source, pins)
        try:
            return _from_pins(pins, target)
        except StoreCorrupt:
            if attempt == TRIES - 1:
                raise
            # A file may have been removed between two looks: the next journal names none such.
            shutil.rmtree(pins, ignore_errors=True)
            _empty(target, remove=False)
    raise AssertionError("unreachable")


def _from_pins(pins: Path, target: Path) -> Backup:
    prepare(target)
    files, nbytes = 0, 0
    with translated("read the copied journal"), closing(sqlite3.connect(pins / JOURNAL)) as journal:
        names = [str(row[0]) for row in journal.execute("SELECT sha FROM blobs ORDER BY rowid")]
    here, there = CheckpointFiles(pins), CheckpointFiles(target)
    try:
        for sha in names:
            nbytes += _copy_file(here.path(sha), there.path(sha), sha)
            files += 1
        for name in (JOURNAL, MARKER):
            if (pins / name).is_file():
                nbytes += _copy_file(pins / name, target / name, None)
        for directory in (target / "blobs", target):
            sync_directory(directory)
    except OSError as failure:
        raise unavailable("copy the state directory", failure) from failure
    return Backup(files, nbytes)


def _copy_file(source: Path, target: Path, sha: str | None) -> int:
    """Copy a file durably, and hold it against its name where that is a sha256. Raises `StoreCorrupt`."""
    try:
        content = source.read_bytes()
    except FileNotFoundError as failure:
        raise StoreCorrupt(
            f"blob {sha} is missing", hint="see flow-nexus-neural verify"
        ) from failure
    if sha is not None and hashlib.sha256(content).hexdigest() != sha:
        raise StoreCorrupt(f"blob {sha} has changed", hint="see flow-nexus-neural verify")
    target.parent.mkdir(mode=0o700, exist_ok=True)
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(target.parent)
    return len(content)


def _empty(target: Path, *, remove: bool) -> None:
    if remove:
        shutil.rmtree(target, ignore_errors=True)
        return
    for part in list(target.iterdir()) if target.is_dir() else []:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
