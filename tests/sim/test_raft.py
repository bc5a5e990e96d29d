"""Raft voters under everything that may go wrong, and mutants of them that must not survive it.

A thousand seeds: `python -m tests.sim.raft_seeds`.
"""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from flow_nexus_neural.coordination.consensus.raft import election, following, leading
from flow_nexus_neural.coordination.consensus.raft.log import RaftLog
from flow_nexus_neural.protocol.raft_records import Message
from tests.doubles.raft_cluster import Odds, RaftCluster, Violation
from tests.sim.raft_seeds import run_seed

SEEDS = range(60)
FEW = 20
"""Seeds within which a mutant has to be found."""


def test_what_raft_promises_holds_whatever_goes_wrong():
    courses = [run_seed(seed) for seed in SEEDS]
    assert sum(course.acknowledged for course in courses) > 20 * len(courses)
    assert sum(course.terms for course in courses) > 3 * len(courses)
    assert sum(course.configurations for course in courses) > len(courses)
    assert sum(course.snapshots for course in courses) > len(courses)


def test_a_seed_decides_everything():
    assert run_seed(7) == run_seed(7)
    assert run_seed(7) != run_seed(9)


class WithoutLog(RaftCluster):
    """Its disks forget the log."""

    def save(self, name, output):
        self.disks[name] = self.disks[name].after(output.hard, None, None)


def _every_entry(_log, _index, _term):
    return True


def _any_log(_state, _message):
    return True


def _one_is_enough(state):
    return max([peer.match for peer in state.peers.values()] + [state.log.last_index])


def _all_replaced(log, entries):
    if entries:
        log.truncate_after(max(entries[0].index - 1, log.snapshot.index))
    for entry in entries:
        if entry.index > log.last_index:
            log.append(entry)


def _without_weights(_state, last, _committed):
    return last


MUTANTS = {
    "vote without a look at the log": (RaftCluster, election, "is_up_to_date", _any_log),
    "log not persisted": (WithoutLog, None, "", None),
    "commit by a minority": (RaftCluster, leading, "acknowledged_by_majority", _one_is_enough),
    "no look at the entry before": (RaftCluster, RaftLog, "matches", _every_entry),
    "truncate on a stale duplicate": (RaftCluster, RaftLog, "merge", _all_replaced),
    "acknowledge without the weights": (
        RaftCluster,
        following,
        "acknowledgeable",
        _without_weights,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found_within_a_few_seeds(name, monkeypatch):
    kind, place, attribute, broken = MUTANTS[name]
    if place is not None:
        monkeypatch.setattr(place, attribute, broken)
    assert any(is_found(seed, kind) for seed in range(FEW))


def is_found(seed, kind):
    """Whether a seed finds something that does not hold; a disk refuses a log with a gap by itself."""
    try:
        run_seed(seed, kind, ticks=800)
    except (Violation, ValueError):
        return True
    return False


def test_what_is_no_mutant_is_not_found():
    assert not any(is_found(seed, RaftCluster) for seed in range(FEW))


CALM = Odds(drop=0.0, repeat=0.0, longest_delay=1, crash=0.0)


def settled(kind=RaftCluster):
    """Three voters with a leader that has committed a record."""
    cluster = kind(1, 3, spare=0, odds=CALM)
    while not cluster.committed:
        cluster.tick()
    return cluster


@contextmanager
def voting_twice(cluster):
    """`c` is asked for its vote by `a`, crashes, and is asked again by `b` in the same term."""
    c = cluster.alive["c"]
    term = c.term + 10

    def ask(name):
        index = cluster.disks["c"].last_index
        message = Message("vote", name, "c", term, index=index, log_term=term, forced=True)
        cluster.alive["c"].receive(message)
        cluster.finish("c")

    ask("a")
    cluster.crash("c")
    cluster.start("c")
    ask("b")
    replies = [m for *_, m in cluster.network if m.kind == "vote_reply" and m.term == term]
    yield [reply.to for reply in replies if reply.granted]


class SendsFirst(RaftCluster):
    """Messages leave before the records that they rest on are durable, and then it crashes."""

    def save(self, name, output):
        if name != "c":
            super().save(name, output)


class WithoutVote(RaftCluster):
    """Its disks forget for whom a voter voted."""

    def save(self, name, output):
        hard = output.hard and replace(output.hard, vote=None)
        self.disks[name] = self.disks[name].after(hard, output.snapshot, output.log)


@pytest.mark.parametrize(
    ("kind", "voted"),
    [(RaftCluster, ["a"]), (WithoutVote, ["a", "b"]), (SendsFirst, ["a", "b"])],
)
def test_who_votes_before_its_vote_is_durable_votes_twice(kind, voted):
    with voting_twice(settled(kind)) as granted:
        assert granted == voted


def test_a_leader_in_a_minority_commits_nothing_and_steps_down():
    cluster = settled()
    (leader,) = cluster.leading()
    others = [name for name in cluster.names if name != leader]
    cluster.cut([leader], others)
    alone = cluster.propose("lost", leader, needs=())
    for _ in range(40):
        cluster.tick()
    assert alone.acknowledged is None
    assert cluster.alive[leader].role != "leader"
    (successor,) = cluster.leading()
    assert successor in others
    kept = cluster.propose("kept", successor, needs=())
    for _ in range(10):
        cluster.tick()
    cluster.settle()
    assert kept.acknowledged is not None
    assert "lost" not in {entry.body for entry in cluster.committed.values()}
