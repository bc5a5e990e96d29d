"""Maps granted memory into the node.

Python's `mmap` module calls `fstat`, which a confined node may not, so the C library's `mmap` is called
directly. A mapping is removed when the last array over it is deleted: revoking a region never unmaps memory
that a computation still reads.
"""

import ctypes
import mmap
import os
import weakref
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.protocol.arrays import ArrayLayout
from flow_nexus_neural.protocol.codec import DTYPES
from flow_nexus_neural.protocol.messages import Grant

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_MMAP: Final = _LIBC.mmap
_MMAP.restype = ctypes.c_void_p
_MMAP.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_MUNMAP: Final = _LIBC.munmap
_MUNMAP.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED: Final = ctypes.c_void_p(-1).value


class _Mapping:
    """Owner of one mapping. Arrays made from it keep it alive; collecting it unmaps the memory."""

    def __init__(self, fd: int, nbytes: int, *, writable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        address = _MMAP(None, nbytes, protection, mmap.MAP_SHARED, fd, 0)
        if address is None or address == _FAILED:
            code = ctypes.get_errno()
            raise OSError(code, f"mmap of {nbytes} bytes: {os.strerror(code)}")
        self.__array_interface__ = {
            "version": 3,
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, not writable),
        }
        # Not at interpreter exit, when the kernel unmaps everything anyway.
        weakref.finalize(self, _MUNMAP, address, nbytes).atexit = False


def map_region(fd: int, grant: Grant) -> dict[str, NDArray[Any]]:
    """Map the memory of a descriptor, which may be closed afterwards, and return arrays over it.

    Args:
        fd: A memory file of at least `grant.nbytes` bytes.
        grant: Gives each array's place; the mapping is read-only unless `writable`.

    Raises:
        ValueError: If an array does not lie inside the region, or is not aligned.
        OSError: If the kernel refuses the mapping.
    """
    for layout in grant.arrays:
        _check(layout, grant.nbytes)
    whole: NDArray[np.uint8] = np.asarray(
        _Mapping(fd, max(grant.nbytes, 1), writable=grant.writable)
    )
    return {
        layout.name: whole[layout.offset : layout.offset + layout.nbytes]
        .view(DTYPES[layout.dtype])
        .reshape(layout.shape)
        for layout in grant.arrays
    }


def _check(layout: ArrayLayout, nbytes: int) -> None:
    itemsize = DTYPES[layout.dtype].itemsize
    inside = layout.offset + layout.nbytes <= nbytes
    if not inside or layout.nbytes != prod(layout.shape) * itemsize or layout.offset % itemsize:
        raise ValueError(f"array {layout.name!r} does not fit a region of {nbytes} bytes")
