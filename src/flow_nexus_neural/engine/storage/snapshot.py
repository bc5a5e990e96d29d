"""A state directory as it is at one moment, for looking at it while a server writes into it.

The copy can be opened, brought up to date and thrown away; the original is only read.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from flow_nexus_neural.engine.storage.commit_marker import NAME as MARKER
from flow_nexus_neural.engine.storage.journal_errors import translated
from flow_nexus_neural.engine.storage.state_dir import prepare, unavailable

JOURNAL = "state.db"
TRIES = 10


@contextmanager
def scratch_for(state_dir: Path, prefix: str) -> Iterator[Path]:
    """A directory for a copy of a state directory, removed at the end.

    Where the system's temporary directory is on another file system, often one in memory, it lies among the
    unfinished files of the state directory: checkpoints can be linked there, and need not be copied. A server
    that starts meanwhile removes it, and the look at it fails like one at a file that was removed.
    """
    own = state_dir / "tmp"
    place = own if _linkable(own, state_dir / "blobs") else None
    with tempfile.TemporaryDirectory(
        prefix=prefix, dir=place, ignore_cleanup_errors=True
    ) as scratch:
        yield Path(scratch)


def _linkable(own: Path, blobs: Path) -> bool:
    """Whether files can be linked from `blobs` into `own`, and not into the system's directory."""
    try:
        device = blobs.stat().st_dev
        usual = Path(tempfile.gettempdir()).stat().st_dev
        return usual != device == own.stat().st_dev and os.access(own, os.W_OK)
    except OSError:
        return False


def copy_state_dir(source: Path, target: Path) -> frozenset[str]:
    """Copy a state directory; checkpoint files are linked where they are on the same file system. Blocking.

    In an order in which the copy never names what it does not have: the marker of commits is no newer than
    the journal, and files that the journal names were linked before it was read, or since.

    Returns:
        Ids of the trainings that are stored as running.

    Raises:
        StoreUnavailable, StoreCorrupt: It cannot be read or copied.
    """
    prepare(target)
    if not (source / JOURNAL).is_file():
        return frozenset()
    try:
        if (source / MARKER).is_file():
            shutil.copyfile(source / MARKER, target / MARKER)
        _link_checkpoints(source / "blobs", target / "blobs")
        running = _copy_journal(source / JOURNAL, target / JOURNAL)
        _link_checkpoints(source / "blobs", target / "blobs")
        for _ in range(TRIES):  # a server that commits fast may have removed what was new meanwhile
            if _has_all(target):
                break
            running = _copy_journal(source / JOURNAL, target / JOURNAL)
            _link_checkpoints(source / "blobs", target / "blobs")
    except OSError as failure:
        raise unavailable("look into the state directory", failure) from failure
    return running


def _copy_journal(source: Path, target: Path) -> frozenset[str]:
    # Writable, for sqlite cannot read a journal without its log otherwise; nothing is written.
    uri = f"{source.resolve().as_uri()}?mode=rw"
    with (
        translated("read the journal"),
        closing(sqlite3.connect(uri, uri=True, timeout=5.0)) as own,
    ):
        own.execute("PRAGMA query_only=ON")
        with closing(sqlite3.connect(target)) as copy:
            own.backup(copy)
            if not copy.execute(
                "SELECT 1 FROM sqlite_master WHERE type='table' AND name='trainings'"
            ).fetchone():
                return frozenset()
            rows = copy.execute("SELECT training_id FROM trainings WHERE status='running'")
            return frozenset(str(row[0]) for row in rows)


def _has_all(target: Path) -> bool:
    """Whether a copy has every file that its journal names."""
    with translated("read the journal"), closing(sqlite3.connect(target / JOURNAL)) as copy:
        if not copy.execute("SELECT 1 FROM sqlite_master WHERE name='blobs'").fetchone():
            return True
        names = [str(row[0]) for row in copy.execute("SELECT sha FROM blobs")]
    places = (target / "blobs" / sha[:2] / f"{sha}.safetensors" for sha in names)
    return all(place.exists() for place in places)


def _link_checkpoints(source: Path, target: Path) -> None:
    if not source.is_dir():
        return
    for file in source.rglob("*"):
        place = target / file.relative_to(source)
        if file.is_dir():
            place.mkdir(exist_ok=True)
        elif not place.exists():
            try:
                _link_or_copy(place, file)
            except FileNotFoundError:
                continue  # removed meanwhile: nothing newer names it


def _link_or_copy(place: Path, file: Path) -> None:
    """A file of the copy that stays when the server removes its own name of it.

    Raises:
        FileNotFoundError: It has done so already.
    """
    try:
        place.hardlink_to(file)
    except FileNotFoundError:
        raise
    except (
        OSError
    ):  # another file system, or links are not permitted; a pointer would lead nowhere later
        partial = place.with_suffix(".partial")
        shutil.copyfile(file, partial)
        partial.rename(place)
