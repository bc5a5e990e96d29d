"""What makes slots interchangeable, and layers in one order whoever wrote them."""

from flow_nexus_neural.engine.state.slot_spec import SlotSpec, in_one_order, kind_of
from tests.unit.engine.building import slot


def test_tags_that_mean_the_same_make_the_same_kind_of_slot():
    one = kind_of("worker", "base", ["BTC_analysis", "training"])
    assert one == kind_of("worker", "base", ["training", "btc_analysis"])
    others = [
        kind_of("validator", "base", ["training", "btc_analysis"]),
        kind_of("worker", "large", ["training", "btc_analysis"]),
        kind_of("worker", "base", ["training"]),
    ]
    assert one not in others
    assert slot("worker-0").spec.kind == kind_of("worker", "base", ["training"])


def test_layers_have_one_order_of_keys_whoever_wrote_them():
    written = ({"units": 1, "type": "dense"},)
    (layer,) = in_one_order(written)
    assert list(layer) == ["type", "units"]
    declared = SlotSpec("worker", "worker", "base", (), 0.8, "", written, "given")
    assert list(declared.layers[0]) == ["type", "units"]
