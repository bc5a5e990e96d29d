"""Classes: network, ipc."""

import ctypes
import os
import socket

from tests.doubles.limits import HANG_S
from tests.security.attack import Attack, kernel
from tests.security.stage import Stage

_BYTE = ctypes.create_string_buffer(1)
_NAME = b"localhost"  # bytes: text would load a codec first


def _connect(family: int, kind: int, address) -> None:
    with socket.socket(family, kind) as own:
        own.settimeout(HANG_S)
        own.connect(address)


def _listen(stage: Stage) -> None:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        own.listen()


def _datagram(stage: Stage) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.sendto(b"x", stage.udp_address)


def _open_socket(family: int, kind: int, protocol: int = 0) -> None:
    socket.socket(family, kind, protocol).close()


def _address_after_socket(stage: Stage) -> None:
    """The engine's socket itself must not lead anywhere else."""
    address = b"\x02\x00" + stage.tcp_address[1].to_bytes(2, "big") + bytes([127, 0, 0, 1])
    kernel("connect", stage.node_socket.fileno(), address + bytes(8), 16)


def _out_of_band(stage: Stage) -> None:
    kernel("sendto", stage.node_socket.fileno(), b"x", 1, socket.MSG_OOB, None, 0)


def _peek_out_of_band(stage: Stage) -> None:
    buffer = ctypes.create_string_buffer(1)
    kernel("sendto", stage.node_socket.fileno(), b"x", 1, socket.MSG_OOB, None, 0)
    flags = socket.MSG_OOB | socket.MSG_DONTWAIT
    kernel("recvfrom", stage.engine_socket.fileno(), buffer, 1, flags, None, None)


def _handle_of_the_peer(stage: Stage) -> None:
    length = ctypes.c_uint32(4)
    handle = ctypes.c_int()
    arguments = (ctypes.byref(handle), ctypes.byref(length))
    kernel("getsockopt", stage.node_socket.fileno(), socket.SOL_SOCKET, 77, *arguments)


def _socketpair(stage: Stage) -> None:
    for end in socket.socketpair():
        end.close()


NETWORK = [
    Attack(
        "network",
        "connect by tcp",
        lambda stage: _connect(socket.AF_INET, socket.SOCK_STREAM, stage.tcp_address),
    ),
    Attack("network", "listen", _listen),
    Attack("network", "send a datagram", _datagram),
    Attack(
        "network",
        "resolve a name",
        lambda _: socket.getaddrinfo(_NAME, 80),
        ("gaierror", "E-2", "E-3"),
    ),
    Attack(
        "network",
        "connect to an abstract unix socket",
        lambda stage: _connect(socket.AF_UNIX, socket.SOCK_STREAM, stage.abstract_name),
    ),
    Attack(
        "network",
        "connect to a unix socket in the file system",
        lambda stage: _connect(socket.AF_UNIX, socket.SOCK_STREAM, stage.unix_path),
    ),
    Attack("network", "netlink", lambda _: _open_socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    Attack(
        "network",
        "raw socket",
        lambda _: _open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    ),
    Attack("network", "packet socket", lambda _: _open_socket(socket.AF_PACKET, socket.SOCK_RAW)),
    Attack("network", "vsock", lambda _: _open_socket(socket.AF_VSOCK, socket.SOCK_STREAM)),
    Attack("network", "socketpair", _socketpair),
    Attack("network", "send out of band", _out_of_band),
    Attack(
        "network",
        "receive out of band",
        lambda stage: kernel(
            "recvfrom", stage.node_socket.fileno(), _BYTE, 1, socket.MSG_OOB, None, None
        ),
        control=_peek_out_of_band,
    ),
    Attack("network", "get a handle of the engines process", _handle_of_the_peer),
    Attack(
        "network",
        "turn the engines socket elsewhere",
        _address_after_socket,
        no_control="a connected unix socket cannot be turned anyway; the call itself must be refused",
    ),
]


def _mq_open(stage: Stage) -> None:
    name = f"fnn-{os.getpid()}".encode()
    kernel("mq_open", name, os.O_CREAT | os.O_RDWR, 0o600, None)
    kernel("mq_unlink", name)


_IPC_REMOVE = 0


def _shared_memory(stage: Stage) -> None:
    kernel("shmctl", kernel("shmget", 0, 4096, 0o1600), _IPC_REMOVE, None)


def _semaphore(stage: Stage) -> None:
    kernel("semctl", kernel("semget", 0, 1, 0o1600), 0, _IPC_REMOVE, 0)


def _message_queue(stage: Stage) -> None:
    kernel("msgctl", kernel("msgget", 0, 0o1600), _IPC_REMOVE, None)


def _big_memory_file(stage: Stage) -> None:
    os.ftruncate(os.memfd_create("big", 0), 1 << 30)


IPC = [
    Attack("ipc", "sysv shared memory", _shared_memory),
    Attack("ipc", "sysv semaphore", _semaphore),
    Attack("ipc", "sysv message queue", _message_queue),
    Attack("ipc", "posix message queue", _mq_open),
    Attack("ipc", "memory file of a gigabyte", _big_memory_file),
    Attack("ipc", "pipe", lambda _: os.pipe()),
]


def _send_descriptor(stage: Stage) -> None:
    socket.send_fds(stage.node_socket, [b"x"], [stage.neighbour_view])


def _send_many(stage: Stage) -> None:
    kernel("sendmmsg", stage.node_socket.fileno(), ctypes.create_string_buffer(64), 0, 0)


LEAKS_BY_SOCKET = [
    Attack("leaks", "send a descriptor to the engine", _send_descriptor),
    Attack("leaks", "send many messages", _send_many),
]

ATTACKS = [*NETWORK, *IPC, *LEAKS_BY_SOCKET]
