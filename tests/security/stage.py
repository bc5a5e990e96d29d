"""What the attacks are aimed at: files, sockets, memory and processes that a node must not reach."""

import ctypes
import fcntl
import mmap
import os
import shutil
import signal
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from flow_nexus_neural.node.confinement.libc import prctl
from tests.security.harness import IS_ROOT, become_nobody, reap, until

SECRET_NAME = "FLOW_NEXUS_NEURAL_TEST_SECRET"
SECRET = "a token that no node may see"
PAGE = mmap.PAGESIZE
_SEAL, _SHRINK, _GROW, _WRITE = 1, 2, 4, 8


@dataclass
class Victim:
    """A live process of the unprivileged user that would let itself be inspected."""

    pid: int
    pidfd: int
    address: int

    def close(self) -> None:
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        reap(self.pid, 10)
        os.close(self.pidfd)


class Stage:
    """Made once for all attacks; everything is reachable without confinement."""

    def __init__(self) -> None:
        self.server_pid = os.getpid()
        self.directory = Path(tempfile.mkdtemp(prefix="fnn-stage-"))
        self.directory.chmod(0o777)
        self.shared_file = self.directory / "shared.txt"
        self.shared_file.write_text("world-writable")
        self.shared_file.chmod(0o666)
        self.directory_fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        self.tcp = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.tcp_address = self.tcp.getsockname()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp_address = self.udp.getsockname()
        self.abstract_name = f"\0fnn-stage-{os.getpid()}".encode()
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(self.abstract_name)
        self.abstract.listen(128)
        self.unix_path = str(self.directory / "socket")
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(self.unix_path)
        os.chmod(self.unix_path, 0o666)
        self.unix.listen(128)
        self.node_socket, self.engine_socket = socket.socketpair()
        self.dataset = sealed_memory(_SEAL | _SHRINK | _GROW | _WRITE)
        self.unsealed = sealed_memory(0)
        neighbour = sealed_memory(_SEAL | _SHRINK | _GROW)
        self.neighbour_view = os.open(f"/proc/self/fd/{neighbour}", os.O_RDONLY)
        os.close(neighbour)
        leak = os.open(self.shared_file, os.O_RDONLY)
        self.leaked_fd = fcntl.fcntl(leak, fcntl.F_DUPFD, 300)
        os.close(leak)
        self.victim = start_victim()
        self.terminal, self.terminal_slave = os.openpty()
        os.environ[SECRET_NAME] = SECRET

    @property
    def granted(self) -> tuple[int, ...]:
        """Descriptors that a node may hold: its socket, a data set, a neighbour's view."""
        return (self.node_socket.fileno(), self.dataset, self.neighbour_view)

    def close(self) -> None:
        del os.environ[SECRET_NAME]
        self.victim.close()
        for stream in (self.tcp, self.udp, self.abstract, self.unix):
            stream.close()
        self.node_socket.close()
        self.engine_socket.close()
        for descriptor in (
            self.directory_fd,
            self.dataset,
            self.unsealed,
            self.neighbour_view,
            self.leaked_fd,
            self.terminal,
            self.terminal_slave,
        ):
            os.close(descriptor)
        shutil.rmtree(self.directory, ignore_errors=True)


def sealed_memory(seals: int) -> int:
    descriptor = os.memfd_create("stage", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, PAGE)
    if seals:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def start_victim() -> Victim:
    """Fork a process of the unprivileged user that waits to be killed."""
    note = ctypes.create_string_buffer(b"victim's memory")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            if IS_ROOT:
                become_nobody()
            prctl(4, 1)
            prctl(1, signal.SIGKILL)
            os.write(writer, b"r")
            while True:
                signal.pause()
        finally:
            os._exit(0)
    os.close(writer)
    ready = os.read(reader, 1)
    os.close(reader)
    assert ready == b"r"
    return Victim(pid, os.pidfd_open(pid), ctypes.addressof(note))


def revive(stage: Stage) -> None:
    """Replace the victim if an attack without confinement killed it."""
    if not until(lambda: _alive(stage.victim.pid), deadline_s=0):
        stage.victim.close()
        stage.victim = start_victim()


def _alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"
