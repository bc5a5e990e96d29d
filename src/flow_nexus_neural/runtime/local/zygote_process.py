"""Starts the process that forks nodes. Standard library only: this runs before anything else is imported.

The main thread must call `launch`: the kernel ties "kill me when my parent dies" to the thread that started
the process, and a zygote started from a worker thread would die when that thread retires.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from flow_nexus_neural.errors import RuntimeUnavailable
from flow_nexus_neural.runtime.process.environment import ENVIRONMENT

ZYGOTE_COMMAND = (
    sys.executable,
    "-I",
    "-X",
    "frozen_modules=on",
    "-m",
    "flow_nexus_neural.node.zygote",
)


def can_fork_nodes() -> bool:
    """Whether this system has what a zygote needs: a socket that keeps messages apart, and pidfds."""
    return hasattr(socket, "SOCK_SEQPACKET") and hasattr(os, "pidfd_open")


@dataclass(slots=True)
class ZygoteProcess:
    """A started zygote, which may still be importing.

    Attributes:
        process: The child; its stderr pipe must be drained.
        control: SEQPACKET socket, non-blocking.
        launched_s: Monotonic time of the start.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    launched_s: float

    @classmethod
    def launch(cls, command: Sequence[str] = ZYGOTE_COMMAND) -> Self:
        """Start it and return at once, in about a millisecond; it says hello when it is warm.

        Args:
            command: Program and first arguments; the control descriptor's number and this process's id are
                appended.

        Raises:
            RuntimeUnavailable: If this platform lacks what the zygote needs, or refuses to start it.
        """
        if not can_fork_nodes():
            raise RuntimeUnavailable(
                f"local nodes need SOCK_SEQPACKET and pidfd_open, which {sys.platform} lacks",
                hint="run the server on Linux 5.3 or later",
            )
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeUnavailable(
                f"a zygote must be started by the main thread, not by {threading.current_thread().name}",
                hint="start the server again",
            )
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            process = subprocess.Popen(  # noqa: S603  # our own interpreter and module, no shell
                [*command, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,  # an interrupt typed at a terminal is ours to handle
            )
        except OSError as failure:
            control.close()
            raise RuntimeUnavailable(
                f"the process that starts nodes could not be started: {failure}"
            ) from failure
        finally:
            theirs.close()
        control.settimeout(0)
        return cls(process=process, control=control, launched_s=time.monotonic())

    def kill(self) -> None:
        """End it, and with it every node, at once."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Kill it, wait for it and release every descriptor.

        Idempotent. Blocks for as long as the kernel needs to end one process.
        """
        self.kill()
        self.process.wait()
        self.control.close()
        if self.process.stderr is not None:
            with contextlib.suppress(OSError):
                self.process.stderr.close()
