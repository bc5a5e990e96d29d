"""Runs code in a fresh child process, confined or not, as root or not, and says how it ended.

Everything that an attack uses is imported before the fork, as in a real node.
"""

import contextlib
import ctypes
import encodings.idna
import errno
import faulthandler
import os
import select
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache

import pytest

from flow_nexus_neural.node.confinement.apply import ConfinementFailed, Limits, confine
from flow_nexus_neural.node.confinement.landlock import landlock_abi
from flow_nexus_neural.node.confinement.libc import syscall
from flow_nexus_neural.node.confinement.namespaces import enter_empty_root, enter_namespaces
from tests.doubles.limits import HANG_S

NOBODY = 65534
SUCCEEDED = "succeeded"
TIMED_OUT = "timed out"
IS_ROOT = os.geteuid() == 0
LIMITS = Limits(memory_mb=256, cpu_s=20, nofile=64)
USERS = ("root", "unprivileged")

_PROLOGUES = (encodings.idna.ToASCII,)  # looked up lazily by the resolver otherwise


@dataclass(frozen=True)
class Confinement:
    """How to confine the child: the real thing, or a part of it, or not at all."""

    limits: Limits = LIMITS
    keep_fds: Collection[int] = ()
    apply: Callable[[Limits, Collection[int], int], object] = field(
        default=lambda limits, keep, ppid: confine(limits, keep_fds=keep, expected_ppid=ppid)
    )


BARE = None
STRONGEST_USER = "root" if IS_ROOT else "unprivileged"


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    libc = ctypes.CDLL(None)
    libc.prctl(4, 1, 0, 0, 0)  # dumpable again, as a process is that an ordinary user started


def outcome_of(
    code: Callable[[], object],
    *,
    user: str,
    confinement: Confinement | None,
    deadline_s: float = HANG_S,
) -> str:
    """`succeeded`, an errno's name, an exception's class, a signal's name, `exit N` or `timed out`."""
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _child(code, writer, user=user, confinement=confinement, parent=parent)
    os.close(writer)
    try:
        status = reap(pid, deadline_s)
        report = os.read(reader, 4096).decode()
    finally:
        os.close(reader)
    if status is None:
        return TIMED_OUT
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return report or f"exit {os.WEXITSTATUS(status)}"


def reap(pid: int, deadline_s: float) -> int | None:
    """Wait for the child; kill it at the deadline and then return None."""
    pidfd = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        ended = bool(poller.poll(deadline_s * 1000))
        if not ended:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return status if ended else None
    finally:
        os.close(pidfd)


def _child(
    code: Callable[[], object],
    writer: int,
    *,
    user: str,
    confinement: Confinement | None,
    parent: int,
) -> None:
    status = 70
    try:
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, 2)
        faulthandler.disable()  # pytest's; some attacks must end in a segmentation fault
        if IS_ROOT and confinement is None:
            _enter_throw_away_namespaces()
        if user == "unprivileged" and IS_ROOT:
            become_nobody()
        if confinement is not None:
            keep = {writer, 2, *confinement.keep_fds}
            confinement.apply(confinement.limits, keep, parent)
        os.write(writer, _attempt(code).encode())
        status = 0
    except ConfinementFailed:
        status = 71
    finally:
        os._exit(status)


def _attempt(code: Callable[[], object]) -> str:
    try:
        code()
    except OSError as failure:
        return errno_name(failure)
    except BaseException as failure:  # noqa: BLE001 - whatever it is, it is the outcome
        return type(failure).__name__
    return SUCCEEDED


def errno_name(failure: OSError) -> str:
    code = failure.errno
    return errno.errorcode.get(code, type(failure).__name__) if code else type(failure).__name__


def _enter_throw_away_namespaces() -> None:
    """What an unconfined attack by root mounts or names must not outlive it."""
    with contextlib.suppress(PermissionError):  # root of a container
        syscall("unshare", 0x0002_0000 | 0x0400_0000 | 0x0800_0000)  # mount, UTS, IPC
        syscall("mount", b"none\0", b"/\0", None, 0x4000 | 0x4_0000, None)  # MS_REC | MS_PRIVATE


def is_blocked(outcome: str) -> bool:
    """Refused, raised or killed: not got through, and not that the child never came so far."""
    return outcome not in (SUCCEEDED, TIMED_OUT) and not outcome.startswith("exit")


@cache
def namespaces_work(user: str) -> bool:
    """Whether this machine lets such a user have namespaces of its own; many containers do not."""

    def enter() -> None:
        steps = enter_namespaces(as_root=user == "root")
        if False in {entered in (True, None) for entered in steps.values()}:
            raise OSError(errno.EPERM, "namespaces")
        enter_empty_root()

    return outcome_of(enter, user=user, confinement=BARE) == SUCCEEDED


def skip_without_namespaces(user: str) -> None:
    if not namespaces_work(user):
        pytest.skip(f"this machine gives {user} no namespaces: that layer was NOT tested")


@cache
def has_landlock() -> bool:
    """Whether this kernel has Landlock."""
    try:
        return landlock_abi() >= 1
    except OSError:
        return False


def until(condition: Callable[[], bool], deadline_s: float = HANG_S) -> bool:
    """Whether the condition came true before the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        select.select([], [], [], 0.002)
    return True
