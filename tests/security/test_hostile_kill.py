"""Under `hostile="kill"` a call that no honest node makes ends the node by SIGSYS; nothing else changes."""

import ctypes
from dataclasses import replace

import pytest

from flow_nexus_neural.node.confinement.apply import run_probes
from flow_nexus_neural.node.confinement.policy import HOSTILE
from flow_nexus_neural.node.confinement.syscalls import this_machine
from tests.security.attack import kernel
from tests.security.harness import (
    LIMITS,
    STRONGEST_USER,
    SUCCEEDED,
    Confinement,
    namespaces_work,
    outcome_of,
)
from tests.security.test_escape_battery import ATTACKS

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
