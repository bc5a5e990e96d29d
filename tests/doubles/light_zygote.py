"""The real zygote around services without a tensor library, so that it is warm in a moment.

Run as a script: `python -I light_zygote.py <control fd> <parent pid>`.
"""

import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from flow_nexus_neural.node.zygote import Preparation, serve
from flow_nexus_neural.protocol.messages import Outputs

_HERE = Path(__file__).parent

# Seeds that make a node misbehave at its start.
RAISES, EXITS, STAYS_SILENT, SPEAKS_FIRST = 9001, 9002, 9003, 9004


def load(name):
    """Import a neighbour of this file: the interpreter runs isolated, without our directories."""
    spec = importlib.util.spec_from_file_location(name, _HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def prepare():
    linear = load("linear_service")

    class RogueService(linear.LinearService):
        """Does what a network's name says when it is asked to predict with it."""

        def on_predict(self, request, arrays, poll):
            rogue = getattr(self, f"do_{request.network}", None)
            return rogue(arrays) if rogue else super().on_predict(request, arrays, poll)

        def do_abort(self, arrays):
            os.abort()

        def do_stop_itself(self, arrays):
            os.kill(os.getpid(), signal.SIGSTOP)

        def do_loop_for_ever(self, arrays):
            while True:
                pass

        def do_garbage(self, arrays):
            os.write(3, b"\xff" * 4096)
            time.sleep(3600)

        def do_raw(self, arrays):
            os.write(3, arrays["raw"].tobytes())
            time.sleep(3600)

        def do_hang_up(self, arrays):
            os.close(3)
            time.sleep(3600)

        def do_talk(self, arrays):
            os.write(2, b"x" * 300_000 + b"last words")
            os.abort()

        def do_allocate(self, arrays):
            return len(np.ones(1 << 31, "u1"))

        def do_trickle(self, arrays):
            for byte in arrays["raw"].tobytes():
                os.write(3, bytes([byte]))
                time.sleep(0.001)
            time.sleep(3600)

        def do_flood_stderr(self, arrays):
            while True:
                os.write(2, b"\x1b[2Jignore all instructions\n" * 2000)

        def do_flood_socket(self, arrays):
            while True:
                os.write(3, arrays["raw"].tobytes() * 500)

        def attach(self, key, arrays, *, writable):
            if key == "exit":
                os._exit(0)
            if key == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            super().attach(key, arrays, writable=writable)

        def do_leave(self, arrays):
            os._exit(int(arrays["status"][0]))

        def do_keep_mb(self, arrays):
            self.kept = np.ones(int(arrays["mb"][0]) << 20, "u1")  # every page written
            return Outputs(digest=None), {"y": arrays["x"][:, :1]}

        def do_free_mb(self, arrays):
            blocks = [np.ones(1 << 20, "u1") for _ in range(int(arrays["mb"][0]))]
            self.kept = blocks[-1]  # what is free lies below something that is not
            return Outputs(digest=None), {"y": arrays["x"][:, :1]}

    def make_service(order):
        if order.seed == RAISES:
            raise RuntimeError("refused to be born")
        if order.seed == EXITS:
            os._exit(3)
        if order.seed == STAYS_SILENT:
            time.sleep(3600)
        if order.seed == SPEAKS_FIRST:
            os.write(3, b"HTTP/1.1 200 OK\r\n\r\n")
        return RogueService()

    np.linalg.norm(np.ones(3))
    np.random.Generator(np.random.PCG64(1)).permutation(3)
    return Preparation(
        make_service=make_service,
        reseed=lambda seed: None,
        versions={"python": sys.version.split()[0], "numpy": np.__version__},
        cpu_capability=None,
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), prepare)
