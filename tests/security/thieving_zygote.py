"""The real zygote around nodes that keep every descriptor and mapping they ever got, and try them.

Run as a script: `python -I thieving_zygote.py <control fd> <parent pid>`.
"""

import array
import ctypes
import fcntl
import json
import mmap
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from flow_nexus_neural.node import wire
from flow_nexus_neural.node.zygote import Preparation, serve
from flow_nexus_neural.protocol.messages import Outputs
from tests.doubles.linear_service import LinearService
from tests.security.attack import kernel, map_memory
from tests.security.harness import errno_name

READ, WRITE, SHARED = mmap.PROT_READ, mmap.PROT_WRITE, mmap.MAP_SHARED
NODE_SOCKET = 3
HIGHEST = 128

stolen = {}
"""Descriptors by key, which an honest node closes as soon as it has mapped them."""


def keep_descriptors():
    honest_map = wire.map_region

    def map_region(fd, grant):
        stolen[grant.key] = fd
        return honest_map(fd, grant)

    wire.map_region = map_region
    wire.os = SimpleNamespace(close=lambda fd: None, writev=os.writev)


def page_at(fd, protection):
    return map_memory(mmap.PAGESIZE, protection, SHARED, fd)


def token_at(address):
    return ctypes.c_int64.from_address(address).value


def readable_tokens():
    """What can be read through any descriptor that is open here, whatever it is."""
    found = []
    for fd in range(HIGHEST):
        try:
            found.append(token_at(page_at(fd, READ)))
        except OSError:
            continue
    return found


def pass_on(fd):
    with socket.socket(fileno=NODE_SOCKET) as own:
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            own.sendmsg([b"x"], rights)
        finally:
            own.detach()


def make_writable(fd):
    kernel("mprotect", page_at(fd, READ), mmap.PAGESIZE, READ | WRITE)


def scribble(fd):
    ctypes.c_int64.from_address(page_at(fd, READ)).value = 666


ATTACKS = {
    "map it writable": lambda fd: page_at(fd, READ | WRITE),
    "make a mapping of it writable": make_writable,
    "write to it": lambda fd: os.write(fd, b"x" * 8),
    "write at a place": lambda fd: os.pwrite(fd, b"x" * 8, 0),
    "truncate it": lambda fd: os.ftruncate(fd, 0),
    "seal it": lambda fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
    "open it for writing": lambda fd: fcntl.fcntl(fd, fcntl.F_SETFL, os.O_RDWR),
    "open it again": lambda fd: os.open(f"/proc/self/fd/{fd}", os.O_RDWR),
    "open it again for reading": lambda fd: os.open(f"/proc/self/fd/{fd}", os.O_RDONLY),
    "copy the descriptor": os.dup,
    "copy it by fcntl": lambda fd: fcntl.fcntl(fd, fcntl.F_DUPFD, 100),
    "pass it on": pass_on,
    "read it by read": lambda fd: os.read(fd, 8),
    "wake a neighbour through it": lambda fd: kernel("futex", page_at(fd, READ), 1, 1, 0, 0, 0),
    "write through a mapping": scribble,
}


class Thief(LinearService):
    """Forgets nothing that it was told to forget."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    def attach(self, key, arrays, *, writable):
        super().attach(key, arrays, writable=writable)
        self.kept[key] = arrays

    def on_predict(self, request, arrays, poll):
        if "command" not in arrays:
            return super().on_predict(request, arrays, poll)
        order = json.loads(arrays["command"].tobytes())
        text = json.dumps(self.obey(order)).ljust(len(arrays["x"]))
        characters = np.frombuffer(text.encode("ascii"), "u1")
        return Outputs(digest=None), {"y": characters.astype("f4").reshape(-1, 1)}

    def obey(self, order):
        match order["name"]:
            case "kept":
                return {key: int(arrays["token"][0]) for key, arrays in self.kept.items()}
            case "readable":
                return readable_tokens()
        try:
            ATTACKS[order["name"]](stolen[order["key"]])
        except OSError as failure:
            return errno_name(failure)
        return "succeeded"


def prepare():
    keep_descriptors()
    np.random.Generator(np.random.PCG64(1)).standard_normal(4)  # nothing can be imported later
    return Preparation(
        make_service=lambda order: Thief(),
        reseed=lambda seed: None,
        versions={"python": sys.version.split()[0], "numpy": np.__version__},
        cpu_capability=None,
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), prepare)
