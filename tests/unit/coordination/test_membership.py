import itertools
from typing import get_args

import pytest

from flow_nexus_neural.coordination.membership import (
    FAILED,
    TRANSITIONS,
    Counts,
    SlotState,
    advance,
    after_restart,
    count,
    slot_order,
)
from flow_nexus_neural.errors import InvalidState

STATES = get_args(SlotState)


def test_a_slot_is_born_and_serves():
    state: SlotState = "declared"
    for successor in ("starting", "syncing", "healthy"):
        state = advance("worker-0", state, successor)
    assert state == "healthy"


def test_a_dead_slot_comes_back_only_by_way_of_syncing():
    path = ["healthy", "failed", "recovering", "syncing", "healthy"]
    for state, successor in itertools.pairwise(path):
        assert advance("worker-0", state, successor) == successor
    for shortcut in ("failed", "recovering", "starting", "declared"):
        with pytest.raises(InvalidState):
            advance("worker-0", shortcut, "healthy")


def test_an_illegal_step_names_the_slot_both_states_and_the_way_out():
    with pytest.raises(InvalidState) as refusal:
        advance("worker-3", "quarantined", "healthy")
    assert refusal.value.message == "slot worker-3 cannot go from quarantined to healthy"
    assert "recovering, retired" in refusal.value.hint


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_its_row_and_only_known_successors(state):
    assert TRANSITIONS[state] <= set(STATES)
    assert state not in TRANSITIONS[state]


@pytest.mark.parametrize("state", [s for s in STATES if s != "retired"])
def test_every_state_can_be_retired_and_nothing_follows(state):
    assert advance("worker-0", state, "retired") == "retired"
    assert TRANSITIONS["retired"] == frozenset()


def test_quarantine_and_giving_up_are_left_only_by_a_replacement():
    for state in ("quarantined", "failed_permanently"):
        assert TRANSITIONS[state] == {"recovering", "retired"}


def test_counts_separate_healthy_failed_and_neither():
    states = ["healthy", "healthy", "suspect", "syncing", "failed", "recovering"]
    states += ["quarantined", "failed_permanently", "retired"]
    assert count(states) == Counts(total=8, active=2, failed=3, recovering=1)
    assert count([]) == Counts(0, 0, 0, 0)
    assert FAILED.isdisjoint({"healthy", "recovering"})


def test_after_a_restart_whatever_ran_has_to_come_back():
    kept = {state for state in STATES if after_restart(state) == state}
    assert kept == {"recovering", "quarantined", "failed_permanently", "retired"}
    assert after_restart("healthy") == "recovering"
    for state in STATES:
        came_back = after_restart(state)
        assert came_back not in {"healthy", "syncing", "starting"}


def test_slots_sort_by_role_then_by_number_not_by_letters():
    names = ["worker-10", "worker-2", "validator-0", "aggregator-1", "parameter_server-0"]
    assert sorted(names, key=slot_order) == [
        "parameter_server-0",
        "aggregator-1",
        "validator-0",
        "worker-2",
        "worker-10",
    ]


def test_names_of_another_form_sort_last_and_stably():
    assert sorted(["zebra", "engine", "worker-0"], key=slot_order) == [
        "worker-0",
        "engine",
        "zebra",
    ]
