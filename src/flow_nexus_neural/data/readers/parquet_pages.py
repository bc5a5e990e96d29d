"""What the pages of a Parquet file say about themselves, read before anything is unpacked.

The footer's sizes are only claims about the pages, and each page's header says how much memory its reader
will take for it at once. So the headers are walked here, in the little of Thrift's compact protocol that they
need.
"""

from dataclasses import dataclass
from typing import IO

from flow_nexus_neural.errors import InvalidDataset

MAX_DEPTH = 8
MAX_VARINT_BYTES = 10
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_TYPE, _UNPACKED, _PACKED, _DATA, _DICTIONARY, _DATA_V2 = 1, 2, 3, 5, 7, 8
"""Numbers of the fields of a page's header; each kind of page has its number of values in field 1."""


@dataclass(frozen=True)
class Page:
    """A page's header.

    Attributes:
        packed_bytes: Bytes that follow the header.
        unpacked_bytes: Memory that its reader takes.
        values: Number of values, those of lists counted one by one.
        holds_data: Whether its values are the column's, and not only a dictionary.
    """

    packed_bytes: int
    unpacked_bytes: int
    values: int
    holds_data: bool


def read_page(stream: IO[bytes], subject: str) -> Page:
    """Read the header at the stream's place.

    Raises:
        InvalidDataset: If there is none.
    """
    try:
        fields = _Compact(stream).struct()
        found = {number: fields[number] for number in (_TYPE, _UNPACKED, _PACKED)}
    except (ValueError, KeyError) as failure:
        raise InvalidDataset(
            f"{subject} is not a readable Parquet file: a damaged page header ({failure})"[:200],
            hint="write it anew or convert it to CSV",
        ) from None
    described = [fields[number] for number in (_DATA, _DICTIONARY, _DATA_V2) if number in fields]
    counts = [part.get(1, 0) for part in described if isinstance(part, dict)]
    values = [count for count in counts if isinstance(count, int)]
    packed, unpacked = found[_PACKED], found[_UNPACKED]
    if not isinstance(packed, int) or not isinstance(unpacked, int) or min(packed, unpacked) < 0:
        raise InvalidDataset(
            f"{subject} has a page of impossible size", hint="write it anew or convert it to CSV"
        )
    return Page(packed, unpacked, max([0, *values]), _DATA in fields or _DATA_V2 in fields)


class _Compact:
    """Thrift's compact protocol: integers and structures are kept, everything else is skipped."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def struct(self, depth: int = 0) -> dict[int, object]:
        """The fields of a structure by their numbers."""
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        fields: dict[int, object] = {}
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._signed()
            fields[number] = self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> object:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _BINARY:
            self._skip(self._unsigned())
        elif kind in (_BYTE, _DOUBLE):
            self._skip(1 if kind == _BYTE else 8)
        else:
            # Headers of pages hold no lists or maps.
            raise ValueError(f"a field of kind {kind}")
        return None

    def _byte(self) -> int:
        byte = self._stream.read(1)
        if not byte:
            raise ValueError("it ends too early")
        return byte[0]

    def _unsigned(self) -> int:
        number = 0
        for place in range(MAX_VARINT_BYTES):
            byte = self._byte()
            number |= (byte & 127) << (7 * place)
            if byte < 128:
                return number
        raise ValueError("an endless number")

    def _signed(self) -> int:
        number = self._unsigned()
        return (number >> 1) ^ -(number & 1)

    def _skip(self, nbytes: int) -> None:
        self._stream.seek(nbytes, 1)
