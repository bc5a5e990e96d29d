"""The engine's connection to the driver: starts it by way of its keeper, and ends both."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import anyio

from flow_nexus_neural.errors import RuntimeUnavailable
from flow_nexus_neural.runtime.ray.session import Session
from flow_nexus_neural.runtime.ray.stream import MessageStream
from flow_nexus_neural.runtime.ray.wire import DRIVER

_PYTHON: Final = (sys.executable, "-I", "-m")
_PACKAGE: Final = "flow_nexus_neural.runtime.ray"
_LEAVE_S: Final = 15.0


class Link:
    """One driver, from its start to its end.

    Args:
        session: Its files; owned from here on.
        config: What it is told first; see `driver.Driver`.

    Attributes:
        stream: Of messages to and from it.
        lost: Set once nothing comes from it any more.
    """

    def __init__(self, session: Session, config: Mapping[str, Any]) -> None:
        self.session = session
        self.lost = anyio.Event()
        ours, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        command = [f"{_PACKAGE}.keeper", str(lifeline), str(os.getpid())]
        driver = [*_PYTHON, f"{_PACKAGE}.driver", str(theirs.fileno())]
        try:
            with theirs, session.log.open("wb") as log:
                self.process = subprocess.Popen(  # noqa: S603  # our own interpreter and modules
                    [*_PYTHON, *command, *driver],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lifeline, theirs.fileno()),
                    env=dict(session.environment),
                    cwd="/",
                    start_new_session=True,
                )
        except OSError as failure:
            ours.close()
            os.close(self._lifeline)
            raise RuntimeUnavailable(f"the Ray driver could not be started: {failure}") from failure
        finally:
            os.close(lifeline)
        self.stream = MessageStream(ours)
        self.stream.pass_on(json.dumps(config).encode() + b"\n")

    def leave(self) -> None:
        """Ask the driver to end Ray in order."""
        self.stream.send(DRIVER, {"kind": "close"})

    def end(self) -> None:
        """Wait until everything that the driver started has ended; blocks, for some seconds at most."""
        with suppress(subprocess.TimeoutExpired):  # its keeper ends it
            self.process.wait(_LEAVE_S)
        os.close(self._lifeline)
        self.process.wait()
        self.session.close()
