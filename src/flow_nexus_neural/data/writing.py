"""Writes one new file below the write roots: whole and durable under its name, or not at all.

The directory is opened from its root, component by component, without following a link, and everything after
that names entries of its descriptor. The file grows under a temporary name that this process holds a lock on;
what a killed process left is told by that the lock is free, and is removed by the next one that writes there.
"""

import errno
import hashlib
import os
import re
import secrets
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flow_nexus_neural.data.opening import CAN_WALK, resolved_path, walk
from flow_nexus_neural.data.table import is_plain_text
from flow_nexus_neural.errors import (
    InvalidArguments,
    InvalidDataset,
    NotAvailable,
    PathNotAllowed,
    StoreUnavailable,
)

if sys.platform != "win32":
    import fcntl

MODE = 0o600
"""Predictions are as private as the rows that they are made of."""
MAX_NAME = 200
MAX_PATH = 1_024
_TRIES = 3
_PIECE = 1 << 24
PARTIAL = re.compile(r"\..+\.[0-9a-f]{16}\.partial")
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


@dataclass(frozen=True)
class OutputPlace:
    """Where a file may be written.

    Attributes:
        root: The write root, resolved.
        folders: Directories below it.
        name: Of the file.
        argument: By which the caller named it, for errors.
    """

    root: Path
    folders: tuple[str, ...]
    name: str
    argument: str = "output_path"

    @property
    def path(self) -> Path:
        """The whole path."""
        return self.root.joinpath(*self.folders, self.name)

    @property
    def suffix(self) -> str:
        """What decides the format, in lower case."""
        return self.path.suffix.lower()


def output_place(
    text: str, roots: Sequence[Path], state_dir: Path, argument: str = "output_path"
) -> OutputPlace:
    """Check where a caller wants a file.

    Args:
        text: A path; a relative one lies in the first root.
        roots: Directories below which may be written.
        state_dir: The server's own directory, into which nothing is written but below a root inside it.
        argument: By which the caller named it, for errors.

    Raises:
        PathNotAllowed: It lies outside the roots or in the state directory, or is hidden or leads upwards.
        InvalidArguments: It is no usable name.
        NotAvailable: This system cannot open entries of an opened directory.
    """
    if not CAN_WALK or sys.platform == "win32":
        raise NotAvailable(
            "files cannot be written safely on this system", hint=f"leave {argument} out"
        )
    text = text.strip().removeprefix("file://")
    path = Path(text)
    usable = text and text.isprintable() and is_plain_text(text)
    if not usable or not path.name:
        raise InvalidArguments(
            f"{argument} is no usable name of a file", hint="give a name of printable characters"
        )
    if len(text) > MAX_PATH or len(path.name.encode()) > MAX_NAME:
        raise InvalidArguments(
            f"{argument} is too long: a name may have {MAX_NAME} bytes, a path {MAX_PATH} characters",
            hint="give a shorter name",
        )
    if ".." in path.parts:
        raise PathNotAllowed(f"{argument} '{text[:120]}' holds '..'", hint=_where(roots))
    resolved = [root.resolve() for root in roots]
    folder = resolved_path(resolved[0] / path.parent)
    inside = [root for root in resolved if folder.is_relative_to(root)]
    root = max(inside, key=lambda root: len(root.parts), default=None)
    if root is None:
        raise PathNotAllowed(
            f"{argument} '{text[:120]}' lies, or leads by a link, outside the directories into which"
            " files may be written",
            hint=_where(roots),
        )
    own = state_dir.resolve()
    if folder.is_relative_to(own) and (root == own or not root.is_relative_to(own)):
        raise PathNotAllowed(
            f"{argument} '{text[:120]}' lies in the state directory", hint=_where(roots)
        )
    folders = folder.relative_to(root).parts
    if any(part.startswith(".") for part in (*folders, path.name)):
        raise PathNotAllowed(
            f"{argument} '{text[:120]}' is hidden", hint="give a name without a dot in front"
        )
    return OutputPlace(root, folders, path.name, argument)


def _where(roots: Sequence[Path]) -> str:
    more = "" if len(roots) == 1 else f" or {len(roots) - 1} directories given by --allow-path"
    return f"write below {roots[0]} (set by --data-dir){more}"


class OutputFile:
    """One file that is being written. Blocking; of one thread at a time.

    Args:
        place: Where it goes.
        overwrite: Whether it may replace a regular file of its name.

    Attributes:
        n_bytes: Written so far.

    Raises:
        InvalidArguments: There is no such directory, or there is a file of the name and it must stay.
        PathNotAllowed: What has the name is no regular file.
        StoreUnavailable: The disk refuses.
    """

    def __init__(self, place: OutputPlace, *, overwrite: bool) -> None:
        self.place = place
        self.n_bytes = 0
        self._overwrite = overwrite
        self._digest = hashlib.sha256()
        self._directory = open_directory(place)
        self._temporary = ""
        self._descriptor = -1
        try:
            self._check_name()
            _sweep(self._directory)
            self._begin()
        except OSError as failure:
            self.abandon()
            raise self._unavailable(failure) from failure
        except BaseException:  # also a cancelled call: no half file stays
            self.abandon()
            raise

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more; libraries ask for that."""
        return self._descriptor < 0

    def write(self, content: bytes) -> int:
        """Append bytes. Raises `StoreUnavailable`."""
        content = bytes(content)
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as failure:
            raise self._unavailable(failure) from failure
        self._digest.update(content)
        self.n_bytes += len(content)
        return len(content)

    def content(self) -> bytes:
        """What was written so far, as it is read back. Raises `StoreUnavailable`."""
        try:
            return b"".join(
                os.pread(self._descriptor, _PIECE, start)
                for start in range(0, self.n_bytes, _PIECE)
            )
        except OSError as failure:
            raise self._unavailable(failure) from failure

    def tell(self) -> int:
        """Bytes written so far; libraries ask for that."""
        return self.n_bytes

    def flush(self) -> None:
        """Nothing is held back."""

    def publish(self) -> None:
        """Make it durable and give it its name.

        Raises:
            InvalidArguments: Somebody else made a file of the name meanwhile.
            StoreUnavailable: The disk refuses. Nothing is left.
        """
        try:
            os.fsync(self._descriptor)
            self._check_name()
            if self._overwrite:
                self._rename()
            else:
                self._link()
            os.fsync(self._directory)
        except OSError as failure:
            raise self._unavailable(failure) from failure
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave nothing of it but what was published. Idempotent."""
        if self._temporary:
            with suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._directory)
            self._temporary = ""
        for descriptor in (self._descriptor, self._directory):
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)
        self._descriptor = self._directory = -1

    def _begin(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(_TRIES):
            name = f".{self.place.name[:100]}.{secrets.token_hex(8)}.partial"
            descriptor = os.open(name, flags, MODE, dir_fd=self._directory)
            self._temporary, self._descriptor = name, descriptor
            if lock(descriptor):
                return
            # Somebody who sweeps took it for what a killed process left.
            os.close(descriptor)
            self._temporary, self._descriptor = "", -1
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _check_name(self) -> None:
        """Raises `InvalidArguments` or `PathNotAllowed` where the name cannot be had."""
        name = self.place.name
        try:
            found = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):
            raise PathNotAllowed(
                f"'{name}' is there and is no regular file", hint="give another name"
            )
        if not self._overwrite:
            raise _exists(self.place)

    def _rename(self) -> None:
        name, directory = self.place.name, self._directory
        os.rename(self._temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        self._temporary = ""

    def _link(self) -> None:
        """Give it a name that nobody else has taken meanwhile."""
        name, directory = self.place.name, self._directory
        try:
            os.link(
                self._temporary,
                name,
                src_dir_fd=directory,
                dst_dir_fd=directory,
                follow_symlinks=False,
            )
        except FileExistsError:
            raise _exists(self.place) from None
        except OSError as failure:
            if failure.errno not in _NO_LINKS:
                raise
            self._take_name()
            self._rename()

    def _take_name(self) -> None:
        """Where the file system has no links: an empty file of the name, which is then replaced."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open(self.place.name, flags, MODE, dir_fd=self._directory))
        except FileExistsError:
            raise _exists(self.place) from None

    def _unavailable(self, failure: OSError) -> StoreUnavailable:
        return StoreUnavailable(
            f"could not write '{self.place.name}': {failure.strerror or failure}",
            hint=f"make room or give another {self.place.argument}, then call again",
        )


def _exists(place: OutputPlace) -> InvalidArguments:
    return InvalidArguments(
        f"'{place.name}' exists",
        hint=f"give another {place.argument}, or overwrite true to replace it",
    )


def open_directory(place: OutputPlace) -> int:
    """A descriptor of the directory in which something is to be written.

    Raises:
        InvalidArguments: There is none.
        PathNotAllowed: A link took its place.
        StoreUnavailable: It cannot be opened.
    """
    try:
        descriptor = walk(place.root, place.folders)
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidArguments(
            f"{place.argument}: there is no directory '{'/'.join(place.folders) or place.root.name}'",
            hint="make it first, or write into another one",
        ) from None
    except InvalidDataset as refusal:
        raise PathNotAllowed(f"{place.argument}: {refusal.message}", hint=refusal.hint) from None
    except OSError as failure:
        raise StoreUnavailable(
            f"{place.argument}: its directory cannot be opened: {failure.strerror}",
            hint="check that the server may write there",
        ) from failure
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidArguments(
            f"{place.argument}: '{place.folders[-1]}' is no directory",
            hint="write into a directory",
        )
    return descriptor


def lock(descriptor: int) -> bool:
    """Hold a file as long as its descriptor is open; False where somebody else does."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        return failure.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def _sweep(directory: int) -> None:
    """Remove what killed processes left: files under temporary names that nobody holds."""
    for name in os.listdir(directory):
        if not PARTIAL.fullmatch(name):
            continue
        with suppress(OSError):
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=directory)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode) and held_by_nobody(descriptor):
                    os.unlink(name, dir_fd=directory)
            finally:
                os.close(descriptor)


def held_by_nobody(descriptor: int) -> bool:
    """Whether a lock can be had; False also where the file system knows none, as then nobody can tell."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
