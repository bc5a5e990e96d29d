"""What the messages of an Arrow stream say about themselves, read before anything is taken for them.

Each message is a description in the format of FlatBuffers and a body. The library takes memory for a body as
the description says, so the sizes are walked here first, in the little of the format that they need.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

MAX_MESSAGES: Final = 100_000
MAX_DESCRIPTION_BYTES: Final = 8 * 1024 * 1024
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
FILE_MARK: Final = b"ARROW1\0\0"
"""What a file begins with that holds a stream and an index of it."""
_CONTINUES: Final = b"\xff\xff\xff\xff"
_DICTIONARY, _BATCH = 2, 3
_KIND, _HEADER, _BODY = 1, 2, 3
"""Places of the fields of a message."""
_ROWS, _COMPRESSION = 0, 3
"""Places of the fields of a batch."""
_DATA: Final = 1
"""Place of the batch in a dictionary."""


@dataclass(frozen=True)
class Message:
    """A message's description: how many rows it has, if it is a batch, and how long its body is."""

    rows: int
    body_bytes: int


def messages(stream: IO[bytes], size: int, subject: str) -> Iterator[Message]:
    """Walk the messages of a stream of so many bytes.

    Raises:
        InvalidDataset: If it is damaged, or its bodies are compressed.
        LimitExceeded: If there are too many messages, or one is too large.
    """
    for _ in range(MAX_MESSAGES):
        head = stream.read(8)
        if len(head) < 8 or head[:4] != _CONTINUES or head[4:] == b"\0\0\0\0":
            if head and head[:4] != _CONTINUES:
                raise _damaged(subject, "no message where one is due")
            return
        length = int.from_bytes(head[4:], "little")
        if length > MAX_DESCRIPTION_BYTES:
            raise LimitExceeded(f"{subject} describes a batch in {length} bytes", hint=_SMALLER)
        description = stream.read(length)
        try:
            message = _message(description, subject)
        except (struct.error, IndexError, OverflowError):
            raise _damaged(subject, "a damaged description") from None
        if not 0 <= message.body_bytes <= size - stream.tell():
            raise _damaged(subject, f"a body of {message.body_bytes} bytes that are not there")
        if message.body_bytes > MAX_BODY_BYTES:
            raise LimitExceeded(
                f"{subject} has a batch of {message.body_bytes} bytes; the limit is {MAX_BODY_BYTES}",
                hint=_SMALLER,
            )
        yield message
        stream.seek(message.body_bytes, 1)
    raise LimitExceeded(f"{subject} has more than {MAX_MESSAGES} messages", hint=_SMALLER)


_SMALLER: Final = "write it in batches of fewer rows, about 10,000"


def _message(description: bytes, subject: str) -> Message:
    table = _Table(description, struct.unpack_from("<I", description, 0)[0])
    kind = table.number(_KIND, "<B")
    body = table.number(_BODY, "<q")
    header = table.inner(_HEADER)
    batch = header.inner(_DATA) if header is not None and kind == _DICTIONARY else header
    if batch is None or kind not in (_DICTIONARY, _BATCH):
        return Message(0, body)
    if batch.inner(_COMPRESSION) is not None:
        raise InvalidDataset(
            f"{subject} is compressed", hint="write it uncompressed, or as Parquet"
        )
    rows = batch.number(_ROWS, "<q")
    if rows < 0:
        raise _damaged(subject, f"a batch of {rows} rows")
    return Message(rows if kind == _BATCH else 0, body)


class _Table:
    """A table of FlatBuffers: fields by their places, each absent if it has its default."""

    def __init__(self, content: bytes, place: int) -> None:
        self._content = content
        self._place = place
        self._fields = place - struct.unpack_from("<i", content, place)[0]
        if self._fields < 0:
            raise IndexError
        self._size = struct.unpack_from("<H", content, self._fields)[0]

    def number(self, field: int, form: str) -> int:
        """A number; 0 if it is absent."""
        place = self._at(field)
        return int(struct.unpack_from(form, self._content, place)[0]) if place else 0

    def inner(self, field: int) -> "_Table | None":
        """A table within; None if it is absent."""
        place = self._at(field)
        if not place:
            return None
        return _Table(self._content, place + struct.unpack_from("<I", self._content, place)[0])

    def _at(self, field: int) -> int:
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return 0
        offset = struct.unpack_from("<H", self._content, self._fields + entry)[0]
        return self._place + int(offset) if offset else 0


def _damaged(subject: str, what: str) -> InvalidDataset:
    return InvalidDataset(
        f"{subject} is not a readable Arrow file: {what}"[:200],
        hint="write it anew or convert it to CSV",
    )
