from typing import get_args

import pytest

from flow_nexus_neural.coordination.guarantees import guarantees
from flow_nexus_neural.engine.reports import Guarantees
from flow_nexus_neural.vocabulary import Consensus


@pytest.mark.parametrize("mode", get_args(Consensus))
@pytest.mark.parametrize("n", [0, 3, 11])
def test_no_mode_promises_what_the_plain_average_cannot_keep(mode, n):
    stated = guarantees(mode, n)
    assert stated.holds is False
    assert stated.f_tolerated == 0
    assert (stated.mode, stated.n) == (mode, n)
    assert "row-weighted average" in stated.notes[0]
    assert mode in stated.notes[0]


def test_another_rule_is_named_and_not_told_what_the_average_lacks():
    stated = guarantees("byzantine", 3, rule="coordinatewise")
    assert stated.notes[0].startswith("rule in force: coordinatewise; byzantine admission")
    assert "spoil" not in stated.notes[1]
    assert (stated.holds, stated.f_tolerated) == (False, 0)
    assert "one lying worker can still spoil" in guarantees("byzantine", 3).notes[1]


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
