"""Writes one new file below the write roots: whole and durable under its name, or not at all.

The file grows under a temporary name beside its place; `data.unfinished` removes what a killed process left.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from flow_nexus_neural.data.output_place import OutputPlace, open_directory
from flow_nexus_neural.data.unfinished import note, note_over, sweep, taken, temporary_name
from flow_nexus_neural.data.written import is_remembered, remember
from flow_nexus_neural.errors import InvalidArguments, PathNotAllowed, StoreUnavailable

MODE = 0o600
"""Predictions are as private as the rows that they are made of."""
HEAD_BYTES = 4096
"""By which a file is known that may be replaced."""
_TRIES = 3
_PIECE = 1 << 24
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


class OutputFile:
    """One file that is being written. Blocking; of one thread at a time.

    Args:
        place: Where it goes.
        overwrite: Whether it may replace a regular file of its name.
        former: By its beginning, whether a file may be replaced; None for one that this program remembers to
            have written just so.

    Attributes:
        n_bytes: Written so far.

    Raises:
        InvalidArguments: There is no such directory, or there is a file of the name and it must stay.
        PathNotAllowed: What has the name is no regular file, or is none that may be replaced.
        StoreUnavailable: The disk refuses.
    """

    def __init__(
        self,
        place: OutputPlace,
        *,
        overwrite: bool,
        former: Callable[[bytes], object] | None = None,
    ) -> None:
        self.place = place
        self.n_bytes = 0
        self._overwrite, self._former = overwrite, former
        self._digest = hashlib.sha256()
        self._directory = open_directory(place)
        self._temporary = ""
        self._descriptor = -1
        self._noted: Path | None = None
        try:
            self._check_name()
            sweep(self._directory)
            self._noted = note(place)
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
            if self._former is None:
                remember(self.place, self.sha256)
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
        note_over(self._noted)

    def _begin(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(_TRIES):
            name = temporary_name(self.place.name)
            descriptor = os.open(name, flags, MODE, dir_fd=self._directory)
            self._temporary, self._descriptor = name, descriptor
            if taken(descriptor, name, self._directory):
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
        # Of an export it is said also without overwrite, so that nobody tries it with that.
        if self._former is None and not self._overwrite:
            raise _exists(self.place)
        why = self._foreign(name) if found.st_size or self._former is not None else None
        if why is not None:
            raise PathNotAllowed(
                f"'{name}' is there and {why}: it is not replaced",
                hint="give another name, or move it away",
            )
        if not self._overwrite:
            raise _exists(self.place)

    def _foreign(self, name: str) -> str | None:
        """Why a file that is there may not be replaced; None where it may be."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=self._directory)
        try:
            if self._former is not None:
                ours = self._former(os.read(descriptor, HEAD_BYTES))
                return None if ours else "was not written by an export"
            ours = is_remembered(self.place, descriptor)
            return None if ours else "is not what was written there with this state directory"
        finally:
            os.close(descriptor)

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
        hint=f"give another {place.argument}, or overwrite true to replace what was written there before",
    )
