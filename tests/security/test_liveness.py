"""A node that will not stop is stopped, and none outlives its parent or its processor limit."""

import contextlib
import os
import select
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flow_nexus_neural.node.confinement import policy
from flow_nexus_neural.node.confinement.apply import (
    ORPHANED_STATUS,
    ConfinementFailed,
    confine,
)
from tests.doubles.limits import HANG_S
from tests.security.harness import (
    BARE,
    LIMITS,
    SUCCEEDED,
    TIMED_OUT,
    Confinement,
    outcome_of,
    reap,
    until,
)


def _deaf():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)


def _spin():
    while True:
        pass


def _spin_deaf():
    _deaf()
    _spin()


def _stop_itself():
    os.kill(os.getpid(), signal.SIGSTOP)


def _never_answer():
    while True:
        time.sleep(60)


class _Node:
    """A confined child under a parent of its own, as a node under its zygote.

    The parent writes the node's pid to `reader`, and waits until it is killed itself.
    """

    def __init__(self, behave, *, confined=True):
        self.reader, writer = os.pipe()
        self.parent = os.fork()
        if self.parent == 0:
            try:
                self._be_the_zygote(writer, behave, confined=confined)
            finally:
                os._exit(70)
        os.close(writer)
        self.pid = int(os.read(self.reader, 32))
        self.pidfd = os.pidfd_open(self.pid)

    def _be_the_zygote(self, writer, behave, *, confined):
        zygote = os.getpid()
        node = os.fork()
        if node == 0:
            os.setpgid(0, 0)
            null = os.open("/dev/null", os.O_WRONLY)
            os.dup2(null, 2)
            if confined:
                confine(LIMITS, keep_fds=(2, writer), expected_ppid=zygote)
            if behave is not _stop_itself:
                _deaf()
            os.write(writer, str(os.getpid()).encode())
            behave()
        while True:
            signal.pause()

    def state(self):
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def ended(self, deadline_s):
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(deadline_s * 1000))

    def kill_parent(self):
        if self.parent is not None:
            os.kill(self.parent, signal.SIGKILL)
            reap(self.parent, 10)
            self.parent = None

    def close(self):
        self.kill_parent()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.close(self.pidfd)
        os.close(self.reader)


@pytest.fixture
def nodes():
    made = []

    def make(behave, **options):
        made.append(_Node(behave, **options))
        return made[-1]

    yield make
    for node in made:
        node.close()


BEHAVIOURS = [_spin_deaf, _stop_itself, _never_answer]


@pytest.mark.parametrize("behave", BEHAVIOURS)
def test_sigkill_by_pidfd_ends_what_sigterm_does_not(nodes, behave):
    node = nodes(behave)
    assert until(lambda: behave is not _stop_itself or node.state() == "T")
    signal.pidfd_send_signal(node.pidfd, signal.SIGTERM)
    assert not node.ended(0.05)
    signal.pidfd_send_signal(node.pidfd, signal.SIGKILL)
    assert node.ended(HANG_S)


@pytest.mark.parametrize("behave", BEHAVIOURS)
def test_a_node_dies_with_its_parent_whatever_it_does(nodes, behave):
    node = nodes(behave)
    node.kill_parent()
    assert node.ended(HANG_S)


def test_an_unconfined_child_outlives_its_parent(nodes):
    node = nodes(_never_answer, confined=False)
    node.kill_parent()
    assert not node.ended(0.1)


def test_a_busy_node_gets_sigxcpu_at_its_limit(user):
    limits = replace(LIMITS, cpu_s=1)
    outcome = outcome_of(_spin, user=user, confinement=Confinement(limits))
    assert outcome == "SIGXCPU"


def test_a_node_that_ignores_sigxcpu_is_killed_soon_after(monkeypatch):
    monkeypatch.setattr(policy, "CPU_GRACE_S", 1)
    limits = replace(LIMITS, cpu_s=1)
    outcome = outcome_of(_spin_deaf, user="unprivileged", confinement=Confinement(limits))
    assert outcome == "SIGKILL"


def test_a_node_whose_parent_is_gone_exits_before_it_reads_anything():
    orphan = Confinement(
        apply=lambda limits, keep, ppid: confine(limits, keep_fds=keep, expected_ppid=ppid + 1)
    )
    outcome = outcome_of(lambda: None, user="unprivileged", confinement=orphan)
    assert outcome == f"exit {ORPHANED_STATUS}"


def test_a_mandatory_step_that_fails_ends_the_node():
    broken = Confinement(keep_fds=(999,))
    assert outcome_of(lambda: None, user="unprivileged", confinement=broken) == "exit 71"


def test_the_failed_step_is_named():
    def confine_with_a_closed_descriptor():
        try:
            confine(LIMITS, keep_fds=(999,), expected_ppid=os.getppid())
        except ConfinementFailed as failure:
            if "descriptors" in str(failure):
                return
        raise AssertionError

    outcome = outcome_of(confine_with_a_closed_descriptor, user="unprivileged", confinement=BARE)
    assert outcome == SUCCEEDED


def test_the_harness_itself_notices_a_hang():
    outcome = outcome_of(
        _never_answer, user="unprivileged", confinement=Confinement(), deadline_s=0.3
    )
    assert outcome == TIMED_OUT
