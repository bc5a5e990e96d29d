"""Text of a file, plain or gzipped, in lines and chunks of bounded size."""

import io
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from typing_extensions import override

from flow_nexus_neural.data.data_file import MAX_FILE_BYTES, DataFile
from flow_nexus_neural.data.json_text import MAX_INLINE_BYTES
from flow_nexus_neural.errors import LimitExceeded

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_LINE_CHARS = MAX_INLINE_BYTES
CHUNK_CHARS = 2_000_000
_PACKED_BYTES = 64 * 1024
_STREAM_BYTES = 256 * 1024
_GZIP = 31
"""zlib's word for a gzip header and the largest window."""


def text_lines(file: DataFile, max_chars: int = MAX_LINE_CHARS) -> Iterator[str]:
    """The lines of a file with their ends.

    Raises:
        LimitExceeded: If a line is too long, or the file unpacks to too much.
        UnicodeDecodeError: If it is not UTF-8.
        EOFError, zlib.error: If it is gzipped and damaged.
    """
    text = io.TextIOWrapper(unpacked(file), encoding="utf-8-sig", newline="")
    for line in iter(partial(text.readline, max_chars), ""):
        if len(line) >= max_chars:
            raise LimitExceeded(
                f"{file.subject} has a line of more than {max_chars} characters",
                hint="give every row a line of its own",
            )
        yield line


def unpacked(file: DataFile) -> io.BufferedReader:
    """The bytes of a file, unpacked if it is gzipped."""
    if not file.suffix.endswith(".gz"):
        return file.stream()
    return io.BufferedReader(_Unpacked(file), _STREAM_BYTES)


def chunks(lines: Iterable[str], height: int) -> Iterator[list[str]]:
    """Lists of at most so many lines, and of about so much text at most that it is soon converted."""
    chunk: list[str] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if len(chunk) >= height or size >= CHUNK_CHARS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class _Unpacked(io.RawIOBase):
    """What a gzipped file holds, one member after the other."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._packed = file.stream()
        self._waiting = b""
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False
        self._size = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: "Buffer") -> int:
        target = memoryview(buffer).cast("B")
        part = self._next(len(target))
        self._size += len(part)
        if self._size > MAX_FILE_BYTES:
            raise LimitExceeded(
                f"{self._file.subject} unpacks to more than {MAX_FILE_BYTES} bytes",
                hint="split the file and pass a glob",
            )
        target[: len(part)] = part
        return len(part)

    def _next(self, size: int) -> bytes:
        """At most so many unpacked bytes; none at the end."""
        while True:
            if not self._waiting:
                self._waiting = self._packed.read(_PACKED_BYTES)
            if not self._waiting and not self._begun:
                return b""
            if not self._begun and not self._waiting.strip(b"\0"):
                self._waiting = b""  # some writers pad the end with zeros
                continue
            if not self._waiting:
                raise EOFError("the packed data end too early")
            self._begun = True
            part = self._member.decompress(self._waiting, size)
            self._waiting = self._member.unconsumed_tail
            if self._member.eof:
                self._waiting = self._member.unused_data
                self._member, self._begun = zlib.decompressobj(_GZIP), False
            if part:
                return part
