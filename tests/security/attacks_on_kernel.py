"""Classes: privilege, undoing."""

import ctypes
import os
import signal
import time

from tests.security.attack import Attack, c_call, kernel
from tests.security.stage import Stage

_DANGEROUS = "it would change the machine"
_CLONE_NEWNET = 0x4000_0000
_CLONE_NEWUSER = 0x1000_0000


def _unshare(flags: int) -> None:
    kernel("unshare", flags)


def _bpf_map(stage: Stage) -> None:
    attribute = (ctypes.c_uint32 * 32)(2, 4, 4, 1)  # array of one 4-byte value
    kernel("bpf", 0, attribute, ctypes.sizeof(attribute))


def _perf(stage: Stage) -> None:
    attribute = (ctypes.c_uint32 * 32)(1, 128)  # software event, size
    kernel("perf_event_open", attribute, 0, -1, -1, 0)


def _set_clock(stage: Stage) -> None:
    now = (ctypes.c_long * 2)(int(time.clock_gettime(time.CLOCK_REALTIME)), 0)
    kernel("clock_settime", time.CLOCK_REALTIME, now)


def _regain_capabilities(stage: Stage) -> None:
    header = (ctypes.c_uint32 * 2)(0x2008_0522, 0)
    data = (ctypes.c_uint32 * 6)(1 << 21, 1 << 21, 0)  # CAP_SYS_ADMIN
    kernel("capset", header, data)


def _own_filter(stage: Stage) -> None:
    instructions = (ctypes.c_uint64 * 1)(0x7FFF_0000 << 32 | 0x06)  # return ALLOW
    program = (ctypes.c_uint64 * 2)(1, ctypes.addressof(instructions))
    kernel("seccomp", 1, 0, program)


def _after_no_new_privs(stage: Stage) -> None:
    c_call("prctl", 38, 1, 0, 0, 0)
    _own_filter(stage)


def _enter_namespace(stage: Stage) -> None:
    kernel("setns", stage.victim.pidfd, _CLONE_NEWNET)


PRIVILEGE = [
    Attack("privilege", "mount", lambda _: kernel("mount", b"x", b"/tmp", b"tmpfs", 0, None)),
    Attack(
        "privilege",
        "unmount",
        lambda _: kernel("umount2", b"/proc", 2),
    ),
    Attack("privilege", "unshare a network", lambda _: _unshare(_CLONE_NEWNET)),
    Attack("privilege", "unshare a user namespace", lambda _: _unshare(_CLONE_NEWUSER)),
    Attack(
        "privilege",
        "join a namespace",
        _enter_namespace,
        keep_fds=lambda stage: (stage.victim.pidfd,),
    ),
    Attack("privilege", "chroot", lambda _: os.chroot("/")),
    Attack("privilege", "become root", lambda _: os.setuid(0)),
    Attack("privilege", "regain a capability", _regain_capabilities),
    Attack("privilege", "keyring", lambda _: kernel("keyctl", 0, -3, 1)),
    Attack("privilege", "add a key", lambda _: kernel("add_key", b"user", b"x", b"y", 1, -2)),
    Attack("privilege", "bpf map", _bpf_map),
    Attack(
        "privilege",
        "io_uring",
        lambda _: kernel("io_uring_setup", 4, ctypes.create_string_buffer(120)),
        ("ENOSYS",),
    ),
    Attack("privilege", "perf event", _perf),
    Attack("privilege", "userfaultfd", lambda _: kernel("userfaultfd", 0)),
    Attack("privilege", "kernel log", lambda _: c_call("klogctl", 10, None, 0)),
    Attack("privilege", "set the clock", _set_clock, no_control=_DANGEROUS),
    Attack("privilege", "set the host name", lambda _: c_call("sethostname", b"evil", 4)),
    Attack(
        "privilege",
        "load a module",
        lambda _: kernel("init_module", None, 0, b""),
        no_control=_DANGEROUS,
    ),
    Attack(
        "privilege",
        "load a kernel",
        lambda _: kernel("kexec_load", 0, 0, None, 0),
        no_control=_DANGEROUS,
    ),
    Attack("privilege", "reboot", lambda _: kernel("reboot", 0, 0, 0, None), no_control=_DANGEROUS),
    Attack(
        "privilege", "swap on a file", lambda _: kernel("swapon", b"/x", 0), no_control=_DANGEROUS
    ),
    Attack("privilege", "personality", lambda _: kernel("personality", 0x0040000)),
    Attack(
        "privilege",
        "kernel timer",
        lambda _: kernel("timer_create", 1, None, ctypes.byref(ctypes.c_int())),
    ),
]


_WORD = ctypes.c_uint32()
PRIVILEGE += [
    Attack(
        "privilege",
        "futex with priority inheritance",
        lambda _: kernel("futex", ctypes.byref(_WORD), 6 | 0x80, 0, None, None, 0),
    ),
    Attack("privilege", "barrier on all cores", lambda _: kernel("membarrier", 1, 0, 0)),
]

UNDOING = [
    Attack("undoing", "become dumpable", lambda _: c_call("prctl", 4, 1, 0, 0, 0)),
    Attack("undoing", "outlive the parent", lambda _: c_call("prctl", 1, 0, 0, 0, 0)),
    Attack(
        "undoing",
        "add a filter of its own",
        _own_filter,
        control=_after_no_new_privs,
    ),
    Attack(
        "undoing",
        "let others trace it",
        lambda stage: c_call("prctl", 0x59616D61, stage.victim.pid, 0, 0, 0),
    ),
    Attack(
        "undoing",
        "switch the speculation guard",
        lambda _: c_call("prctl", 53, 0, 8, 0, 0),
        no_control="needs a processor with the switch",
    ),
    Attack(
        "undoing",
        "ask for another death signal",
        lambda _: c_call("prctl", 1, signal.SIGUSR1, 0, 0, 0),
    ),
]


ATTACKS = [*PRIVILEGE, *UNDOING]
