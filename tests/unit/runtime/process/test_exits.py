"""The end of a node, in words that are true."""

import pytest

from flow_nexus_neural.runtime.process.exits import ExitReport, describe_exit, with_last_words
from flow_nexus_neural.runtime.process.kernel_memory import (
    OutOfMemoryKills,
    proportional_bytes,
    resident_bytes,
)


def report(returncode):
    return ExitReport(returncode=returncode, max_rss_bytes=1000, cpu_s=1.5)


@pytest.mark.parametrize(
    ("returncode", "reason", "signal"),
    [
        (0, "stopped", None),
        (70, "node_bug", None),
        (71, "confinement_failed", None),
        (9, "orphaned", None),
        (3, "node_bug", None),
        (-9, "killed", "SIGKILL"),
        (-15, "killed", "SIGTERM"),
        (-11, "crashed", "SIGSEGV"),
        (-7, "crashed", "SIGBUS"),
        (-6, "crashed", "SIGABRT"),
        (-24, "cpu_limit", "SIGXCPU"),
        (-31, "sandbox_violation", "SIGSYS"),
        (-40, "crashed", None),
    ],
)
def test_a_status_becomes_a_reason(returncode, reason, signal):
    exit_ = describe_exit(report(returncode), "last", None)
    assert exit_.reason == reason
    assert exit_.signal == signal or signal is None
    assert (exit_.returncode, exit_.stderr_tail) == (returncode, "last")
    assert (exit_.max_rss_bytes, exit_.cpu_s) == (1000, 1.5)
    assert exit_.sentence


@pytest.mark.parametrize(
    ("tail", "told"),
    [
        ("", "gone"),
        ("  \n", "gone"),
        ("one\ntwo\n", "gone (last words: 'two')"),
        ("x\x1b[2J\u202eevil", "gone (last words: 'x\ufffd[2J\ufffdevil')"),
        ('it\'s (all) "well"', "gone (last words: 'it\\'s (all) \"well\"')"),
    ],
)
def test_last_words_stay_words(tail, told):
    assert with_last_words("gone", tail) == told


def test_last_words_are_cut():
    assert len(with_last_words("gone", "y" * 4096)) < 300


def test_a_kill_of_ours_tells_why():
    exit_ = describe_exit(report(-9), "", "protocol_violation: it sent noise")
    assert exit_.reason == "protocol_violation"
    assert exit_.sentence == "killed by SIGKILL: it sent noise"


@pytest.mark.parametrize("returncode", [0, 70, -11])
def test_a_node_that_ended_before_our_kill_came_keeps_its_own_reason(returncode):
    ours = describe_exit(report(returncode), "", "killed: killed by the engine")
    assert ours == describe_exit(report(returncode), "", None)


def test_a_node_that_nobody_could_wait_for_has_no_numbers():
    exit_ = describe_exit(None, "", None)
    assert exit_.reason == "runtime_lost"
    assert (exit_.returncode, exit_.signal, exit_.max_rss_bytes, exit_.cpu_s) == (None,) * 4


def test_a_kill_for_memory_is_told_once_and_only_for_a_kill_that_is_not_ours(tmp_path):
    events = tmp_path / "memory.events"
    events.write_text("max 7\noom 3\noom_kill 2\n")
    kills = OutOfMemoryKills([tmp_path / "missing", events])
    assert describe_exit(report(-9), "", None, kills.claim).reason == "killed"
    events.write_text("max 7\noom 4\noom_kill 3\n")
    assert describe_exit(report(-9), "", "killed: by us", kills.claim).reason == "killed"
    assert describe_exit(report(-11), "", None, kills.claim).reason == "crashed"
    assert describe_exit(report(-9), "", None, kills.claim).reason == "out_of_memory"
    assert describe_exit(report(-9), "", None, kills.claim).reason == "killed"


def test_memory_of_a_process_that_is_gone_is_unknown():
    assert resident_bytes(2**22 + 1) is None
    assert proportional_bytes(2**22 + 1) is None
