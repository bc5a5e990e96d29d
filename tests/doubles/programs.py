"""Runs programs to their end, however slow the machine is."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.doubles.limits import HANG_S
from tests.doubles.stdio_client import descendants

_LOOK_S = 0.5


def run_to_end(
    command: Sequence[str], *, hang_s: float = HANG_S, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program without input until it ends, for as long as it gets on.

    It gets on while its processes use the processor. One that has not for `hang_s` is ended, and the test
    fails with what the program had said.
    """
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes, **options) as process:
        try:
            return _watched(process, list(command), hang_s)
        except BaseException:
            process.kill()
            raise


def _watched(
    process: subprocess.Popen[str], command: list[str], hang_s: float
) -> subprocess.CompletedProcess[str]:
    used, since_s = -1, time.monotonic()
    while True:
        try:
            said, errors = process.communicate(timeout=_LOOK_S)
        except subprocess.TimeoutExpired:
            now = _ticks(process.pid)
            if now != used:
                used, since_s = now, time.monotonic()
            elif time.monotonic() - since_s > hang_s:
                break
        else:
            return subprocess.CompletedProcess(command, process.returncode, said, errors)
    process.kill()
    said, errors = process.communicate()
    told = f"it had said\n{said[-3000:]}{errors[-3000:]}"
    raise AssertionError(f"{' '.join(command)} did nothing for {hang_s:g} s; {told}")


def _ticks(pid: int) -> int:
    """Ticks of processor time that a process, its descendants and their ended children have used."""
    total = 0
    for one in (pid, *descendants(pid)):
        try:
            stat = Path(f"/proc/{one}/stat").read_text()
        except OSError:  # it ended meanwhile
            continue
        total += sum(int(field) for field in stat.rpartition(")")[2].split()[11:15])
    return total
