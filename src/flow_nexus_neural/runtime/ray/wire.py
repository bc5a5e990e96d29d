"""Messages between the server, the driver, an agent and its host process: a JSON header and a body of bytes.

A message is a prefix (magic, number of the host, header bytes, body bytes, little endian), the header and the
body. The driver and the agent pass whole messages on without looking into them. All four processes run this
package's own code; what a node sends is an opaque body here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

from flow_nexus_neural.errors import InternalError

Buffer = bytes | memoryview
DRIVER: Final = 0
"""The host number of what is said to the driver, and by it."""
MAX_BYTES: Final = 4 << 30
_MAGIC: Final = b"FNNR"
_PREFIX: Final = Struct("<4sIIQ")


@dataclass(frozen=True, slots=True)
class Message:
    """One message, taken apart."""

    host: int
    header: Mapping[str, Any]
    body: memoryview


def pack(host: int, header: Mapping[str, Any], *body: Buffer) -> list[Buffer]:
    """The buffers of a message, to be sent one after the other."""
    text = json.dumps(header).encode()
    nbytes = sum(memoryview(part).nbytes for part in body)
    return [_PREFIX.pack(_MAGIC, host, len(text), nbytes) + text, *body]


def host_of(raw: Buffer) -> int:
    """The number of the host to which a whole message belongs."""
    return int(_PREFIX.unpack_from(raw)[1])


def unpack(raw: Buffer) -> Message:
    """Take a whole message apart."""
    _, host, header_bytes, _ = _PREFIX.unpack_from(raw)
    view = memoryview(raw)[_PREFIX.size :]
    return Message(host, json.loads(bytes(view[:header_bytes])), view[header_bytes:])


def readdressed(raw: bytes, host: int) -> bytes:
    """A whole message with another host's number."""
    _, _, header_bytes, body_bytes = _PREFIX.unpack_from(raw)
    return _PREFIX.pack(_MAGIC, host, header_bytes, body_bytes) + raw[_PREFIX.size :]


class Splitter:
    """Cuts a stream of bytes into whole messages."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: Buffer) -> Iterator[bytes]:
        """Take bytes and give every message that is complete.

        Raises:
            InternalError: These are no messages of this package.
        """
        self._held += data
        start = 0
        while (nbytes := self._length(start)) is not None and start + nbytes <= len(self._held):
            yield bytes(memoryview(self._held)[start : start + nbytes])
            start += nbytes
        if start:
            del self._held[:start]

    def _length(self, start: int) -> int | None:
        if len(self._held) - start < _PREFIX.size:
            return None
        magic, _, header_bytes, body_bytes = _PREFIX.unpack_from(self._held, start)
        nbytes = _PREFIX.size + int(header_bytes) + int(body_bytes)
        if magic != _MAGIC or nbytes > MAX_BYTES:
            raise InternalError("a process of the ray runtime sent what is no message")
        return nbytes
