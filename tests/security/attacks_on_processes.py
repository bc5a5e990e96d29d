"""Classes: memory, execution, signals."""

import ctypes
import fcntl
import os
import signal
import threading

from tests.security.attack import Attack, c_call, kernel, machine_code, map_memory
from tests.security.stage import Stage

_PTRACE_ATTACH = 16
_PTRACE_DETACH = 17
_EXECUTABLE = b"/bin/true"


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _across(call: str, stage: Stage) -> None:
    own = ctypes.create_string_buffer(6)
    here = _Vector(ctypes.addressof(own), 6)
    there = _Vector(stage.victim.address, 6)
    arguments = (ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    kernel(call, stage.victim.pid, *arguments)


def _attach(stage: Stage) -> None:
    kernel("ptrace", _PTRACE_ATTACH, stage.victim.pid, 0, 0)
    os.waitpid(stage.victim.pid, 0x4000_0000)
    kernel("ptrace", _PTRACE_DETACH, stage.victim.pid, 0, 0)


def _read_memory_file(stage: Stage) -> None:
    memory = os.open(f"/proc/{stage.victim.pid}/mem", os.O_RDONLY)
    os.pread(memory, 6, stage.victim.address)


def _steal_descriptor(stage: Stage) -> None:
    kernel("pidfd_getfd", stage.victim.pidfd, 2, 0)


MEMORY = [
    Attack("memory", "process_vm_readv", lambda stage: _across("process_vm_readv", stage)),
    Attack("memory", "process_vm_writev", lambda stage: _across("process_vm_writev", stage)),
    Attack("memory", "ptrace attach", _attach),
    Attack("memory", "read a memory file", _read_memory_file, ("ENOENT",)),
    Attack(
        "memory",
        "steal a descriptor by pidfd",
        _steal_descriptor,
        keep_fds=lambda stage: (stage.victim.pidfd,),
    ),
    Attack("memory", "open a pidfd", lambda stage: os.pidfd_open(stage.victim.pid)),
]


def _execve(stage: Stage) -> None:
    os.execve(_EXECUTABLE, [_EXECUTABLE], {})


def _end_of_child(pid: int) -> None:
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _fork_thrice(stage: Stage) -> None:
    for _ in range(3):
        _end_of_child(os.fork())


def _clone(flags: int) -> None:
    _end_of_child(kernel("clone", flags | signal.SIGCHLD, 0, 0, 0, 0))


def _clone3(stage: Stage) -> None:
    arguments = (ctypes.c_uint64 * 8)(0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    _end_of_child(kernel("clone3", arguments, ctypes.sizeof(arguments)))


def _spawn(stage: Stage) -> None:
    os.waitpid(os.posix_spawn(_EXECUTABLE, [_EXECUTABLE], {}), 0)


def _execute_memory(stage: Stage) -> None:
    program = os.memfd_create("program", 0)
    with open(_EXECUTABLE, "rb") as source:
        os.write(program, source.read())
    arguments = (ctypes.c_char_p * 2)(_EXECUTABLE, None)
    kernel("execveat", program, b"", arguments, (ctypes.c_char_p * 1)(None), 0x1000)


def _map_executable(stage: Stage) -> None:
    map_memory(4096, 7, 0x22)


# mov eax, 20 (i386 getpid); int 0x80; ret
_INT80_GETPID = bytes.fromhex("b814000000 cd80 c3")
# mov eax, 41 (socket); mov edi, 1; mov esi, 1; xor edx, edx; syscall; ret
_SOCKET_CODE = bytes.fromhex("b829000000 bf01000000 be01000000 31d2 0f05 c3")


def _own_code_opens_a_socket(stage: Stage) -> None:
    result = machine_code(_SOCKET_CODE)
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def _start_thread(stage: Stage) -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


EXECUTION = [
    Attack(
        "execution",
        "execve",
        _execve,
        no_control="it replaces the process: the bare outcome is a clean exit, tested below",
    ),
    Attack("execution", "fork", _fork_thrice),
    Attack("execution", "vfork call", lambda _: _clone(0x4000), control=_fork_thrice),
    Attack("execution", "clone into a user namespace", lambda _: _clone(0x1000_0000)),
    Attack("execution", "clone3", _clone3, ("ENOSYS",)),
    Attack("execution", "posix_spawn", _spawn),
    Attack(
        "execution",
        "execute memory",
        _execute_memory,
        no_control="it replaces the process: the bare outcome is a clean exit, tested below",
    ),
    Attack("execution", "map writable and executable", _map_executable),
    Attack("execution", "own machine code that opens a socket", _own_code_opens_a_socket),
    Attack("execution", "start a thread", _start_thread, ("RuntimeError",)),
]


def _to_victim(send) -> Attack:
    return lambda stage: send(stage.victim.pid)


def _queue_signal(pid: int) -> None:
    info = (ctypes.c_int32 * 32)(signal.SIGUSR1, 0, -1)
    kernel("rt_sigqueueinfo", pid, signal.SIGUSR1, info)


def _own_by_another(stage: Stage) -> None:
    fcntl.fcntl(stage.node_socket, fcntl.F_SETOWN, stage.victim.pid)
    flags = fcntl.fcntl(stage.node_socket, fcntl.F_GETFL)
    fcntl.fcntl(stage.node_socket, fcntl.F_SETFL, flags | os.O_ASYNC)
    fcntl.fcntl(stage.node_socket, fcntl.F_SETFL, flags)


def _affinity(pid: int) -> None:
    os.sched_setaffinity(pid, os.sched_getaffinity(0))


SIGNALS = [
    Attack("signals", "kill another process", _to_victim(lambda pid: os.kill(pid, 0))),
    Attack("signals", "kill the server", lambda stage: os.kill(stage.server_pid, 0)),
    Attack("signals", "kill the zygote", lambda _: os.kill(os.getppid(), 0)),
    Attack("signals", "signal everybody", lambda _: os.kill(-1, 0)),
    Attack("signals", "signal the group", lambda _: os.kill(0, 0)),
    Attack(
        "signals",
        "signal by pidfd",
        lambda stage: signal.pidfd_send_signal(stage.victim.pidfd, 0),
        keep_fds=lambda stage: (stage.victim.pidfd,),
    ),
    Attack("signals", "tgkill", _to_victim(lambda pid: kernel("tgkill", pid, pid, 0))),
    Attack(
        "signals",
        "queue a signal",
        _to_victim(_queue_signal),
    ),
    Attack("signals", "let another process get SIGIO", _own_by_another),
    Attack("signals", "bind the server to a core", lambda stage: _affinity(stage.server_pid)),
    Attack(
        "signals",
        "slow another process down",
        _to_victim(lambda pid: c_call("setpriority", 0, pid, 19)),
    ),
    Attack("signals", "raise own priority", lambda _: os.setpriority(os.PRIO_PROCESS, 0, -5)),
]

FOREIGN_ABIS = [
    Attack(
        "undoing",
        "i386 system call",
        lambda _: machine_code(_INT80_GETPID),
        ("SIGSYS",),
    ),
    Attack("undoing", "x32 system call", lambda _: kernel(0x4000_0000 | 39), ("SIGSYS",)),
]

ATTACKS = [*MEMORY, *EXECUTION, *SIGNALS, *FOREIGN_ABIS]
