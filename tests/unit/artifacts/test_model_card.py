"""The card of a model says the same whenever it is written."""

from flow_nexus_neural.artifacts.model_card import _measured


def test_baselines_stand_in_one_order_also_after_they_were_read_back():
    named = {"persistence": 0.5, "majority": 0.25}
    cards = [
        _measured({}, {"test_rows": 4, "baselines": dict(order)})
        for order in (named.items(), reversed(named.items()))
    ]
    assert cards[0] == cards[1]
    assert any("persistence" in line for line in cards[0])
