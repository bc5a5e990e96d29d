"""Starts the Ray driver, and ends every process that it left. Standard library only.

A driver that is killed leaves the head and the raylet that it started running for a minute or more. This
process is the subreaper of all of them: whatever loses its parent becomes its child, and is killed and waited
for when the driver or the server has ended.

Run as `python -I -m flow_nexus_neural.runtime.ray.keeper <lifeline fd> <parent pid> <command...>`. The
lifeline is a pipe whose other end only the server holds.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from typing import Final

from flow_nexus_neural.runtime.ray.ties import adopt_orphans

_REAP_PAUSE_S: Final = 0.02


def main(arguments: list[str]) -> int:
    """Keep one driver; returns its exit status, or 1 when the server ended first."""
    lifeline, parent_pid, *command = arguments
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides
    if os.getppid() != int(parent_pid):
        return 1
    inherited = [int(word) for word in command if word.isdecimal()]
    driver = subprocess.Popen(command, pass_fds=inherited)  # noqa: S603  # our own interpreter and module
    for descriptor in inherited:
        os.close(descriptor)
    pidfd = os.pidfd_open(driver.pid)
    ended, _, _ = select.select([pidfd, int(lifeline)], [], [])
    status = driver.wait() if pidfd in ended else 1
    end_descendants()
    return status


def end_descendants() -> None:
    """Kill every descendant and wait for it, until there is none."""
    while True:
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                pass
        except ChildProcessError:
            return
        time.sleep(_REAP_PAUSE_S)


def _descendants(ancestor: int) -> list[int]:
    """Process ids below one, from the parents in /proc."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found, open_ends = [], [ancestor]
    while open_ends:
        below = children.get(open_ends.pop(), [])
        found += below
        open_ends += below
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
