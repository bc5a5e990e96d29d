"""The level is what was measured on the process, whatever the node says of itself."""

import ctypes
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from flow_nexus_neural.errors import IsolationUnavailable
from flow_nexus_neural.node.confinement import landlock, limits, namespaces, privileges, seccomp
from flow_nexus_neural.node.confinement.apply import confine, run_probes
from flow_nexus_neural.node.confinement.libc import prctl
from flow_nexus_neural.runtime.local.cgroups import _start_time
from flow_nexus_neural.runtime.process import isolation
from flow_nexus_neural.runtime.process.isolation import EXPECTED_PROBES, judge, platform_name
from flow_nexus_neural.runtime.process.kernel_memory import resident_bytes
from tests.security.harness import (
    BARE,
    IS_ROOT,
    LIMITS,
    SUCCEEDED,
    become_nobody,
    outcome_of,
    reap,
    skip_without_namespaces,
    until,
)


class _Node:
    """A child that confines itself after `sabotage`, reports, and waits."""

    def __init__(self, sabotage, user):
        reader, writer = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
                if user == "unprivileged" and IS_ROOT:
                    become_nobody()
                sabotage()
                steps = confine(LIMITS, keep_fds=(2, writer), expected_ppid=parent)
                os.write(writer, json.dumps([steps, run_probes()]).encode())
                while True:
                    time.sleep(60)
            finally:
                os._exit(70)
        os.close(writer)
        self.steps, self.probes = json.loads(os.read(reader, 65536))
        os.close(reader)

    def judge(self, requirement="auto"):
        return judge(self.pid, self.steps, self.probes, requirement)

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        reap(self.pid, 10)


@pytest.fixture
def node_of():
    made = []

    def make(sabotage=lambda: None, user="unprivileged"):
        made.append(_Node(sabotage, user))
        return made[-1]

    yield make
    for node in made:
        node.close()


def _refuse(module, name, code):
    """Make one step fail as a kernel without the feature would; only in the child that calls it."""

    def refused(*_, **__):
        raise OSError(code, name)

    return lambda: setattr(module, name, refused)


def test_a_fully_confined_node_is_strict(node_of, user, needs_landlock):
    found = node_of(user=user).judge("strict")
    assert found.level == "strict"
    assert found.missing == ()
    assert found.layers["seccomp"] == "allow-list"
    assert found.layers["landlock_abi"] >= 1
    assert found.layers["capabilities"] == "none"
    assert found.layers["threads"] == 1
    assert found.layers["uid"] != 0
    unseen = [] if IS_ROOT else ["network_namespace", "user_namespace", "chroot"]
    assert found.layers["on_the_nodes_word"] == ["landlock_abi", *unseen]
    assert found.layers["rlimits"]["nofile"] == LIMITS.nofile
    assert found.layers["rlimits"]["cpu_s"] == LIMITS.cpu_s
    assert found.layers["rlimits"]["data_mb"] >= LIMITS.memory_mb
    assert set(found.probes) == set(EXPECTED_PROBES)
    assert found.not_enforced == ("cpu_share", "total_memory")


def test_the_extra_walls_are_seen_from_outside(node_of, user):
    skip_without_namespaces(user)
    layers = node_of(user=user).judge().layers
    assert layers["bounding_set"] == "none"
    assert layers["network_namespace"] is True
    assert layers["chroot"] is True
    assert layers["user_namespace"] is (user == "unprivileged")


def test_without_landlock_the_level_is_seccomp_and_the_reason_is_named(node_of):
    node = node_of(_refuse(landlock, "landlock_abi", 38))
    found = node.judge("seccomp")
    assert found.level == "seccomp"
    assert found.layers["landlock_abi"] is None
    assert found.missing[0].startswith("landlock (ENOSYS, kernel ")


def test_strict_fails_closed_without_landlock(node_of):
    node = node_of(_refuse(landlock, "enter_domain", 95))
    with pytest.raises(IsolationUnavailable) as refusal:
        node.judge("strict")
    assert refusal.value.details["required"] == "strict"
    assert refusal.value.details["got"] == "seccomp"
    assert "landlock" in refusal.value.message
    assert "--require-isolation seccomp" in refusal.value.hint


def test_without_seccomp_the_level_is_process(node_of):
    node = node_of(_refuse(seccomp, "install_filter", 22))
    assert node.judge("process").level == "process"
    assert node.judge().missing[0] == "seccomp (EINVAL)"
    with pytest.raises(IsolationUnavailable, match="seccomp"):
        node.judge("seccomp")


@pytest.mark.parametrize(
    "name", [b"x\nSeccomp:\t0", b"x\nVmRSS:\t1 kB", b"x\nUid:\t0\nU:", b") Z 1 1 1 ("]
)
def test_the_name_that_a_node_gives_itself_is_no_line_of_the_kernels(node_of, name):
    honest = node_of().judge()
    named = node_of(lambda: prctl(15, ctypes.addressof(ctypes.create_string_buffer(name))))
    found = named.judge()
    assert (found.level, found.missing) == (honest.level, honest.missing)
    assert found.layers["uid"] == honest.layers["uid"]
    assert resident_bytes(named.pid) > 1 << 20
    assert int(_start_time(named.pid)) > 1


def test_a_node_that_only_claims_a_filter_is_not_believed(node_of):
    node = node_of(_refuse(seccomp, "install_filter", 22))
    node.steps["seccomp"] = "allow-list"
    found = node.judge()
    assert found.level == "process"
    assert found.layers["seccomp"] != "allow-list"


def test_a_filter_that_every_process_has_is_not_taken_for_the_nodes(node_of, monkeypatch):
    node = node_of()
    real = isolation._fields

    def as_in_a_container(path):
        fields = real(path)
        if "self" in str(path):
            fields["Seccomp_filters"] = "99"
        return fields

    monkeypatch.setattr(isolation, "_fields", as_in_a_container)
    found = node.judge()
    assert found.level == "process"
    assert found.layers["seccomp"] == "inherited"


@pytest.mark.skipif(not IS_ROOT, reason="only root has ids to drop: this variant was NOT tested")
def test_a_node_that_stayed_root_is_not_strict(node_of):
    node = node_of(_refuse(privileges, "drop_ids", 22), user="root")
    found = node.judge()
    assert found.level == "seccomp"
    assert found.layers["uid"] == 0
    assert found.missing == ("an unprivileged user id (EINVAL)",)


def test_capabilities_that_stayed_lower_the_level(node_of):
    def keep_them():
        _refuse(privileges, "drop_capabilities", 1)()
        _refuse(privileges, "drop_ids", 22)()

    if not IS_ROOT:
        pytest.skip("an unprivileged process has none to keep: this variant was NOT tested")
    found = node_of(keep_them, user="root").judge()
    assert found.level == "process"
    assert any(gap.startswith("capability drop") for gap in found.missing)


def test_a_leaked_descriptor_lowers_the_level(node_of):
    node = node_of(lambda: setattr(limits, "close_descriptors", len))
    assert node.probes["third_descriptor"] == "allowed"
    assert "probe third_descriptor (allowed)" in node.judge().missing
    assert node.judge().level == "process"


def test_a_missing_limit_lowers_the_level(node_of):
    node = node_of(lambda: setattr(limits, "set_rlimits", lambda **_: {}))
    found = node.judge()
    assert found.level == "process"
    assert "rlimit data_bytes" in found.missing
    assert "rlimit file_bytes = 0" in found.missing


def test_a_second_thread_lowers_the_level(node_of):
    node = node_of(lambda: threading.Thread(target=threading.Event().wait, daemon=True).start())
    assert "one thread (has 2)" in node.judge().missing


@pytest.mark.parametrize("name", sorted(EXPECTED_PROBES))
def test_one_unexpected_probe_lowers_the_level(node_of, name):
    node = node_of()
    for got in ("allowed", "EFAULT", None):
        probes = {**node.probes, name: got}
        if got is None:
            del probes[name]
        found = judge(node.pid, node.steps, probes, "auto")
        assert found.level == "process"
        assert found.missing[0] == f"probe {name} ({got})"


def test_landlock_that_changed_nothing_does_not_count(node_of, needs_landlock):
    node = node_of(lambda: setattr(landlock, "enter_domain", lambda abi: True))
    assert node.steps["landlock_after"] == "allowed"
    assert node.judge().level == "seccomp"


def test_namespaces_that_are_refused_are_reported_and_cost_no_level(node_of, needs_landlock):
    def refuse():
        namespaces._attempt = lambda flag: "EPERM"

    node = node_of(refuse)
    found = node.judge("strict")
    assert node.steps["network_namespace"] == "EPERM"
    assert found.layers["network_namespace"] is False


def test_a_process_that_is_gone_has_no_level(node_of):
    node = node_of()
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    assert judge(gone, node.steps, node.probes, "auto").level == "none"
    with pytest.raises(IsolationUnavailable):
        judge(gone, node.steps, node.probes, "process")


def test_a_process_that_has_ended_but_was_not_waited_for_has_no_level(node_of):
    node = node_of()
    os.kill(node.pid, signal.SIGKILL)
    assert until(lambda: node.judge().level == "none")
    assert node.judge().missing == ("kernel state (the process has ended)",)


def test_a_hidden_process_has_no_more_than_a_process_of_its_own(node_of, monkeypatch):
    node = node_of()
    monkeypatch.setattr(isolation, "_fields", lambda path: None)
    found = node.judge()
    assert found.level == "process"
    assert found.missing == (f"kernel state (/proc/{node.pid}/status cannot be read)",)


@pytest.mark.skipif(not IS_ROOT, reason="only root sees a node's namespaces: NOT tested")
@pytest.mark.parametrize("layer", ["network_namespace", "user_namespace", "chroot"])
def test_a_node_that_only_claims_a_namespace_is_not_believed(node_of, layer):
    def stay():
        namespaces._attempt = lambda flag: "EPERM"
        namespaces.enter_empty_root = lambda: True

    node = node_of(stay)
    node.steps[layer] = True
    assert node.judge().layers[layer] is False


def test_every_probe_gets_something_else_without_confinement():
    def probe():
        got = run_probes()
        same = {name for name, expected in EXPECTED_PROBES.items() if got[name] in expected}
        if same - {"io_uring", "unshare", "bpf"}:  # which a kernel or a container may lack
            raise AssertionError(same)

    user = "root" if IS_ROOT else "unprivileged"
    assert outcome_of(probe, user=user, confinement=BARE) == SUCCEEDED


def test_the_judge_imports_nothing_from_the_node():
    source = Path(isolation.__file__).read_text(encoding="utf-8")
    assert "flow_nexus_neural.node" not in source


@pytest.mark.parametrize(
    ("platform", "steps", "probes", "level"),
    [
        (
            "darwin",
            {"seatbelt": True},
            dict.fromkeys(("open", "bind", "fork"), "EPERM"),
            "seatbelt",
        ),
        (
            "darwin",
            {"seatbelt": True},
            {"open": "EPERM", "bind": "EPERM", "fork": "allowed"},
            "process",
        ),
        ("darwin", {"seatbelt": True}, {}, "process"),
        (
            "darwin",
            {"seatbelt": "EPERM"},
            dict.fromkeys(("open", "bind", "fork"), "EPERM"),
            "process",
        ),
        ("win32", {"job_object": True}, {}, "job"),
        ("win32", {"job_object": "ENOSYS"}, {}, "process"),
        ("freebsd14", {}, {}, "process"),
    ],
)
def test_other_platforms_get_no_more_than_they_prove(monkeypatch, platform, steps, probes, level):
    monkeypatch.setattr(isolation.sys, "platform", platform)
    found = judge(1, steps, probes, "auto")
    assert found.level == level
    with pytest.raises(IsolationUnavailable):
        judge(1, steps, probes, "seccomp")


def test_platforms_have_names(monkeypatch):
    for platform, name in (("linux", "linux"), ("darwin", "macos"), ("win32", "windows")):
        monkeypatch.setattr(isolation.sys, "platform", platform)
        assert platform_name() == name
