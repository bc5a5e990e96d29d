"""A worker starts from its own state in place of the very state that was common, and of no other."""

from dataclasses import replace

from flow_nexus_neural.engine.training.own_states import OwnStates
from tests.unit.engine.building import network, state


def test_own_states_stand_for_one_common_state_until_a_round_is_made():
    common, own, book = state(network().plan), state(network().plan, seed=2), OwnStates()
    book.give_back(common, {"worker-0": own})
    assert book.of("worker-0", common) is own
    assert book.of("worker-1", common) is None
    assert book.of("worker-0", replace(common)) is None  # equal, and another round's
    assert book.of("worker-0", None) is None
    book.forget()
    assert book.of("worker-0", common) is None
