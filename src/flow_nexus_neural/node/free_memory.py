"""Gives freed memory that the allocator keeps for later back to the system. Standard library only.

The C library is resolved at import, because a confined node cannot load a library any more.
"""

import ctypes
import sys
from typing import Any, Final

_malloc_trim: Final[Any] = (
    getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
)
if _malloc_trim is not None:
    _malloc_trim.argtypes = (ctypes.c_size_t,)

CAN_RETURN_FREE_MEMORY: Final = _malloc_trim is not None
"""Whether this system's C library can be asked to: glibc only."""


def return_free_memory() -> None:
    """Give the system back every whole page that is free; nothing where the C library cannot."""
    if _malloc_trim is not None:
        _malloc_trim(0)
