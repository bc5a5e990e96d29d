"""What a killed process was writing: told by temporary names that nobody holds, and removed.

A file or folder grows under a temporary name that its process holds a lock on. Before it begins, its
directory is noted in the state directory, so that the next start of the server sweeps it; so does whoever
writes there earlier.
"""

import errno
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from flow_nexus_neural.data.opening import CAN_WALK, walk
from flow_nexus_neural.data.output_place import OutputPlace
from flow_nexus_neural.errors import InvalidDataset

if sys.platform != "win32":
    import fcntl

PARTIAL = re.compile(r"\..+\.[0-9a-f]{16}\.flow-nexus-neural\.partial")
FOLDER = "unfinished"
"""Of the state directory: a note for each directory in which something is being written."""


def temporary_name(name: str) -> str:
    """A name under which a file or folder grows beside its place."""
    return f".{name[:100]}.{secrets.token_hex(8)}.flow-nexus-neural.partial"


def note(place: OutputPlace) -> Path | None:
    """Note that something is being written beside a place; None where the disk refuses even that.

    Then nothing but the sweep at the next start is lost: a state directory without room must not keep a model
    from being written elsewhere.
    """
    if place.notes_dir is None:
        return None
    folder = place.notes_dir / FOLDER
    path = folder / f"{secrets.token_hex(8)}.json"
    told = {"root": str(place.root), "folders": list(place.folders), "by_command": place.by_command}
    content = json.dumps(told)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(content, encoding="utf-8")
    except OSError:
        return None
    return path


def note_over(noted: Path | None) -> None:
    """Nothing is being written there any more."""
    if noted is not None:
        with suppress(OSError):
            noted.unlink(missing_ok=True)


def sweep_noted(state_dir: Path, roots: Sequence[Path]) -> None:
    """Remove what former processes of this state directory left, below the present write roots. Blocking.

    A note whose directory is gone, or cannot be opened now, is dropped; one below a root that is none now
    stays for a start at which it is one. What a command was writing where its user told it to is removed
    wherever that is.
    """
    allowed = {root.resolve() for root in roots}
    for path in (state_dir / FOLDER).glob("*.json") if CAN_WALK else ():
        with suppress(OSError, InvalidDataset):
            noted = _noted(path.read_text(encoding="utf-8"))
            if noted is not None and noted[0] not in allowed and not noted[2]:
                continue
            note_over(path)
            if noted is not None:
                directory = walk(*noted[:2])
                try:
                    sweep(directory)
                finally:
                    os.close(directory)


def _noted(content: str) -> tuple[Path, tuple[str, ...], bool] | None:
    """A root, plain names of directories below it, and `by_command`; None where a note says anything else."""
    try:
        told = json.loads(content)
        root, folders = Path(told["root"]), tuple(map(str, told["folders"]))
        by_command = told.get("by_command") is True
    except (ValueError, KeyError, TypeError):
        return None
    plain = all(name not in ("", "..") and Path(name).name == name for name in folders)
    return (root, folders, by_command) if plain else None


def sweep(directory: int) -> None:
    """Remove files and folders under temporary names that nobody holds. Raises OSError."""
    for name in os.listdir(directory):
        if not PARTIAL.fullmatch(name):
            continue
        with suppress(OSError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=directory)
            try:
                mode = os.fstat(descriptor).st_mode
                # Removed while the lock is held: whoever just began it must not be able to take it meanwhile.
                if not held_by_nobody(descriptor):
                    continue
                if stat.S_ISDIR(mode):
                    shutil.rmtree(name, dir_fd=directory)
                elif stat.S_ISREG(mode):
                    os.unlink(name, dir_fd=directory)
            finally:
                os.close(descriptor)


def taken(descriptor: int, name: str, directory: int) -> bool:
    """Hold what was just begun under a temporary name, as long as its descriptor is open.

    False where somebody who sweeps took it for what a killed process left, and removes it or has done so.
    """
    if not lock(descriptor):
        return False
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def lock(descriptor: int) -> bool:
    """Hold a file as long as its descriptor is open; False where somebody else does."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        return failure.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def held_by_nobody(descriptor: int) -> bool:
    """Whether a lock can be had; False also where the file system knows none, as then nobody can tell."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
