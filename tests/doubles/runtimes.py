"""Opens each kind of runtime around the linear service."""

import os
import signal
import sys
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import numpy as np
import pytest

from flow_nexus_neural.protocol.messages import Build, Pass, Train
from flow_nexus_neural.runtime.base import NodeSpec
from flow_nexus_neural.runtime.exec.runtime import ExecRuntime
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.doubles.linear_service import LinearService, linear_plan

LIGHT_ZYGOTE = (sys.executable, "-I", str(Path(__file__).with_name("light_zygote.py")))
LIGHT_EXEC = (sys.executable, "-I", str(Path(__file__).with_name("light_exec.py")))
NEEDS_RAY = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: `make ray` runs this over it"
)
RAY = pytest.param("ray", marks=NEEDS_RAY)
KINDS = ("local", "local-torch", "local-carried", "exec", "inproc", "inproc-inline", RAY)

launch_light = partial(ZygoteProcess.launch, LIGHT_ZYGOTE)


@asynccontextmanager
async def open_runtime(kind, faults=None):
    stack = ExitStack()
    if kind in ("inproc", "inproc-inline"):
        inline = kind == "inproc-inline"
        runtime = InprocRuntime(lambda spec: LinearService(), faults, inline=inline)
    elif kind in ("exec", "exec-port"):
        runtime = ExecRuntime(Settings(), command=LIGHT_EXEC, inherit=kind == "exec")
    elif kind == "ray":
        from flow_nexus_neural.runtime.ray.runtime import RayRuntime

        settings = Settings(state_dir=stack.enter_context(TemporaryDirectory()), runtime="ray")
        runtime = RayRuntime(settings, zygote=LIGHT_ZYGOTE)
    elif kind == "local-torch":
        runtime = LocalRuntime(Settings())
    else:
        runtime = LocalRuntime(
            Settings(), launch=launch_light, shared_memory=kind != "local-carried"
        )
    with stack:
        async with runtime:
            yield runtime


def spec(slot="worker-0", incarnation=1, seed=7, **more):
    return NodeSpec(f"{slot}#{incarnation}", slot, incarnation, seed, **more)


def kill(node):
    """End a node from outside, as the system might."""
    if node.pid is None:
        node.kill()
    else:
        os.kill(node.pid, signal.SIGKILL)


ROWS = 64
TRAIN = Train(
    network="net",
    base="base",
    opt_step=0,
    shard="shard",
    publish="publish",
    optimizer="sgd",
    learning_rate=0.01,
    batch_size=8,
    passes=(Pass(order_seed=5),),
    dropout_seed=1,
)
LONG_TRAIN = TRAIN.model_copy(
    update={"batch_size": 1, "passes": tuple(Pass(order_seed=i) for i in range(64))}
)


def training_data():
    draw = np.random.Generator(np.random.PCG64(11))
    x = draw.standard_normal((ROWS, 3)).astype("f4")
    return {"x": x, "y": (x @ np.array([1, -2, 0.5], "f4")).astype("f4")}


async def prepare(runtime, node, data=None):
    """Build a network, grant data and base and buffer; gives the buffer and everything to close."""
    await node.call(Build(network="net", plan=linear_plan(), seed=3))
    shard = runtime.share("shard", data or training_data())
    base = runtime.share("base", {"params": np.zeros(4, "f4"), "buffers": np.zeros(0, "f4")})
    publish = runtime.buffer("publish", [("params", "f4", (4,)), ("buffers", "f4", (0,))])
    for region in (shard, base, publish):
        await node.grant(region)
    shard.close()
    base.close()
    return publish


def gone(pid):
    """Whether a process has ended; one that nobody has waited for yet has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def descriptors():
    """What this process has open, by number."""
    links = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            links[number] = os.readlink(f"/proc/self/fd/{number}")
    return links


async def until(condition, timeout_s=HANG_S):
    """Wait until a condition of the outside world holds."""
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110  # other processes set no event
            await anyio.sleep(0.005)
