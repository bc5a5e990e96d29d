"""Frames: encodes messages and arrays as bytes and decodes them, without any I/O.

A frame is a 16-byte prefix (magic, header bytes as u32, body bytes as u64, little endian), a JSON header
`{id, inc, msg, arrays}` and the raw bytes of the arrays, back to back, little endian, C order.

The decoder trusts nothing: it checks lengths before it allocates memory and the header before it reads the
body, and the arrays must fill the body without gaps or overlaps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from struct import Struct
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from flow_nexus_neural.errors import LimitExceeded, NeuralError, ProtocolViolation
from flow_nexus_neural.protocol.arrays import ArrayLayout, Count, DType, Layouts
from flow_nexus_neural.protocol.messages import Reply, Request
from flow_nexus_neural.protocol.node_words import quoted
from flow_nexus_neural.protocol.plan import Frozen

MAGIC = b"FNN1"
PREFIX = Struct("<4sIQ")
MAX_HEADER_BYTES = 1 << 20
MAX_BODY_BYTES = 64 << 20
MAX_ARRAYS = 512
MAX_FAULT_CHARS = 400

DTYPES: dict[str, np.dtype[Any]] = {
    "f4": np.dtype("<f4"),
    "f8": np.dtype("<f8"),
    "i8": np.dtype("<i8"),
    "i4": np.dtype("<i4"),
    "u1": np.dtype("u1"),
}
_NAMES: dict[np.dtype[Any], DType] = {
    np.dtype("<f4"): "f4",
    np.dtype("<f8"): "f8",
    np.dtype("<i8"): "i8",
    np.dtype("<i4"): "i4",
    np.dtype("u1"): "u1",
}

M = TypeVar("M")


class Header(Frozen, Generic[M]):
    """The JSON header of a frame, which precedes the arrays."""

    id: Count
    inc: Count
    msg: M
    arrays: Annotated[Layouts, Field(max_length=MAX_ARRAYS)]


class _Address(BaseModel):
    """The fields of a header that are needed to send an error reply when the rest of it is invalid."""

    model_config = ConfigDict(frozen=True, strict=True)

    id: Count
    inc: Count


REQUEST_HEADERS: TypeAdapter[Header[Request]] = TypeAdapter(Header[Request])
REPLY_HEADERS: TypeAdapter[Header[Reply]] = TypeAdapter(Header[Reply])


@dataclass(frozen=True, slots=True)
class Frame(Generic[M]):
    """One message with its arrays, which lie in the receiver's own memory."""

    call_id: int
    incarnation: int
    message: M
    arrays: dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame with valid lengths and address, but with an invalid message or layout."""

    call_id: int
    incarnation: int
    reason: str


class Gate(Protocol[M]):
    """Decides which frames are acceptable now; both methods raise ProtocolViolation or Fenced to refuse."""

    def admit_lengths(self, header_bytes: int, body_bytes: int) -> None:
        """Check a prefix, before memory for the header is allocated."""
        ...

    def admit_header(self, header: Header[M]) -> None:
        """Check a header, before memory for the body is allocated."""
        ...


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """A gate that only limits the length of frames."""

    header_bytes: int = MAX_HEADER_BYTES
    body_bytes: int = MAX_BODY_BYTES

    def admit_lengths(self, header_bytes: int, body_bytes: int) -> None:
        """Refuse a frame that is longer than the limits."""
        if header_bytes > self.header_bytes or body_bytes > self.body_bytes:
            raise ProtocolViolation(
                f"a frame announces {header_bytes} header bytes and {body_bytes} body bytes,"
                f" above the limits {self.header_bytes} and {self.body_bytes}"
            )

    def admit_header(self, header: Header[Any]) -> None:
        """Accept every message."""


def pack(arrays: Mapping[str, NDArray[Any]], align: int = 1) -> tuple[Layouts, int]:
    """Lay arrays out one after another.

    Args:
        arrays: By name, in order.
        align: Every offset becomes a multiple of this many bytes.

    Returns:
        The layouts, and the number of bytes up to the end of the last array.

    Raises:
        ValueError: If the protocol does not support the dtype of an array.
    """
    return arrange(
        [(name, _wire_name(name, array), array.shape) for name, array in arrays.items()], align
    )


def arrange(
    specs: Sequence[tuple[str, str, tuple[int, ...]]], align: int = 1
) -> tuple[Layouts, int]:
    """As `pack`, for arrays given as (name, dtype, shape)."""
    layouts: list[ArrayLayout] = []
    end = 0
    for name, dtype, shape in specs:
        start = -(-end // align) * align
        nbytes = prod(shape) * DTYPES[dtype].itemsize
        fields = {"name": name, "dtype": dtype, "shape": shape, "offset": start, "nbytes": nbytes}
        layouts.append(ArrayLayout.model_validate(fields))
        end = start + nbytes
    return tuple(layouts), end


def _wire_name(name: str, array: NDArray[Any]) -> DType:
    known = _NAMES.get(array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype)
    if known is None:
        raise ValueError(f"array {name!r} has dtype {array.dtype}; the wire has {list(DTYPES)}")
    return known


def raw_bytes(array: NDArray[Any], dtype: str) -> memoryview:
    """The bytes of an array in little-endian C order; copied only if it is stored otherwise."""
    # Not ascontiguousarray, which turns a 0-d array into a 1-d one.
    plain = np.asarray(array, dtype=DTYPES[dtype], order="C")
    return plain.reshape(-1).view(np.uint8).data if plain.size else memoryview(b"")


def encode(
    call_id: int,
    incarnation: int,
    message: BaseModel,
    arrays: Mapping[str, NDArray[Any]] | None = None,
    *,
    limits: FrameLimits | None = None,
) -> list[bytes | memoryview]:
    """Encode one frame as buffers to be sent in order; array bytes are not copied.

    Args:
        call_id: 0 for Ready, else the number of the call.
        incarnation: Of the node, in requests and replies.
        message: A request or a reply.
        arrays: Its arrays, in order.
        limits: The receiver's limits.

    Raises:
        LimitExceeded: If the frame is longer than the receiver's limits.
        ValueError: If the protocol does not support the dtype of an array.
    """
    limits = limits or FrameLimits()
    layouts, body_bytes = pack(arrays or {})
    described = ",".join(layout.model_dump_json() for layout in layouts)
    text = (
        f'{{"id":{call_id},"inc":{incarnation},"msg":{message.model_dump_json()},'
        f'"arrays":[{described}]}}'
    )
    header = text.encode()
    if len(header) > limits.header_bytes or body_bytes > limits.body_bytes:
        raise LimitExceeded(
            f"a {type(message).__name__} frame needs {len(header)} header bytes and"
            f" {body_bytes} body bytes; {limits.header_bytes} and {limits.body_bytes} are allowed",
            hint="send fewer rows, or a smaller network",
        )
    bodies = [
        raw_bytes(array, layout.dtype)
        for layout, array in zip(layouts, (arrays or {}).values(), strict=True)
        if layout.nbytes
    ]
    return [PREFIX.pack(MAGIC, len(header), body_bytes) + header, *bodies]


class Decoder(Generic[M]):
    """Turns a stream of bytes into frames; after the first error the stream cannot be continued.

    Args:
        headers: `REQUEST_HEADERS` in a node, `REPLY_HEADERS` in the engine.
        gate: Decides which frames are acceptable.
        tolerant: Return `Unreadable` for an invalid message in a delimited and addressed frame, so that it
            can be answered. Only for a receiver that trusts the sender.
    """

    def __init__(
        self, headers: TypeAdapter[Header[M]], gate: Gate[M], *, tolerant: bool = False
    ) -> None:
        self._headers = headers
        self._gate = gate
        self._tolerant = tolerant
        self._stage: Literal["prefix", "header", "body", "failed"] = "prefix"
        self._target = bytearray(PREFIX.size)
        self._filled = 0
        self._body_bytes = 0
        self._header: Header[M] | Unreadable | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame[M] | Unreadable]:
        """Take bytes and return the frames that they complete; for a gate without state.

        Raises:
            ProtocolViolation: If the bytes are not valid frames. Every later call raises it too.
            NeuralError: As raised by the gate.
        """
        return list(self.frames(data))

    def frames(self, data: bytes | bytearray | memoryview) -> Iterator[Frame[M] | Unreadable]:
        """Take bytes and yield the frames that they complete, one by one.

        The receiver must process each frame before it takes the next, because the gate judges a frame by the
        replies still awaited after the one before it. Exhaust the iterator: unread bytes would be lost.

        Raises:
            ProtocolViolation, NeuralError: As `feed`.
        """
        if self._stage == "failed":
            raise ProtocolViolation("the stream has already failed")
        rest = memoryview(data)
        while True:
            taken = min(len(rest), len(self._target) - self._filled)
            self._target[self._filled : self._filled + taken] = rest[:taken]
            self._filled += taken
            rest = rest[taken:]
            if self._filled < len(self._target):
                return
            try:
                done = self._complete()
            except NeuralError:
                self._stage = "failed"
                raise
            if done is not None:
                yield done

    def _complete(self) -> Frame[M] | Unreadable | None:
        full, self._filled = self._target, 0
        if self._stage == "prefix":
            self._target = bytearray(self._read_prefix(full))
            self._stage = "header"
            return None
        if self._stage == "header":
            self._header = self._read_header(bytes(full))
            self._target = bytearray(self._body_bytes)
            self._stage = "body"
            return None
        header, self._header = self._header, None
        self._target = bytearray(PREFIX.size)
        self._stage = "prefix"
        if isinstance(header, Header):
            return Frame(header.id, header.inc, header.msg, _arrays(header.arrays, full))
        return header

    def _read_prefix(self, prefix: bytearray) -> int:
        magic, header_bytes, self._body_bytes = PREFIX.unpack(prefix)
        if magic != MAGIC:
            raise ProtocolViolation(f"a frame begins with {bytes(magic)!r}, not {MAGIC!r}")
        self._gate.admit_lengths(header_bytes, self._body_bytes)
        return int(header_bytes)

    def _read_header(self, text: bytes) -> Header[M] | Unreadable:
        try:
            header = self._headers.validate_json(text)
            _check_layouts(header.arrays, self._body_bytes)
        except (ValidationError, ProtocolViolation) as failure:
            reason = _first_line(failure)
            if not self._tolerant:
                raise ProtocolViolation(f"a header is not valid: {reason}") from failure
            return _unreadable(text, reason)
        self._gate.admit_header(header)
        return header


def _unreadable(text: bytes, reason: str) -> Unreadable:
    try:
        address = _Address.model_validate_json(text)
    except ValidationError as failure:
        raise ProtocolViolation(f"a header has no address: {_first_line(failure)}") from failure
    return Unreadable(address.id, address.inc, reason)


def _first_line(failure: ValidationError | ProtocolViolation) -> str:
    if isinstance(failure, ProtocolViolation):
        return failure.message
    first = failure.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    # Names of unknown fields and unknown kinds are the sender's own.
    return quoted(f"{place[:200]}: {first['msg'][:300]}", MAX_FAULT_CHARS)


def _check_layouts(layouts: Layouts, body_bytes: int) -> None:
    end = 0
    names: set[str] = set()
    for layout in layouts:
        size = prod(layout.shape) * DTYPES[layout.dtype].itemsize
        if layout.name in names or layout.offset != end or layout.nbytes != size:
            raise ProtocolViolation(
                f"array {layout.name!r} of {size} bytes claims {layout.nbytes} bytes"
                f" at {layout.offset}, where {end} is free, or repeats a name"
            )
        names.add(layout.name)
        end += size
    if end != body_bytes:
        raise ProtocolViolation(f"arrays fill {end} of {body_bytes} body bytes")


def _arrays(layouts: Layouts, body: bytearray) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for layout in layouts:
        try:
            view: NDArray[Any] = np.ndarray(
                layout.shape, DTYPES[layout.dtype], buffer=body, offset=layout.offset
            )
        except ValueError as failure:  # numpy refuses huge dimensions even if another one is 0
            raise ProtocolViolation(
                f"array {layout.name!r} has the impossible shape {layout.shape}"
            ) from failure
        # Arrays lie in a frame without padding, so one may start at an unaligned address.
        arrays[layout.name] = view if view.flags.aligned else view.copy()
    return arrays
