from typing import get_args

import pytest

from flow_nexus_neural.coordination.guarantees import Electorate, Proving, Vote, guarantees
from flow_nexus_neural.engine.reports import Guarantees
from flow_nexus_neural.vocabulary import Consensus


@pytest.mark.parametrize("n", [0, 3, 11])
def test_byzantine_promises_nothing_that_the_plain_average_cannot_keep(n):
    stated = guarantees("byzantine", n)
    assert stated.holds is False
    assert stated.f_tolerated == 0
    assert (stated.mode, stated.n) == ("byzantine", n)
    assert "row-weighted average" in stated.notes[0]
    assert stated.reason


def test_another_rule_is_named_and_not_told_what_the_average_lacks():
    stated = guarantees("gossip", 7, vote=Vote("coordinatewise", updates=7, f=2))
    assert stated.notes[0] == "rule in force: coordinatewise, f = 2 of 7 updates"
    assert "spoil" not in stated.notes[1]
    assert (stated.holds, stated.f_tolerated) == (False, 0)
    assert "one lying worker can still spoil" in guarantees("byzantine", 3).notes[1]


@pytest.mark.parametrize(("updates", "f"), [(4, 1), (5, 1), (7, 2), (11, 3), (11, 2)])
def test_byzantine_holds_with_its_rule_and_less_than_a_third_of_liars(updates, f):
    stated = guarantees("byzantine", updates, vote=Vote("auto", updates, f))
    assert (stated.holds, stated.f_tolerated, stated.reason) == (True, f, None)
    assert stated.notes[0] == f"rule in force: auto, f = {f} of {updates} updates"
    assert any("fewer than 2f + 1 answers decide nothing" in note for note in stated.notes)


@pytest.mark.parametrize(
    ("vote", "missing"),
    [
        (Vote("auto", 1, 0), "1 updates cannot outvote 1 lying ones, 4 can"),
        (Vote("auto", 3, 1), "3 updates cannot outvote 1 lying ones, 4 can (n >= 3f+1)"),
        (Vote("caf", 6, 2), "6 updates cannot outvote 2 lying ones, 7 can"),
        (Vote("caf", 6, 0), "caf was asked to tolerate no lying worker"),
        (Vote("federated_averaging", 11, 0), "can move federated_averaging anywhere"),
    ],
)
def test_byzantine_says_what_is_missing_for_it(vote, missing):
    stated = guarantees("byzantine", 11, vote=vote)
    assert (stated.holds, stated.f_tolerated) == (False, 0)
    assert missing in stated.reason
    assert ("spoil" in stated.notes[1]) is (vote.f == 0)


@pytest.mark.parametrize(("n", "f"), [(1, 0), (2, 1), (3, 2), (4, 2), (6, 4), (11, 7)])
def test_proof_of_learning_tolerates_cheats_while_a_third_of_the_workers_is_admitted(n, f):
    stated = guarantees("proof-of-learning", n)
    assert (stated.holds, stated.f_tolerated, stated.reason) == (True, f, None)
    assert 3 * (n - f) >= n > 3 * (n - f - 1)
    assert "n/3" in stated.condition
    assert "row-weighted average" in stated.notes[0]


def test_proof_of_learning_says_who_repeats_what_is_found_and_what_is_not():
    stated = guarantees(
        "proof-of-learning", 3, "validator-0", proofs=Proving(("validator-0",), detection=0.125)
    )
    assert stated.trusted == ("engine", "validator-0")
    said = " ".join(stated.notes)
    assert "validator-0 executes k of the S segments" in said
    assert "reads the worker's shard" in said
    assert "with probability 0.12" in said
    assert "not that its rows are right" in said
    alone = guarantees("proof-of-learning", 3)
    assert alone.trusted == ("engine",)
    assert "a process of the engine's own" in " ".join(alone.notes)
    assert "k/S" in " ".join(alone.notes)


def test_proof_of_learning_does_not_hold_without_workers_or_for_a_model_without_proofs():
    nobody = guarantees("proof-of-learning", 0)
    assert (nobody.holds, nobody.f_tolerated) == (False, 0)
    old = guarantees("proof-of-learning", 3, proofs=Proving(unproved=True))
    assert (old.holds, old.f_tolerated) == (False, 0)
    assert "train again" in old.reason


@pytest.mark.parametrize(
    ("voters", "alive", "holds", "f"),
    [(1, 1, True, 0), (3, 3, True, 1), (3, 2, True, 1), (3, 1, False, 0), (5, 3, True, 2)],
)
def test_raft_counts_voters_that_may_crash_and_none_that_may_lie(voters, alive, holds, f):
    stated = guarantees("raft", 20, electorate=Electorate(voters, alive))
    assert (stated.n, stated.holds, stated.f_tolerated) == (voters, holds, f)
    assert stated.reason == (None if holds else f"{alive} of {voters} voters are alive")
    assert any("voters that lie: 0 are tolerated" in note for note in stated.notes)
    assert "rule in force: row-weighted average" in stated.notes


def test_raft_without_a_node_that_can_vote_holds_nothing():
    stated = guarantees("raft", 0)
    assert (stated.n, stated.holds, stated.f_tolerated) == (0, False, 0)
    assert stated.reason == "no node can vote yet"


@pytest.mark.parametrize("rule", ["gossip", "push_sum"])
def test_gossip_tolerates_crashes_and_no_liar(rule):
    stated = guarantees("gossip", 5, vote=Vote(rule, updates=5))
    assert (stated.holds, stated.f_tolerated, stated.reason) == (True, 0, None)
    assert "no node lies" in stated.condition
    assert "plain mean of the workers' states" in stated.notes[0]
    assert any("crashes are tolerated" in note for note in stated.notes)
    assert "one lying worker can still spoil" in stated.notes[1]


@pytest.mark.parametrize(
    ("vote", "missing"),
    [
        (Vote("gossip", 1), "takes two workers"),
        (Vote("gossip", 5, obstacle="nodes are blind"), "nodes are blind"),
        (Vote("federated_averaging", 5), "made by federated_averaging"),
    ],
)
def test_gossip_says_what_is_missing_for_it(vote, missing):
    stated = guarantees("gossip", 5, vote=vote)
    assert (stated.holds, stated.f_tolerated) == (False, 0)
    assert missing in stated.reason


def test_every_mode_names_its_own_condition():
    conditions = {guarantees(mode, 4).condition for mode in get_args(Consensus)}
    assert len(conditions) == 4
    assert "3f+1" in guarantees("byzantine", 4).condition


def test_only_a_replicated_log_speaks_of_durability():
    assert "durability: one disk" in guarantees("raft", 5).notes
    assert all("durability" not in note for note in guarantees("gossip", 5).notes)


def test_whoever_evaluates_is_named_among_those_who_are_believed():
    stated = guarantees("gossip", 2, "validator-0")
    assert stated.trusted == ("engine", "validator-0")
    assert any("validator-0" in note and "nobody checks" in note for note in stated.notes)
    assert guarantees("gossip", 0).trusted == ("engine",)


def test_no_adjective_replaces_a_number():
    for mode in get_args(Consensus):
        text = " ".join(guarantees(mode, 6).notes).lower()
        for word in ("private", "secure", "fault tolerant", "sub-100"):
            assert word not in text


def test_the_fields_are_those_of_the_report():
    stated = guarantees("byzantine", 6)
    assert set(stated.__dataclass_fields__) == set(Guarantees.model_fields)


def test_selection_by_validation_rows_says_what_passes_it():
    stated = guarantees("byzantine", 7, "validator-0", Vote("validated", 7, 2))
    assert (stated.holds, stated.f_tolerated) == (True, 2)
    assert stated.trusted == ("engine", "validator-0")
    (told,) = [note for note in stated.notes if note.startswith("validated: ")]
    assert "costs these rows no loss is averaged in" in told
    others = guarantees("byzantine", 7, "validator-0", Vote("auto", 7, 2)).notes
    assert not any(note.startswith("validated: ") for note in others)
