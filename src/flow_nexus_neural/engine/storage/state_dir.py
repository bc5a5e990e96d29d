"""The one directory in which a server keeps everything it must not forget.

    LOCK       held by the running server, as is the directory itself; contains its process id
    state.db   the journal (`engine.storage.journal`)
    COMMITS    how many commits there were (`engine.storage.commit_marker`)
    blobs/     files named by their sha256 (`engine.storage.checkpoints`)
    damaged/   files that were not what their names say, kept aside
    tmp/       unfinished files; emptied at start

Local disks only: neither file locks nor the journal's shared memory work on network file systems.
"""

import os
import shutil
import stat
import sys
from pathlib import Path

from flow_nexus_neural.errors import StateDirLocked, StoreUnavailable

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_OTHERS = 0o077

_LOCKED_BYTE = 1 << 30
"""Windows locks are mandatory: the locked byte lies beyond the process id, so that one stays readable."""


def prepare(state_dir: Path) -> None:
    """Make the directory and its parts, private to the user, also where they were not.

    Raises:
        StoreUnavailable: If that is not possible.
    """
    try:
        state_dir.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        _make_private(state_dir)
        for name in ("blobs", "tmp"):
            (state_dir / name).mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            _make_private(state_dir / name)
    except OSError as failure:
        raise unavailable("prepare the state directory", failure) from failure


def _make_private(directory: Path) -> None:
    """Take every right from everybody but the user. Windows has no such modes.

    Raises:
        OSError: The directory is another user's.
        StoreUnavailable: The file system keeps other modes.
    """
    if sys.platform == "win32" or not directory.stat().st_mode & _OTHERS:
        return
    directory.chmod(DIRECTORY_MODE)
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & _OTHERS:
        raise StoreUnavailable(
            f"other users may enter {directory.name or directory}: its mode stays {mode:04o}",
            hint="give --state-dir a directory on a file system that keeps modes",
        )


def empty_tmp(state_dir: Path) -> int:
    """Remove what a killed server left unfinished; returns how many files. Needs the lock.

    Raises:
        StoreUnavailable: If one cannot be removed.
    """
    removed = 0
    try:
        for leftover in (state_dir / "tmp").iterdir():
            if leftover.is_dir() and not leftover.is_symlink():
                # Of a command that was killed, or that copies into it just now: no reason to fail.
                shutil.rmtree(leftover, ignore_errors=True)
            else:
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

    Two things are locked. `LOCK` tells who holds the directory; but a file can be removed, and another be
    made under its name. So the directory itself is locked too, where the system can do that.

    A lock belongs to the open file, so it ends with the process however that ends, and is not inherited by
    programs that it starts.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._path = state_dir / "LOCK"
        self._descriptors: list[int] = []

    def acquire(self, *, announce: bool = True) -> None:
        """Take the lock, or fail at once.

        Args:
            announce: Write the process id into `LOCK`.

        Raises:
            StateDirLocked: If another server has it; the message names its process id.
            StoreUnavailable: If it cannot be opened or written.
        """
        try:
            if sys.platform != "win32":
                self._hold(os.open(self._state_dir, os.O_RDONLY | os.O_DIRECTORY))
            self._hold_file(announce=announce)
        except StateDirLocked:
            self.release()
            raise
        except OSError as failure:
            self.release()
            raise unavailable("take LOCK", failure) from failure

    def release(self) -> None:
        """Give it back. Idempotent. The file stays: removing it would let two servers lock two files."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _hold_file(self, *, announce: bool) -> None:
        """Lock the file that has the name `LOCK` once it is locked, and write the process id into it."""
        descriptor = -1
        while descriptor < 0 or not _has_name(descriptor, self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, FILE_MODE)
            self._hold(descriptor)
        if not announce:
            return
        if sys.platform != "win32":
            os.fchmod(descriptor, FILE_MODE)
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{os.getpid()}\n".encode())

    def _hold(self, descriptor: int) -> None:
        self._descriptors.append(descriptor)
        try:
            _lock(descriptor)
        except OSError:
            holder = self._holder()
            raise StateDirLocked(
                f"the state directory is in use by another server, process {holder}",
                hint="call that server, stop it, or give this one another --state-dir; meanwhile what is"
                " stored is shown by neural_cluster_list, neural_cluster_status and"
                " `flow-nexus-neural --state-dir DIR clusters show ID`",
                details={"pid": holder},
            ) from None

    def _holder(self) -> str:
        """The process id in `LOCK`."""
        try:
            with self._path.open("rb") as file:
                return file.read(32).decode("ascii", "replace").strip() or "unknown"
        except OSError:
            return "unknown"


def holder(state_dir: Path) -> str | None:
    """The process id of the server that has a state directory; None when none has it.

    Raises:
        StoreUnavailable: It cannot be told.
    """
    if not (state_dir / "LOCK").exists():
        return None
    lock = StateDirLock(state_dir)
    try:
        lock.acquire(announce=False)
    except StateDirLocked as locked:
        return str(locked.details["pid"])
    finally:
        lock.release()
    return None


def _has_name(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to this open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
