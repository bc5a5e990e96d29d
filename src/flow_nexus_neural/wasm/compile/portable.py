"""A module that is complete: its weights as data, what it computes in a custom section.

What is appended to an assembled module are two sections of the binary format (WebAssembly Core Specification,
section 5.5): data segments, one for each region of weights, and a custom section with JSON.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.wasm.compile.network import CompiledNetwork

META: Final = "flow_nexus.meta"
_CUSTOM, _DATA = 0, 11
_I32_CONST, _END = b"\x41", b"\x0b"


def complete(
    binary: bytes,
    compiled: CompiledNetwork,
    tensors: Mapping[str, NDArray[np.float32]],
    meta: bytes,
) -> bytes:
    """The module with its weights and metadata.

    Args:
        binary: The module as assembled from its text, which has no data of its own.
        compiled: Where the weights lie.
        tensors: By full name, in Keras' shapes.
        meta: JSON in UTF-8, the content of the section `flow_nexus.meta`.
    """
    segments = []
    for one in compiled.constants:
        content = np.ascontiguousarray(one.fill(tensors), dtype="<f4").tobytes()
        place = b"\x00" + _I32_CONST + signed(one.at) + _END
        segments.append(place + unsigned(len(content)) + content)
    data = unsigned(len(segments)) + b"".join(segments)
    name = META.encode()
    custom = unsigned(len(name)) + name + meta
    return binary + _section(_DATA, data) + _section(_CUSTOM, custom)


def meta_of(module: bytes) -> bytes | None:
    """The metadata of a module; None where it has none or is no module."""
    for kind, content in sections(module):
        name = META.encode()
        if kind == _CUSTOM and content[: len(name) + 1] == unsigned(len(name)) + name:
            return content[len(name) + 1 :]
    return None


def sections(module: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of every section; ends where the bytes are not those of a module."""
    at = 8
    while at < len(module):
        kind, size, shift = module[at], 0, 0
        at += 1
        while at < len(module):
            byte = module[at]
            size |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80 or shift > 35:
                break
        yield kind, module[at : at + size]
        at += size


def _section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + unsigned(len(content)) + content


def unsigned(value: int) -> bytes:
    """A number as unsigned LEB128."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def signed(value: int) -> bytes:
    """A non-negative number as signed LEB128."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        last = value == 0 and not low & 0x40
        out.append(low | (0 if last else 0x80))
        if last:
            return bytes(out)
