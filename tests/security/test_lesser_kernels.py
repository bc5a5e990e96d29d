"""What is reached where a kernel or a container refuses a layer, from the zygote up; and failing closed."""

import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from flow_nexus_neural.errors import IsolationUnavailable
from flow_nexus_neural.protocol.messages import Ping
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.settings import Settings
from tests.doubles.runtimes import LIGHT_ZYGOTE, gone, spec

pytestmark = pytest.mark.anyio

LESSER = str(Path(__file__).with_name("lesser_kernel.py"))
WITHOUT_LANDLOCK = "landlock_create_ruleset=ENOSYS"
WITHOUT_SECCOMP = "seccomp=EINVAL"
WITHOUT_NAMESPACES = "unshare=EPERM,chroot=EPERM"


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@asynccontextmanager
async def open_on(refused, requirement):
    command = (sys.executable, "-I", LESSER, refused, *LIGHT_ZYGOTE)
    settings = Settings(require_isolation=requirement)
    launch = partial(ZygoteProcess.launch, command)
    async with LocalRuntime(settings, launch=launch) as runtime:
        yield runtime


@pytest.mark.parametrize(
    ("refused", "level", "missing"),
    [
        (WITHOUT_LANDLOCK, "seccomp", "landlock (ENOSYS"),
        (WITHOUT_SECCOMP, "process", "seccomp (EINVAL)"),
        (f"{WITHOUT_SECCOMP},{WITHOUT_LANDLOCK}", "process", "seccomp (EINVAL)"),
    ],
)
async def test_the_level_says_what_was_refused_and_the_node_works(refused, level, missing):
    async with open_on(refused, "auto") as runtime:
        node = await runtime.start(spec())
        assert node.isolation.level == level
        assert node.isolation.missing[0].startswith(missing)
        reply, _ = await node.call(Ping())
        assert reply.kind == "pong"


@pytest.mark.parametrize(
    ("refused", "requirement", "got"),
    [
        (WITHOUT_LANDLOCK, "strict", "seccomp"),
        (WITHOUT_SECCOMP, "strict", "process"),
        (WITHOUT_SECCOMP, "seccomp", "process"),
    ],
)
async def test_a_requirement_that_cannot_be_met_fails_closed(
    refused, requirement, got, monkeypatch
):
    from flow_nexus_neural.runtime.connection import readiness

    pids = []
    judge = readiness.judge

    def noting(pid, *more, **named):
        pids.append(pid)
        return judge(pid, *more, **named)

    monkeypatch.setattr(readiness, "judge", noting)
    async with open_on(refused, requirement) as runtime:
        with pytest.raises(IsolationUnavailable) as refusal:
            await runtime.start(spec())
        assert refusal.value.details["got"] == got
        assert len(pids) == 1
        assert gone(pids[0])


async def test_without_namespaces_the_level_stays_and_the_layers_say_so(needs_landlock):
    async with open_on(WITHOUT_NAMESPACES, "strict") as runtime:
        node = await runtime.start(spec())
        assert node.isolation.level == "strict"
        for layer in ("network_namespace", "user_namespace", "chroot"):
            assert node.isolation.layers[layer] is False
