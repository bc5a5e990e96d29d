"""The one directory in which a server keeps everything it must not forget.

    LOCK       held by the running server; contains its process id
    state.db   the journal (`engine.storage.journal`)
    blobs/     files named by their sha256 (`engine.storage.checkpoints`)
    tmp/       unfinished files; emptied at start

Local disks only: neither file locks nor the journal's shared memory work on network file systems.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from flow_nexus_neural.errors import StateDirLocked, StoreUnavailable

FailPoint = Callable[[str], None]
"""Called with the name of a point in a durable write; tests end the process there."""

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600

_LOCKED_BYTE = 1 << 30
"""Windows locks are mandatory: the locked byte lies beyond the process id, so that one stays readable."""


def nothing_fails(_point: str) -> None:
    """The fail point of every real server."""


def prepare(state_dir: Path) -> None:
    """Make the directory and its parts, private to the user.

    Raises:
        StoreUnavailable: If that is not possible.
    """
    try:
        state_dir.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        for name in ("blobs", "tmp"):
            (state_dir / name).mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    except OSError as failure:
        raise unavailable("prepare the state directory", failure) from failure


def empty_tmp(state_dir: Path) -> int:
    """Remove what a killed server left unfinished; returns how many files. Needs the lock.

    Raises:
        StoreUnavailable: If one cannot be removed.
    """
    removed = 0
    try:
        for leftover in (state_dir / "tmp").iterdir():
            if leftover.is_file() or leftover.is_symlink():
                leftover.unlink(missing_ok=True)
                removed += 1
    except OSError as failure:
        raise unavailable("empty tmp/", failure) from failure
    return removed


def unavailable(action: str, failure: OSError) -> StoreUnavailable:
    """A write failed: say which, and what the system said."""
    return StoreUnavailable(
        f"could not {action}: {failure.strerror or failure}",
        hint="free disk space and check the permissions of the state directory, then try again",
        details={"errno": failure.errno},
    )


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable. Windows has no such call; renames are journalled there."""
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class StateDirLock:
    """The right to write into a state directory; one server at a time has it.

    The lock belongs to the open file, so it ends with the process however that ends, and is not inherited by
    programs that it starts.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "LOCK"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or fail at once.

        Raises:
            StateDirLocked: If another server has it; the message names its process id.
            StoreUnavailable: If the file cannot be opened.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as failure:
            raise unavailable("open LOCK", failure) from failure
        try:
            _lock(descriptor)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StateDirLocked(
                f"the state directory is in use by another server, process {holder}",
                hint="stop that server, or give this one another --state-dir",
                details={"pid": holder},
            ) from None
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except OSError as failure:
            self.release()
            raise unavailable("write LOCK", failure) from failure

    def release(self) -> None:
        """Give it back. Idempotent. The file stays: removing it would let two servers lock two files."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
