"""The card of an exported model says of which weights its numbers are, and the same each time."""

from dataclasses import replace

import pytest

from flow_nexus_neural.artifacts.model_card import _measured, model_card
from flow_nexus_neural.engine.operations.export import exported_model
from tests.unit.engine.building import bundle, cluster_state, committed, live, network, plan, slot
from tests.unit.engine.building import state as weights_of


@pytest.mark.parametrize("refitted", [False, True])
def test_numbers_from_before_a_refit_are_not_said_to_be_of_the_refitted_weights(refitted):
    weights = weights_of(plan())
    group = network("c0", ["worker-0"], state=weights).with_state(weights)
    of = cluster_state()
    of.slots.add(slot("worker-0"))
    version = committed([group], bundle({"worker-0": 1.0}))
    if refitted:
        version = replace(version, evaluated={"c0": group.without_state()})
    model = exported_model(live(of), version)
    card = model_card(replace(model, stored={**model.stored, "evaluation": {"test_rows": 120}}))
    assert ("On 120 rows that no node trained on." in card) is not refitted
    assert ("of these weights nothing was measured" in card) is refitted


def test_baselines_stand_in_one_order_also_after_they_were_read_back():
    named = {"persistence": 0.5, "majority": 0.25}
    cards = [
        _measured({}, {"test_rows": 4, "baselines": dict(order)})
        for order in (named.items(), reversed(named.items()))
    ]
    assert cards[0] == cards[1]
    assert any("persistence" in line for line in cards[0])
