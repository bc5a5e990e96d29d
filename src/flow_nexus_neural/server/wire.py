"""Keep everything but the protocol off the standard streams.

Standard library only: this runs before any other library is loaded.
"""

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Wire:
    """Private descriptors of the protocol's streams."""

    read_fd: int
    write_fd: int


def claim_wire() -> Wire:
    """Take the protocol's streams away from everybody else; call it before any library is loaded.

    Afterwards descriptor 0 is empty, descriptor 1 is standard error, and what any library, C code or
    child writes to standard output lands there.
    """
    _have_standard_error()
    sys.stdout.flush()
    wire = Wire(read_fd=_private_copy(0), write_fd=_private_copy(1))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # a text stream at start-up
    return wire


def _have_standard_error() -> None:
    """Some parents start us with descriptor 2 closed; the next file opened would become our log."""
    if sys.stderr is not None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != 2:
        os.dup2(nowhere, 2)
        os.close(nowhere)
    sys.stderr = os.fdopen(2, "w", closefd=False)


def _private_copy(descriptor: int) -> int:
    """A copy above the standard descriptors that children do not inherit."""
    copy = os.dup(descriptor)
    if copy > 2:
        return copy
    higher = _private_copy(descriptor)
    os.close(copy)
    return higher
