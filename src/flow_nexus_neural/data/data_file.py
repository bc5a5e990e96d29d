"""One opened file whose bytes cannot change unnoticed while they are read.

The file is read once to be digested, block by block, and every block that a reader asks for later is compared
with its digest. So the sha256 that is reported is that of the bytes that were parsed, and a file that is
truncated or rewritten meanwhile gives an error. It is never mapped: a mapping of a file that shrinks kills
the process that touches it.
"""

import hashlib
import io
import os
import time
from pathlib import PurePath
from typing import TYPE_CHECKING

from typing_extensions import override

from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_FILE_BYTES = 256 * 1024 * 1024
BLOCK_BYTES = 256 * 1024


class DataFile:
    """An opened file, as its readers see it.

    Attributes:
        name: The last part of its path.
        suffix: What decides its format, in lower case; for compressed files both, as in `.csv.gz`.
        size: Number of bytes.
        sha256: Of these bytes.
        labels_needed: Whether an array of inputs needs labels beside it: to learn from, not to predict.

    Args:
        descriptor: Of a regular file; stays the caller's to close.
        name: The last part of its path.
        deadline: Moment of the monotonic clock after which no further block is read.
        labels_needed: See the attribute.

    Raises:
        LimitExceeded: If the file is too large, or reading takes too long.
        InvalidDataset: If it changes while it is read.
    """

    labels_needed: bool = True

    def __init__(
        self, descriptor: int, name: str, deadline: float, *, labels_needed: bool = True
    ) -> None:
        self.name = name
        self.labels_needed = labels_needed
        self.suffix = data_suffix(name)
        self.size = os.fstat(descriptor).st_size
        if self.size > MAX_FILE_BYTES:
            raise LimitExceeded(
                f"'{name}' has {self.size} bytes; the limit is {MAX_FILE_BYTES}",
                hint="split the file and pass a glob, or use fewer columns",
            )
        self._descriptor = descriptor
        self._deadline = deadline
        self._digests: list[bytes] = []
        whole = hashlib.sha256()
        for place in range(0, self.size, BLOCK_BYTES):
            block = self._read(place)
            whole.update(block)
            self._digests.append(hashlib.sha256(block).digest())
        self.sha256 = whole.hexdigest()
        self._latest = (-1, b"")

    @property
    def subject(self) -> str:
        """How errors call it."""
        return f"'{self.name}'"

    def stream(self) -> io.BufferedReader:
        """A reader of its own place, from the beginning."""
        return io.BufferedReader(self.raw_stream(), BLOCK_BYTES)

    def raw_stream(self) -> io.RawIOBase:
        """The same without a buffer."""
        return _Blocks(self)

    def block(self, index: int) -> bytes:
        """One block of the bytes that were digested.

        Raises:
            InvalidDataset: If these bytes are not there any more.
            LimitExceeded: If reading takes too long.
        """
        if self._latest[0] != index:
            block = self._read(index * BLOCK_BYTES)
            if hashlib.sha256(block).digest() != self._digests[index]:
                raise self._changed()
            self._latest = (index, block)
        return self._latest[1]

    def _read(self, place: int) -> bytes:
        if time.monotonic() > self._deadline:
            raise LimitExceeded(
                f"reading the data took too long; the last file was {self.subject}",
                hint="use fewer or smaller files, or a faster disk",
            )
        wanted = min(BLOCK_BYTES, self.size - place)
        os.lseek(self._descriptor, place, os.SEEK_SET)
        parts: list[bytes] = []
        while wanted > 0:
            part = os.read(self._descriptor, wanted)
            if not part:
                raise self._changed()
            parts.append(part)
            wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _changed(self) -> InvalidDataset:
        return InvalidDataset(
            f"{self.subject} changed while it was read", hint="call again when nothing writes to it"
        )


def data_suffix(name: str) -> str:
    """The suffix that decides the format, in lower case; for compressed files both, as in `.csv.gz`."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    if suffixes[-1:] == [".gz"]:
        return "".join(suffixes[-2:])
    return suffixes[-1] if suffixes else ""


class _Blocks(io.RawIOBase):
    """The digested bytes of a file as a stream that can be positioned."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._place = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._place

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._file.size}[whence]
        if start + offset < 0:
            raise OSError("a place before the beginning of the file")
        self._place = start + offset
        return self._place

    @override
    def readinto(self, buffer: "Buffer") -> int:
        target = memoryview(buffer).cast("B")
        if self._place >= self._file.size:
            return 0
        index, start = divmod(self._place, BLOCK_BYTES)
        part = memoryview(self._file.block(index))[start : start + len(target)]
        target[: len(part)] = part
        self._place += len(part)
        return len(part)
