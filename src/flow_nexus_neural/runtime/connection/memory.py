"""Memory that the engine shares with nodes.

A *region* is written once by the engine, sealed, and then readable by every node that was granted it; a
*buffer* has a fixed size, is written by one node, and is copied out by the engine before a byte of it is
believed. Both are memory files (memfd) whose descriptor rides on the Grant frame. The engine maps neither: it
writes and reads through the descriptor, so that nothing a node does to its own mapping can reach the engine.
A *view* of a buffer is the same file opened once more, for reading only: what a neighbour of its writer gets.

Where memory files do not exist, arrays travel inside frames instead (`CarriedRegion`, `CarriedBuffer`), and
what a neighbour may read is relayed by the engine (`CarriedView`).

All of them are `Grantable`: each says by itself which frame makes it known to a node.
"""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from flow_nexus_neural.errors import InternalError, InvalidState
from flow_nexus_neural.protocol.arrays import Layouts
from flow_nexus_neural.protocol.codec import DTYPES, arrange, pack, raw_bytes
from flow_nexus_neural.protocol.dispatch import Arrays
from flow_nexus_neural.protocol.messages import Grant
from flow_nexus_neural.runtime.base import Buffer

if sys.platform != "win32":
    import fcntl

ALIGNMENT: Final = 64
MEMORY_FILES: Final = hasattr(os, "memfd_create")


@dataclass(frozen=True, slots=True)
class GrantFrame:
    """How a region reaches a node: one Grant, and what goes with it.

    Attributes:
        grant: The message.
        descriptor: Of the memory file; sent along with the frame, and still owned by the region.
        arrays: Content of the frame's body, where no descriptor goes with it; else None.
    """

    grant: Grant
    descriptor: int | None = None
    arrays: Arrays | None = None


class Grantable(ABC):
    """What a runtime makes and a node may be granted.

    Attributes:
        writable: Whether the node it is granted to may write it.
        key: Names it in requests.
        layout: Where its arrays lie.
    """

    writable: ClassVar[bool] = False

    def __init__(self, key: str, layout: Layouts, nbytes: int) -> None:
        self.key = key
        self.layout = layout
        self.nbytes = nbytes

    @abstractmethod
    def grant_frame(self) -> GrantFrame:
        """The frame that grants it, as of now.

        Raises:
            InvalidState: If it has been given up.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up what the engine holds of it. Idempotent."""

    @property
    def is_relayed(self) -> bool:
        """Whether a node sees what is written later only when it is granted the region again."""
        return False

    def store(self, arrays: Arrays) -> None:  # noqa: ARG002 - only some buffers are filled by replies
        """Take the content that a node's reply brought."""
        raise InternalError(f"region {self.key} is not filled by replies")

    def _grant(self) -> Grant:
        return Grant(key=self.key, writable=self.writable, nbytes=self.nbytes, arrays=self.layout)


class _MemoryFile(Grantable):
    """One memory file of a fixed layout, from its creation or opened once more."""

    def __init__(self, key: str, layout: Layouts, nbytes: int, fd: int | None = None) -> None:
        self._fd = fd
        super().__init__(key, layout, nbytes)
        if fd is None:
            self._fd = os.memfd_create("flow-nexus-neural", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self._fd, max(nbytes, 1))  # nothing can map an empty file

    @property
    def fd(self) -> int:
        """The descriptor, while it is open."""
        if self._fd is None:
            raise InvalidState(f"region {self.key} has been given up")
        return self._fd

    @override
    def grant_frame(self) -> GrantFrame:
        return GrantFrame(self._grant(), descriptor=self.fd)

    @override
    def close(self) -> None:
        """Give up the engine's reference. Idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class MemoryRegion(_MemoryFile):
    """Written once, then sealed against every change: size, content and the seals themselves."""

    @classmethod
    def of(cls, key: str, arrays: Arrays) -> Self:
        """Copy arrays into a new region. Costs one pass over them.

        Raises:
            ValueError: If an array has a dtype that is not on the wire.
            OSError: If the kernel has no memory for it.
        """
        region = cls(key, *pack(arrays, ALIGNMENT))
        try:
            for layout, array in zip(region.layout, arrays.values(), strict=True):
                _write(region.fd, raw_bytes(array, layout.dtype), layout.offset)
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(region.fd, fcntl.F_ADD_SEALS, seals)
        except BaseException:  # the descriptor must not outlive a failed region
            region.close()
            raise
        return region


class MemoryBuffer(_MemoryFile):
    """Zeroed memory of a fixed size for one node to write into.

    The size is sealed: a node that could shrink the file would turn the engine's read into an error.
    """

    writable = True

    @classmethod
    def of(cls, key: str, specs: Sequence[tuple[str, str, tuple[int, ...]]]) -> Self:
        """Make a buffer of (name, dtype, shape) arrays."""
        buffer = cls(key, *arrange(specs, ALIGNMENT))
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(buffer.fd, fcntl.F_ADD_SEALS, seals)
        return buffer

    def copy(self) -> dict[str, NDArray[np.float32]]:
        """Private copies of every array; the node may still be writing, so nothing else may be judged."""
        copies: dict[str, NDArray[Any]] = {}
        for layout in self.layout:
            private: NDArray[Any] = np.empty(layout.shape, DTYPES[layout.dtype])
            if layout.nbytes:
                _read(self.fd, private.reshape(-1).view(np.uint8).data, layout.offset)
            copies[layout.name] = private
        return cast("dict[str, NDArray[np.float32]]", copies)

    def read(self, name: str, start: int, into: NDArray[Any]) -> None:
        """Fill a private array with the bytes of one of the arrays, from its element `start` on."""
        (layout,) = (one for one in self.layout if one.name == name)
        offset = layout.offset + start * DTYPES[layout.dtype].itemsize
        if into.nbytes > layout.offset + layout.nbytes - offset:
            raise InternalError(f"buffer {self.key}: {name} ends before what is to be read")
        _read(self.fd, into.view(np.uint8).data, offset)


class MemoryView(_MemoryFile):
    """A buffer's file, opened for reading only.

    A description of its own for every reader: nobody can write through it, map it writable or make a mapping
    of it writable, and readers share no file position.
    """

    @classmethod
    def of(cls, buffer: MemoryBuffer) -> Self:
        """Open a buffer once more.

        Raises:
            OSError: If there is no descriptor left.
        """
        fd = os.open(f"/proc/self/fd/{buffer.fd}", os.O_RDONLY | os.O_CLOEXEC)
        return cls(buffer.key, buffer.layout, buffer.nbytes, fd)


class _Carried(Grantable):
    """Content that travels in the body of the Grant frame."""

    @property
    @abstractmethod
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """What a grant carries."""

    @override
    def grant_frame(self) -> GrantFrame:
        return GrantFrame(self._grant(), arrays=self.arrays)


class CarriedRegion(_Carried):
    """Read-only arrays, copied when it is made."""

    def __init__(self, key: str, arrays: Arrays) -> None:
        super().__init__(key, *pack(arrays))
        self._arrays: Mapping[str, NDArray[Any]] | None = {
            name: _frozen(np.array(array, order="C")) for name, array in arrays.items()
        }

    @property
    @override
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        if self._arrays is None:
            raise InvalidState(f"region {self.key} has been given up")
        return self._arrays

    @override
    def close(self) -> None:
        """Give up the engine's copy. Idempotent."""
        self._arrays = None


class CarriedBuffer(_Carried):
    """Writable arrays whose content is what the node's latest reply brought; zeros before the first reply."""

    writable = True

    def __init__(self, key: str, specs: Sequence[tuple[str, str, tuple[int, ...]]]) -> None:
        super().__init__(key, *arrange(specs))
        self._arrays: Mapping[str, NDArray[Any]] | None = {
            name: np.zeros(shape, DTYPES[dtype]) for name, dtype, shape in specs
        }

    @property
    @override
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        if self._arrays is None:
            raise InvalidState(f"buffer {self.key} has been given up")
        return self._arrays

    @property
    def is_open(self) -> bool:
        """Whether it has not been given up."""
        return self._arrays is not None

    @override
    def store(self, arrays: Arrays) -> None:
        """Keep what a reply brought; its layout has been checked. Ignored once closed."""
        if self._arrays is not None:
            self._arrays = arrays

    def copy(self) -> dict[str, NDArray[np.float32]]:
        """Private copies of every array."""
        return {name: array.copy() for name, array in self.arrays.items()}

    def read(self, name: str, start: int, into: NDArray[Any]) -> None:
        """Fill a private array with the bytes of one of the arrays, from its element `start` on."""
        array = self.arrays[name]
        stop = start + into.nbytes // array.itemsize
        if stop > array.size:
            raise InternalError(f"buffer {self.key}: {name} ends before what is to be read")
        into.view(np.uint8)[:] = array[start:stop].view(np.uint8)

    @override
    def close(self) -> None:
        """Give up the engine's copy. Idempotent."""
        self._arrays = None


class CarriedView(_Carried):
    """What neighbours of a carried buffer's writer may read: its content at the time of the latest grant."""

    def __init__(self, source: CarriedBuffer) -> None:
        super().__init__(source.key, source.layout, source.nbytes)
        self.source = source

    @property
    @override
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return self.source.arrays

    @property
    @override
    def is_relayed(self) -> bool:
        """While the buffer is open; what the node holds afterwards is what it was granted last."""
        return self.source.is_open

    @override
    def close(self) -> None:
        """Nothing to give up: the arrays belong to the buffer."""


def view_of(buffer: Buffer) -> MemoryView | CarriedView:
    """What a neighbour of a buffer's writer may be granted.

    Raises:
        InternalError: If no runtime made the buffer.
        OSError: If there is no descriptor left.
    """
    if isinstance(buffer, MemoryBuffer):
        return MemoryView.of(buffer)
    if isinstance(buffer, CarriedBuffer):
        return CarriedView(buffer)
    raise InternalError(f"buffer {buffer.key} was not made by a runtime")


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _write(fd: int, data: memoryview, offset: int) -> None:
    while len(data):
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _read(fd: int, target: memoryview, offset: int) -> None:
    while len(target):
        n_bytes = os.preadv(fd, [target], offset)
        if n_bytes == 0:
            raise OSError(f"a memory file ends at byte {offset}")
        target, offset = target[n_bytes:], offset + n_bytes
