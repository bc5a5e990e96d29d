"""The real zygote around the real service, which obeys one more thing: it runs the command that comes along.

A command is an array of bytes beside a prediction. What it says is answered as one character per row.
Run as a script: `python -I attacking_zygote.py <control fd> <parent pid>`.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from flow_nexus_neural.node.zygote import prepare_torch, serve
from flow_nexus_neural.protocol.messages import Outputs
from tests.security.harness import errno_name
from tests.security.real_nodes import ANSWER_CHARACTERS

_NODE_SOCKET = 3


class ObedientService:
    """Passes everything on to the real service but predictions that bring a command."""

    def __init__(self, service, commands):
        self._service = service
        self._commands = commands

    def __getattr__(self, name):
        return getattr(self._service, name)

    def handle(self, request, arrays, poll):
        if "command" not in arrays:
            return self._service.handle(request, arrays, poll)
        text = self._obey(json.loads(arrays["command"].tobytes()))[:ANSWER_CHARACTERS]
        characters = np.frombuffer(text.ljust(ANSWER_CHARACTERS).encode("ascii"), "u1")
        return Outputs(digest=None), {"y": characters.astype("f4").reshape(-1, 1)}

    def _obey(self, order):
        stage = SimpleNamespace(**order["stage"])
        stage.directory = Path(stage.directory)
        stage.shared_file = Path(stage.shared_file)
        stage.tcp_address = tuple(stage.tcp_address)
        stage.udp_address = tuple(stage.udp_address)
        stage.abstract_name = stage.abstract_name.encode()
        stage.victim = SimpleNamespace(pid=stage.victim_pid, address=stage.victim_address)
        stage.node_socket = SimpleNamespace(fileno=lambda: _NODE_SOCKET)
        try:
            answer = self._commands[order["name"]](stage)
        except OSError as failure:
            return errno_name(failure)
        except BaseException as failure:  # noqa: BLE001 - whatever it is, it is the outcome
            return type(failure).__name__
        return answer if isinstance(answer, str) else "succeeded"


def prepare():
    preparation = prepare_torch()
    from tests.security.real_nodes import ATTACKS_OF_A_NODE, WORK_THAT_MUST_FAIL, loaded_modules

    commands = {attack.id: attack.code for attack in ATTACKS_OF_A_NODE}
    commands |= WORK_THAT_MUST_FAIL
    commands["loaded modules"] = lambda stage: loaded_modules()
    make = preparation.make_service
    return replace(preparation, make_service=lambda order: ObedientService(make(order), commands))


if __name__ == "__main__":
    os.environ.setdefault("LANG", "C.UTF-8")
    serve(int(sys.argv[1]), int(sys.argv[2]), prepare)
