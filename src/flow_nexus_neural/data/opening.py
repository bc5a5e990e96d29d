"""Opens files below the data roots: once, without following a link, and nothing but regular files.

A path is resolved first, links included, and must lie below a root. It is then opened from that root's own
descriptor, component by component, and no component may be a link any more: a link that is swapped in after
the check ends in an error and never in a file elsewhere. What was opened is judged by its descriptor, and is
opened without waiting, so that a pipe which took the place of a file can hold nobody.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.errors import InvalidDataset, PathNotAllowed

_COMMON = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_FILE = (
    os.O_RDONLY
    | _COMMON
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_DIRECTORY = _COMMON | getattr(os, "O_DIRECTORY", 0)
_STEP = getattr(os, "O_PATH", os.O_RDONLY)
"""How a directory on the way is opened; it may be one that can be entered and not listed."""
READ_DEADLINE_S = 120.0
"""Time in which the files of one data set have to be read."""
CAN_WALK = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd
"""Whether the system opens files relative to a directory's descriptor; Windows does not."""


class DataRoots:
    """The directories from which data may be read.

    Args:
        roots: In the order of look-up.
        read_s: Time from now on in which everything has to be read.
        labels_needed: See `DataFile`.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        read_s: float = READ_DEADLINE_S,
        *,
        labels_needed: bool = True,
    ) -> None:
        self.labels_needed = labels_needed
        self.paths = [root.resolve() for root in roots]
        self.deadline = time.monotonic() + read_s

    def file(self, descriptor: int, name: str) -> DataFile:
        """An opened file, as its readers see it. Raises as `DataFile`."""
        return DataFile(descriptor, name, self.deadline, labels_needed=self.labels_needed)

    def holds(self, resolved: Path) -> bool:
        """Whether a resolved path lies below a root."""
        return any(resolved.is_relative_to(root) for root in self.paths)

    @contextmanager
    def open(self, resolved: Path) -> Iterator["DataFile | DataDirectory"]:
        """Open what a resolved path names, for as long as the block runs.

        Raises:
            FileNotFoundError: If there is nothing.
            PathNotAllowed: If it lies outside the roots.
            InvalidDataset: If it is neither a regular file nor a directory, or a link took its place.
            LimitExceeded: If it is a file that is too large.
        """
        root = next((root for root in self.paths if resolved.is_relative_to(root)), None)
        if root is None:
            raise PathNotAllowed(
                f"'{resolved.name}' leads out of the data roots", hint="remove the link"
            )
        with self._opened(root, resolved.relative_to(root).parts, resolved) as found:
            yield found

    @contextmanager
    def _opened(
        self, root: Path, parts: Sequence[str], resolved: Path
    ) -> Iterator["DataFile | DataDirectory"]:
        descriptor = walk(root, parts) if CAN_WALK else _open_by_name(root.joinpath(*parts))
        with _held(descriptor):
            if descriptor is None or stat.S_ISDIR(os.fstat(descriptor).st_mode):
                yield DataDirectory(self, resolved, descriptor)
            else:
                yield self.file(descriptor, resolved.name)


class DataDirectory:
    """An opened directory.

    Attributes:
        name: The last part of its path.
    """

    def __init__(self, roots: DataRoots, path: Path, descriptor: int | None) -> None:
        self.name = path.name
        self._roots = roots
        self._path = path
        self._descriptor = descriptor

    def names(self) -> list[str]:
        """What it holds, sorted."""
        return sorted(os.listdir(self._path if self._descriptor is None else self._descriptor))

    @contextmanager
    def open(self, name: str) -> Iterator["DataFile | DataDirectory"]:
        """Open an entry; one that is a link is resolved, checked and then opened like any path.

        Raises:
            FileNotFoundError: If there is nothing of this name.
            PathNotAllowed: If it is a link out of the roots.
            InvalidDataset: If it is neither a regular file nor a directory.
            LimitExceeded: If it is a file that is too large.
        """
        path = self._path / name
        if self._descriptor is None or _is_link(name, self._descriptor):
            with self._roots.open(resolved_path(path)) as found:
                yield found
            return
        descriptor = _open_entry(name, self._descriptor)
        with _held(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                yield DataDirectory(self._roots, path, descriptor)
            else:
                yield self._roots.file(descriptor, name)


def resolved_path(path: Path) -> Path:
    """A path with every link followed.

    Raises:
        PathNotAllowed: If its links lead in circles.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        raise PathNotAllowed(f"'{path.name}' cannot be resolved", hint="check its links") from None


@contextmanager
def _held(descriptor: int | None) -> Iterator[None]:
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def walk(root: Path, parts: Sequence[str]) -> int:
    """A descriptor of what lies at `parts` below the root, reached without following a link.

    Raises:
        FileNotFoundError: There is nothing.
        InvalidDataset: It is neither a regular file nor a directory, or a link took its place.
    """
    flags = _STEP if parts else os.O_RDONLY
    current = os.open(root, flags | _DIRECTORY)
    for place, name in enumerate(parts):
        with _held(current):
            if place + 1 == len(parts):
                return _open_entry(name, current)
            try:
                current = os.open(name, _STEP | _DIRECTORY, dir_fd=current)
            except OSError as failure:
                _refuse_link(failure, name, current)
                raise
    return current


def _open_entry(name: str, directory: int) -> int:
    """A descriptor of a regular file or a directory; nothing else is touched, not even by opening it."""
    _check_kind(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode, name)
    try:
        descriptor = os.open(name, _FILE, dir_fd=directory)
    except OSError as failure:
        _refuse_link(failure, name, directory)
        raise
    try:
        _check_kind(os.fstat(descriptor).st_mode, name)
    except InvalidDataset:
        os.close(descriptor)
        raise
    return descriptor


def _open_by_name(path: Path) -> int | None:
    """Where the system cannot walk: by the whole path, which is resolved again. None for a directory."""
    mode = path.lstat().st_mode
    _check_kind(mode, path.name)
    if stat.S_ISDIR(mode):
        return None
    descriptor = os.open(path, _FILE)
    try:
        _check_kind(os.fstat(descriptor).st_mode, path.name)
        if path.resolve() != path or not os.path.samestat(os.fstat(descriptor), path.lstat()):
            raise _replaced(path.name)
    except (OSError, InvalidDataset):
        os.close(descriptor)
        raise
    return descriptor


def _check_kind(mode: int, name: str) -> None:
    if stat.S_ISLNK(mode):
        raise _replaced(name)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InvalidDataset(f"'{name}' is not a regular file", hint="pass a file or a directory")


def _refuse_link(failure: OSError, name: str, directory: int) -> None:
    """Raise the right error if opening failed because a link stands there."""
    if failure.errno == errno.ELOOP or _is_link(name, directory):
        raise _replaced(name) from None


def _is_link(name: str, directory: int) -> bool:
    with suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    return False


def _replaced(name: str) -> InvalidDataset:
    return InvalidDataset(
        f"'{name}' was replaced by a link while it was opened",
        hint="call again when nothing changes it",
    )
