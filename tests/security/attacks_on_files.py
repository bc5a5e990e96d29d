"""Classes: files, files-write, devices, oracles."""

import ctypes
import errno
import fcntl
import os
import stat
import termios

from tests.security.attack import Attack, kernel
from tests.security.stage import Stage

_NO_FILE = ("ENOENT",)


def _read_file(path: str) -> None:
    os.read(os.open(path, os.O_RDONLY), 8192)  # the kernel's log gives whole records only


def _write_shared(stage: Stage) -> None:
    os.write(os.open(stage.shared_file, os.O_WRONLY | os.O_APPEND), b"")


def _reopen_writable(stage: Stage) -> None:
    os.open(f"/proc/self/fd/{stage.dataset}", os.O_RDWR)


def _open_how(stage: Stage) -> None:
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0)
    kernel("openat2", -100, b"/etc/passwd", how, ctypes.sizeof(how))


def _handle(stage: Stage) -> None:
    handle = (ctypes.c_uint32 * 34)(128)
    mount = ctypes.c_int()
    kernel("name_to_handle_at", -100, b"/etc/passwd", handle, ctypes.byref(mount), 0)


FILES = [
    Attack(
        "files", "read a world readable system file", lambda _: _read_file("/etc/passwd"), _NO_FILE
    ),
    Attack("files", "write a world writable file", _write_shared, _NO_FILE),
    Attack("files", "list the root", lambda _: os.listdir("/"), _NO_FILE),
    Attack(
        "files",
        "open relative to a directory descriptor",
        lambda stage: os.open("shared.txt", os.O_RDONLY, dir_fd=stage.directory_fd),
        _NO_FILE,
        keep_fds=lambda stage: (stage.directory_fd,),
    ),
    Attack(
        "files",
        "read the servers environment",
        lambda stage: _read_file(f"/proc/{stage.server_pid}/environ"),
        _NO_FILE,
    ),
    Attack("files", "reopen an own descriptor for writing", _reopen_writable, _NO_FILE),
    Attack("files", "open by openat2", _open_how, ("ENOSYS",)),
    Attack("files", "take a file handle", _handle),
    Attack("files", "read a link", lambda _: os.readlink("/proc/self/exe")),
    Attack("files", "read own memory map", lambda _: _read_file("/proc/self/maps"), _NO_FILE),
]


def _scratch(stage: Stage) -> str:
    path = str(stage.directory / f"scratch-{os.getpid()}")
    open(path, "wb").close()
    return path


def _create(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    os.unlink(path)


def _on_scratch(action):
    """The attack on a file that exists; without confinement it makes its own first."""

    def confined(stage: Stage) -> None:
        action(str(stage.shared_file))

    def control(stage: Stage) -> None:
        action(_scratch(stage))

    return confined, control


_unlink, _unlink_control = _on_scratch(os.unlink)
_truncate, _truncate_control = _on_scratch(lambda path: os.truncate(path, 0))
_chmod, _chmod_control = _on_scratch(lambda path: os.chmod(path, 0o777))
_utimes, _utimes_control = _on_scratch(lambda path: os.utime(path, (1, 1)))
_rename, _rename_control = _on_scratch(lambda path: os.rename(path, path + "-renamed"))
_link, _link_control = _on_scratch(lambda path: os.link(path, path + "-linked"))


def _mkdir(stage: Stage) -> None:
    path = stage.directory / f"made-{os.getpid()}"
    path.mkdir()
    path.rmdir()


def _symlink(stage: Stage) -> None:
    path = stage.directory / f"link-{os.getpid()}"
    path.symlink_to("/etc/passwd")


FILES_WRITE = [
    Attack(
        "files-write",
        "create in a temporary directory",
        lambda stage: _create(str(stage.directory / f"new-{os.getpid()}")),
        _NO_FILE,
    ),
    Attack(
        "files-write",
        "create in shared memory",
        lambda _: _create(f"/dev/shm/fnn-{os.getpid()}"),
        _NO_FILE,
    ),
    Attack(
        "files-write",
        "creat",
        lambda stage: kernel("creat", str(stage.directory / "created").encode(), 0o600),
    ),
    Attack("files-write", "unlink", _unlink, control=_unlink_control),
    Attack("files-write", "truncate", _truncate, control=_truncate_control),
    Attack("files-write", "chmod", _chmod, control=_chmod_control),
    Attack("files-write", "utimes", _utimes, control=_utimes_control),
    Attack("files-write", "rename", _rename, control=_rename_control),
    Attack("files-write", "link", _link, control=_link_control),
    Attack("files-write", "mkdir", _mkdir),
    Attack("files-write", "symlink", _symlink),
]


def _mknod(stage: Stage) -> None:
    path = str(stage.directory / f"null-{os.getpid()}")
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))


def _inject_input(stage: Stage) -> None:
    fcntl.ioctl(stage.terminal_slave, termios.TIOCSTI, b"x")


DEVICES = [
    Attack("devices", "make a device node", _mknod),
    Attack("devices", "open the kernel log", lambda _: _read_file("/dev/kmsg"), _NO_FILE),
    Attack("devices", "open a device", lambda _: _read_file("/dev/zero"), _NO_FILE),
    Attack(
        "devices",
        "type into a terminal",
        _inject_input,
        ("ENOTTY",),
        keep_fds=lambda stage: (stage.terminal_slave,),
    ),
]


def _tells_apart(probe, present: str, absent: str) -> None:
    """Succeeds when the two answers differ, that is: when existence can be found out."""
    answers = []
    for path in (present, absent):
        try:
            probe(path)
            answers.append("there")
        except OSError as failure:
            answers.append(errno.errorcode[failure.errno])
    if answers[0] == answers[1]:
        raise OSError(errno.EPERM, "same answer")


def _statx(path: str) -> None:
    kernel("statx", -100, path.encode(), 0, 0x7FF, ctypes.create_string_buffer(256))


def _oracle(name: str, probe) -> Attack:
    return Attack("oracles", name, lambda _: _tells_apart(probe, "/etc/passwd", "/etc/nothing"))


ORACLES = [
    _oracle("stat", os.stat),
    _oracle("statx", _statx),
    _oracle("access", lambda path: kernel("access", path.encode(), os.F_OK)),
    _oracle("open", lambda path: os.close(os.open(path, os.O_RDONLY))),
    _oracle("chdir", lambda path: os.chdir(path.rpartition("/")[0] if "passwd" in path else path)),
]


def _processor_clock(stage: Stage) -> None:
    """Clock numbers below zero name processes: the answer tells that one exists, and how busy it is."""
    clock = (~stage.victim.pid << 3) | 2
    kernel("clock_gettime", clock, (ctypes.c_long * 2)())


def _robust_list(stage: Stage) -> None:
    head, length = ctypes.c_void_p(), ctypes.c_size_t()
    kernel("get_robust_list", stage.victim.pid, ctypes.byref(head), ctypes.byref(length))


ORACLES += [
    Attack("oracles", "processor clock of another process", _processor_clock),
    Attack("oracles", "addresses of another process", _robust_list),
    Attack(
        "oracles",
        "cores of another process",
        lambda stage: os.sched_getaffinity(stage.victim.pid),
    ),
    Attack("oracles", "group of another process", lambda stage: os.getpgid(stage.victim.pid)),
    Attack(
        "oracles",
        "name of the machine",
        lambda _: _refuse_if(os.uname().nodename == "node"),
        by_namespaces=True,
    ),
]


def _refuse_if(hidden: bool) -> None:
    if hidden:
        raise OSError(errno.EPERM, "a made-up name")


ATTACKS = [*FILES, *FILES_WRITE, *DEVICES, *ORACLES]
