"""Reserves the standard streams for the protocol.

Standard library only: this runs before any other library is loaded.
"""

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Wire:
    """Private descriptors of the protocol's input and output."""

    read_fd: int
    write_fd: int


def claim_wire() -> Wire:
    """Move the protocol's streams to private descriptors; call this before any library is loaded.

    Afterwards descriptor 0 is empty and descriptor 1 is standard error, so that output of a library, of C
    code or of a child process cannot corrupt the protocol.
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
    """Open descriptor 2 if the parent closed it; else the log would go to the file opened next."""
    if sys.stderr is not None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != 2:
        os.dup2(nowhere, 2)
        os.close(nowhere)
    sys.stderr = os.fdopen(2, "w", closefd=False)


def _private_copy(descriptor: int) -> int:
    """Copy a descriptor to a number above 2, not inherited by children."""
    copy = os.dup(descriptor)
    if copy > 2:
        return copy
    higher = _private_copy(descriptor)
    os.close(copy)
    return higher
