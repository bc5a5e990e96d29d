"""Class: channels. Ways to signal to whoever holds the same memory file, socket or session, or to time it."""

import ctypes
import errno
import fcntl
import os
import struct

from tests.security.attack import Attack, c_call, kernel, map_memory
from tests.security.stage import PAGE, Stage

_MAP_SHARED = 1
_READ = 1
_X86_64_MODIFY_LDT = 154
_F_SETSIG, _F_OFD_GETLK = 10, 36
_FUTEX_32_BITS = 2
_EMPTY_LOCK = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
_PR_OPTIONS_OF_A_NODE = {15, 16, 23, 0x53564D41}
_PR_OPTIONS_THAT_READ = (3, 21, 30, 39)
_COMMANDS_THAT_READ = (3, 9, 11)


def _view(stage: Stage) -> int:
    return map_memory(PAGE, _READ, _MAP_SHARED, stage.neighbour_view)


def _lock(stage: Stage) -> None:
    fcntl.fcntl(stage.neighbour_view, _F_OFD_GETLK, _EMPTY_LOCK)


def _residency(stage: Stage) -> None:
    kernel("mincore", _view(stage), PAGE, ctypes.create_string_buffer(1))


def _newer_wake(stage: Stage) -> None:
    kernel("futex_wake", _view(stage), 1, 1, _FUTEX_32_BITS)


def _newer_wait(stage: Stage) -> None:
    """A value that the word does not have: where the call exists it says so at once."""
    waiter = struct.pack("QQII", 7, _view(stage), _FUTEX_32_BITS, 0)
    past = struct.pack("qq", 0, 0)
    try:
        kernel("futex_waitv", waiter, 1, 0, past, 1)
    except BlockingIOError:
        return


def _any_of(name: str, options: tuple[int, ...], *arguments: int) -> None:
    """Get through with one of many; the errno of the last one otherwise."""
    refusal = OSError(errno.EPERM, name)
    for option in options:
        try:
            kernel(name, *(option if a is ... else a for a in arguments))
        except OSError as failure:
            refusal = failure
            if failure.errno != errno.EPERM:
                raise
        else:
            return
    raise refusal


def _other_options(stage: Stage) -> None:
    options = tuple(n for n in range(1, 80) if n not in _PR_OPTIONS_OF_A_NODE)
    _any_of("prctl", (*options, 0x59616D61), ..., 0, 0, 0, 0)


def _read_options(stage: Stage) -> None:
    _any_of("prctl", _PR_OPTIONS_THAT_READ, ..., 0, 0, 0, 0)


def _other_commands(stage: Stage) -> None:
    numbers = (*range(3, 40), *range(1024, 1034), *range(1035, 1045))
    _any_of("fcntl", (0, *numbers), stage.node_socket.fileno(), ..., 0)


def _read_commands(stage: Stage) -> None:
    _any_of("fcntl", _COMMANDS_THAT_READ, stage.node_socket.fileno(), ..., 0)


def _interval_timer(stage: Stage) -> None:
    kernel("setitimer", 0, struct.pack("qqqq", 0, 0, 0, 0), None)


def _extended_attribute(stage: Stage) -> None:
    """Memory files of newer kernels carry attributes; without one of that name the kernel says so."""
    try:
        kernel("fgetxattr", stage.neighbour_view, b"user.x\0", None, 0)
    except OSError as failure:
        if failure.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise


def _own_descriptor_table(stage: Stage) -> None:
    table = (ctypes.c_char * 16)()
    kernel(_X86_64_MODIFY_LDT, 0, table, 16)


def _scheduling_of_another(stage: Stage) -> None:
    kernel("sched_getattr", stage.victim.pid, ctypes.create_string_buffer(64), 64, 0)


def _turn_of_another(stage: Stage) -> None:
    kernel("sched_rr_get_interval", stage.victim.pid, ctypes.create_string_buffer(16))


def _capabilities_of_another(stage: Stage) -> None:
    header = (ctypes.c_uint32 * 2)(0x2008_0522, stage.victim.pid)
    kernel("capget", header, (ctypes.c_uint32 * 6)())


def _pages_of_another(stage: Stage) -> None:
    kernel("move_pages", stage.victim.pid, 0, None, None, None, 0)


def _copy_to_the_socket(stage: Stage) -> None:
    """Moves the file's bytes, and with them the position that all its holders share."""
    kernel("sendfile", stage.node_socket.fileno(), stage.dataset, None, 1)


def _reread_at_a_place(stage: Stage) -> None:
    vector = struct.pack("QQ", ctypes.addressof(ctypes.create_string_buffer(8)), 0)
    kernel("preadv2", stage.neighbour_view, vector, 1, 0, 0, 0)


def _advise(stage: Stage) -> None:
    kernel("fadvise64", stage.neighbour_view, 0, PAGE, 0)


def _punch_a_hole(stage: Stage) -> None:
    kernel("fallocate", stage.unsealed, 3, 0, PAGE)


CHANNELS = [
    Attack("channels", "look for a lock on a granted file", _lock),
    Attack(
        "channels",
        "lock a granted file",
        lambda stage: kernel("flock", stage.neighbour_view, fcntl.LOCK_EX | fcntl.LOCK_NB),
    ),
    Attack("channels", "which pages of a granted file are resident", _residency),
    Attack("channels", "wake a neighbour by the newer futex call", _newer_wake),
    Attack("channels", "wait for a neighbour by the newer futex call", _newer_wait),
    Attack("channels", "read an attribute of a granted file", _extended_attribute),
    Attack("channels", "read a granted file by a vector", _reread_at_a_place),
    Attack("channels", "say how a granted file is used", _advise),
    Attack("channels", "send from a granted file", _copy_to_the_socket),
    Attack(
        "channels",
        "wait until a granted file is written",
        lambda stage: kernel("fsync", stage.neighbour_view),
    ),
    Attack(
        "channels",
        "punch a hole into a memory file",
        _punch_a_hole,
        keep_fds=lambda stage: (stage.unsealed,),
    ),
]

OTHERS = [
    Attack(
        "signals",
        "choose the signal of a descriptor",
        lambda stage: fcntl.fcntl(stage.node_socket, _F_SETSIG, 0),
    ),
    Attack("signals", "interval timer", _interval_timer),
    Attack("undoing", "any further option of prctl", _other_options, control=_read_options),
    Attack("undoing", "any further command of fcntl", _other_commands, control=_read_commands),
    Attack("undoing", "read its own descriptor table", _own_descriptor_table),
    Attack("undoing", "all memory locked", lambda _: kernel("munlockall")),
    Attack(
        "undoing", "a key for memory protection", lambda _: kernel("pkey_mprotect", 0, 0, 0, -1)
    ),
    Attack(
        "undoing",
        "any further scheduling class",
        lambda _: kernel("sched_setscheduler", 0, 5, struct.pack("i", 0)),  # IDLE
    ),
    Attack("oracles", "scheduling of another process", _scheduling_of_another),
    Attack("oracles", "time slice of another process", _turn_of_another),
    Attack("oracles", "capabilities of another process", _capabilities_of_another),
    Attack("oracles", "pages of another process", _pages_of_another),
    Attack(
        "oracles",
        "priority of another process",
        lambda stage: c_call("getpriority", 0, stage.victim.pid),
    ),
    Attack("oracles", "groups of its user", lambda _: kernel("getgroups", 0, None)),
]

ATTACKS = [*CHANNELS, *OTHERS]
