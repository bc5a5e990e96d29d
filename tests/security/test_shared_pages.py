"""What the kernel itself writes into memory when a node dies does not reach what others hold."""

import ctypes
import mmap
import os
import struct
from dataclasses import dataclass

import pytest

from tests.security.attack import kernel, map_memory
from tests.security.harness import (
    BARE,
    STRONGEST_USER,
    SUCCEEDED,
    Confinement,
    outcome_of,
)
from tests.security.stage import PAGE, sealed_memory

_READ, _READ_WRITE, _MAP_SHARED = 1, 3, 1
_OWNER_DIED = 0x4000_0000


@dataclass
class Neighbourhood:
    """A buffer whose owner plays along, and the view of it that the dying node holds."""

    buffer: int
    view: int

    def word(self):
        return struct.unpack("I", os.pread(self.buffer, 4, 0))[0]


@pytest.fixture
def shared():
    buffer = sealed_memory(0)
    view = os.open(f"/proc/self/fd/{buffer}", os.O_RDONLY)
    yield Neighbourhood(buffer, view)
    os.close(buffer)
    os.close(view)


def _head_of_robust_list():
    """Of this thread: the C library has told the kernel where it lies, and the node can write there."""
    head, length = ctypes.c_void_p(), ctypes.c_size_t()
    kernel("get_robust_list", 0, ctypes.byref(head), ctypes.byref(length))
    return head.value


_ENTRY = ctypes.create_string_buffer(16)


def _die_holding(head, page):
    """Leave a robust futex at `page` behind, which the kernel marks as its owner's death on exit."""
    entry = ctypes.addressof(_ENTRY)
    ctypes.memmove(entry, struct.pack("Q", head), 8)
    ctypes.memmove(head, struct.pack("QqQ", entry, page - entry, 0), 24)


def _note_own_thread(shared):
    """What a neighbour that plays along would do: the kernel only marks words that hold the dead one's id."""
    with mmap.mmap(shared.buffer, PAGE) as memory:
        memory[:4] = struct.pack("I", os.getpid())


def test_the_kernels_note_of_a_death_reaches_a_page_that_may_be_written(shared):
    def die():
        _note_own_thread(shared)
        page = map_memory(PAGE, _READ_WRITE, _MAP_SHARED, shared.buffer)
        _die_holding(_head_of_robust_list(), page)

    assert outcome_of(die, user=STRONGEST_USER, confinement=BARE) == SUCCEEDED
    assert shared.word() & _OWNER_DIED


def test_the_kernels_note_of_a_death_does_not_reach_a_view(shared, user):
    prepared = {}

    def apply(limits, keep, ppid):
        _note_own_thread(shared)
        prepared["head"] = _head_of_robust_list()
        Confinement().apply(limits, keep, ppid)

    def die():
        page = map_memory(PAGE, _READ, _MAP_SHARED, shared.view)
        _die_holding(prepared["head"], page)

    confinement = Confinement(keep_fds=(shared.view,), apply=apply)
    assert outcome_of(die, user=user, confinement=confinement) == SUCCEEDED
    assert shared.word() != 0
    assert not shared.word() & _OWNER_DIED
