"""An answer knows its own quorum and who gave it."""

from dataclasses import replace

from flow_nexus_neural.engine.prediction.answer import Answer, digest_of
from tests.unit.engine.building import slot
from tests.unit.engine.prediction.test_role_use import answer


def test_slots_that_answered_come_in_slot_order():
    made = answer()
    assert isinstance(made, Answer)
    reversed_order = dict(reversed(made.logits.items()))
    assert [one.name for one in replace(made, logits=reversed_order).answered] == [
        "worker-0",
        "worker-1",
    ]


def test_a_bundle_that_trusts_its_nodes_needs_no_quorum():
    assert answer().quorum is None


def test_a_slot_has_the_digest_of_its_group_and_a_stranger_none():
    assert digest_of(answer(), slot("worker-1")) == "d0"
    assert digest_of(answer(), slot("worker-9")) is None
