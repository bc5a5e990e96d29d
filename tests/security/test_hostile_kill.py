"""Under `hostile="kill"` a call that no honest node makes ends the node by SIGSYS; nothing else changes."""

import ctypes
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.requests import DeployRequest, InitRequest, StatusRequest
from flow_nexus_neural.errors import NodeDied
from flow_nexus_neural.node.confinement.apply import run_probes
from flow_nexus_neural.node.confinement.policy import HOSTILE
from flow_nexus_neural.node.confinement.syscalls import this_machine
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.settings import Settings
from tests.doubles.runtimes import until
from tests.security.attack import kernel
from tests.security.harness import (
    LIMITS,
    STRONGEST_USER,
    SUCCEEDED,
    Confinement,
    has_landlock,
    namespaces_work,
    outcome_of,
)
from tests.security.test_escape_battery import ATTACKS
from tests.security.test_real_nodes import command

KILL = replace(LIMITS, hostile="kill")
KNOWN = sorted(set(HOSTILE) & set(this_machine().numbers if this_machine() else ()))


@pytest.mark.parametrize("name", KNOWN)
def test_the_call_ends_the_node(name):
    outcome = outcome_of(
        lambda: kernel(name, 0, None, None, None, None, None),
        user="unprivileged",
        confinement=Confinement(KILL),
    )
    assert outcome == "SIGSYS"


def test_the_same_calls_only_fail_by_default():
    def call_all():
        for name in KNOWN:
            try:
                kernel(name, 0, None, None, None, None, None)
            except PermissionError:
                continue
            raise AssertionError(name)

    outcome = outcome_of(call_all, user="unprivileged", confinement=Confinement())
    assert outcome == SUCCEEDED


def test_every_attack_stays_blocked(stage):
    through = {}
    for attack in ATTACKS:
        if attack.by_namespaces and not namespaces_work(STRONGEST_USER):
            continue
        confinement = Confinement(KILL, keep_fds=attack.keep_fds(stage))
        outcome = outcome_of(
            lambda a=attack: a.code(stage), user=STRONGEST_USER, confinement=confinement
        )
        if outcome not in {*attack.expected, "SIGSYS"}:
            through[attack.id] = outcome
    assert through == {}


def test_probes_leave_out_what_would_end_the_node():
    def probe():
        probes = run_probes(hostile="kill")
        assert probes["fork"] == "EPERM"
        assert "execve" not in probes

    assert outcome_of(probe, user="unprivileged", confinement=Confinement(KILL)) == SUCCEEDED


def test_a_signal_handler_does_not_save_the_node():
    def ignore_and_call():
        import signal

        signal.signal(signal.SIGSYS, signal.SIG_IGN)
        kernel("ptrace", 0, 0, ctypes.c_void_p(), ctypes.c_void_p())

    outcome = outcome_of(ignore_and_call, user="unprivileged", confinement=Confinement(KILL))
    assert outcome == "SIGSYS"


COMMAND = (sys.executable, "-I", str(Path(__file__).with_name("attacking_zygote.py")))
FORBIDDEN = "memory-ptrace_attach"


@pytest.mark.anyio
@pytest.mark.parametrize("hostile", ["errno", "kill"])
async def test_the_operator_decides_and_status_tells(tmp_path, stage, hostile):
    settings = Settings(state_dir=tmp_path, hostile=hostile)
    launch = partial(ZygoteProcess.launch, COMMAND)
    async with (
        LocalRuntime(settings, launch=launch) as runtime,
        Engine.open(settings, runtime=runtime) as engine,
    ):
        cluster_id = (
            await engine.init_cluster(InitRequest(name="hostile", daa_enabled=False))
        ).cluster_id
        report = await engine.deploy_node(DeployRequest(cluster_id=cluster_id))
        assert report.isolation.level == ("strict" if has_landlock() else "seccomp")
        slot = engine.cluster(cluster_id).slots["worker-0"]
        handle = slot.handle
        if hostile == "errno":
            assert await command(handle, FORBIDDEN, stage) == "EPERM"
            assert slot.handle is handle
            return
        with pytest.raises(NodeDied, match="forbidden"):
            await command(handle, FORBIDDEN, stage)
        exit_ = await handle.wait_exit()
        assert (exit_.reason, exit_.signal) == ("sandbox_violation", "SIGSYS")
        await until(lambda: slot.state == "failed")
        (node,) = (await engine.status(StatusRequest(cluster_id=cluster_id))).nodes
        assert node.status == "failed"
        assert node.last_error.startswith("sandbox_violation: killed by SIGSYS")
