"""What a confined node may do. Data only: the other modules of this package apply it, tests read it.

To extend the allow-list: find the call with strace, state beside it why a node needs it, and add an attack to
tests/security that shows what the call cannot be used for.
"""

import errno
from typing import Final, NamedTuple

NODE_UID: Final = 65534
NODE_GID: Final = 65534

ENVIRONMENT_NAMES: Final = frozenset({"LANG", "TZ"})
ENVIRONMENT_PREFIXES: Final = ("OMP_", "MKL_", "OPENBLAS_", "MALLOC_")

ZERO_RLIMITS: Final = ("FSIZE", "CORE", "MEMLOCK", "MSGQUEUE", "NICE", "RTPRIO", "SIGPENDING")
"""SIGPENDING is counted per user: without it a node could use up the queued signals of that user."""
CPU_GRACE_S: Final = 5
OOM_SCORE: Final = 1000
STACK_BYTES: Final = 8 << 20
ADDRESS_SPACE_SLACK_MB: Final = 16 << 10
"""Address space beyond private memory, in MiB: for granted regions and reservations of libraries."""

LANDLOCK_FS_BITS: Final = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
"""All file-system rights by the Landlock ABI that added them (2: REFER, 3: TRUNCATE, 5: IOCTL_DEV)."""
LANDLOCK_NET_BITS: Final = {4: 0x3}
"""Bind and connect of TCP."""
LANDLOCK_SCOPE_BITS: Final = {6: 0x3}
"""Abstract unix sockets and signals to processes outside."""

OWN_PID: Final = -1
"""Placeholder in a check for the process id of the node that installs the filter."""


class Check(NamedTuple):
    """Passes if the lower 32 bits of argument number `argument`, after `mask`, equal one of `values`.

    The kernel reads only the lower half of int arguments; for pointers `wide` demands an upper half of 0.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFF_FFFF
    wide: bool = False


class Rule(NamedTuple):
    """A call that is allowed if all checks pass, and else fails with the errno `otherwise`."""

    checks: tuple[Check, ...]
    otherwise: int = errno.EPERM


ALLOWED: Final = (
    # The engine's socket and the stderr pipe. No sendmsg: it could pass a descriptor on. No read, lseek or
    # fstat: a granted memory file is open under one description for all its holders, whose position and
    # times would be a way from node to node past the engine.
    *("write", "writev", "close", "poll", "ppoll"),
    # Memory within the limits. No mremap: it enlarges a page of the stack, which RLIMIT_DATA does not count,
    # to any size; the C library's realloc copies instead.
    *("munmap", "brk"),
    # The processor and clocks.
    *("sched_yield", "getcpu", "nanosleep", "gettimeofday", "times"),
    # Own signal handlers, and the end.
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
    *("exit", "exit_group"),
    # Facts about itself.
    *(
        "getpid",
        "gettid",
        "getppid",
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "getrusage",
        "getrlimit",
    ),
    *("sysinfo", "uname", "getrandom"),
)

_UINT: Final = 0xFFFF_FFFF
_PROT_WRITE: Final = 0x2
_PROT_EXEC: Final = 0x4
_MAP_SHARED: Final = 0x01
_MAP_ANONYMOUS: Final = 0x20
_MAP_GROWSDOWN: Final = 0x0100
_MAP_HUGETLB: Final = 0x4_0000
_MADVICE: Final = (4, 8, 14, 15)  # DONTNEED, FREE, HUGEPAGE, NOHUGEPAGE: what allocators say
_MSG_SENDING: Final = 0x4040  # NOSIGNAL, DONTWAIT
_MSG_RECEIVING: Final = 0x4000_0140  # CMSG_CLOEXEC, WAITALL, DONTWAIT
_FUTEX_CLOCK_REALTIME: Final = 0x100
_FUTEX_PRIVATE: Final = (0x80, 0x81, 0x89, 0x8A)  # WAIT, WAKE and their BITSET forms
_CLOCKS: Final = 0xF
_PR_SET_NAME: Final = 15
_PR_GET_NAME: Final = 16
_PR_CAPBSET_READ: Final = 23
_PR_SET_VMA: Final = 0x53564D41
_F_GETFD: Final = 1
_F_SETFD: Final = 2
_F_GET_SEALS: Final = 1034
_TCGETS: Final = 0x5401
_FIONREAD: Final = 0x541B
_ARCH_XCOMP: Final = (0x1021, 0x1022, 0x1023)

CHECKED: Final = {
    # No executable mapping from the start; neither of the two writable kinds that RLIMIT_DATA does not
    # count: shared anonymous memory, and mappings that grow down like a stack; no huge pages of the system's.
    "mmap": Rule(
        (
            Check(2, (0,), mask=_PROT_EXEC),
            Check(3, (0,), mask=_MAP_GROWSDOWN | _MAP_HUGETLB),
            Check(3, (0, _MAP_SHARED, _MAP_ANONYMOUS), mask=_MAP_SHARED | _MAP_ANONYMOUS),
        )
    ),
    # Memory stays writable: pages that are written and then made read-only leave RLIMIT_DATA. EXEC may be
    # added: oneDNN's JIT needs it for every new shape, and code of its own gains an attacker nothing that
    # the rest of this list does not already give.
    "mprotect": Rule((Check(2, (_PROT_WRITE,), mask=_PROT_WRITE),)),
    "madvise": Rule((Check(2, _MADVICE),), otherwise=errno.EINVAL),
    # No out-of-band data: on unix sockets it has been a way from a browser's sandbox into the kernel
    # (CVE-2025-38236). No peeking at control messages, no error queue.
    "sendto": Rule((Check(3, (0,), mask=_UINT ^ _MSG_SENDING),)),
    "recvfrom": Rule((Check(3, (0,), mask=_UINT ^ _MSG_RECEIVING),)),
    "recvmsg": Rule((Check(2, (0,), mask=_UINT ^ _MSG_RECEIVING),)),
    # Private waits and wakes only: a futex in a granted page would reach the page's other holders, and the
    # operations with priority inheritance have a history of flaws.
    "futex": Rule((Check(1, _FUTEX_PRIVATE, mask=_UINT ^ _FUTEX_CLOCK_REALTIME),)),
    # Named clocks only: negative numbers are the processor clocks of other processes.
    "clock_gettime": Rule((Check(0, (0,), mask=_UINT ^ _CLOCKS),)),
    "clock_getres": Rule((Check(0, (0,), mask=_UINT ^ _CLOCKS),)),
    "clock_nanosleep": Rule((Check(0, (0,), mask=_UINT ^ _CLOCKS),)),
    # Of itself: another number tells whether that process exists.
    "sched_getaffinity": Rule((Check(0, (0, OWN_PID)),)),
    "prctl": Rule((Check(0, (_PR_SET_NAME, _PR_GET_NAME, _PR_CAPBSET_READ, _PR_SET_VMA)),)),
    # Asking for tile registers before the first use of AMX kernels.
    "arch_prctl": Rule((Check(0, _ARCH_XCOMP),)),
    # No F_SETFL (shared by all holders of a description), no F_SETOWN (signals to others), no F_DUPFD, no
    # F_ADD_SEALS, no F_SETPIPE_SZ, no locks.
    "fcntl": Rule((Check(1, (_F_GETFD, _F_SETFD, _F_GET_SEALS)),)),
    # ENOTTY is what isatty() and friends expect from a pipe. No FIONBIO, for the reason of F_SETFL.
    "ioctl": Rule((Check(1, (_FIONREAD, _TCGETS)),), otherwise=errno.ENOTTY),
    # Reading own limits only.
    "prlimit64": Rule((Check(0, (0,)), Check(2, (0,), wide=True))),
    # abort() and raise(); no other process, no group.
    "kill": Rule((Check(0, (OWN_PID,)),)),
    "tgkill": Rule((Check(0, (OWN_PID,)),)),
}

REFUSED: Final = {
    # Files look absent, so that callers take their ordinary way around a missing file.
    "open": errno.ENOENT,
    "openat": errno.ENOENT,
    # Flags behind a pointer cannot be checked; callers fall back to calls that can.
    "openat2": errno.ENOSYS,
    "clone3": errno.ENOSYS,
    "io_uring_setup": errno.ENOSYS,
    "io_uring_enter": errno.ENOSYS,
    "io_uring_register": errno.ENOSYS,
}
"""Calls that fail with a specific errno. A call that no table names fails with `DEFAULT_ERRNO`."""

DEFAULT_ERRNO: Final = errno.EPERM

HOSTILE: Final = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"),
    *("execve", "execveat", "fork", "vfork", "bpf", "perf_event_open", "userfaultfd", "seccomp"),
    *("mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "open_by_handle_at"),
    *("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot"),
    *("swapon", "keyctl", "add_key", "request_key", "personality", "setuid", "capset"),
    *("pidfd_send_signal", "process_mrelease", "memfd_secret"),
)
"""Calls that no library makes in normal use: with hostile=`kill` they end the node with SIGSYS."""
