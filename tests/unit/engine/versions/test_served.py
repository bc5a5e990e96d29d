"""A version answers with its slots' outputs combined once, calibrated where it has a calibrator."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.engine.versions.served import (
    experts_of,
    routed,
    serve,
    serve_groups,
    target_scale,
)
from flow_nexus_neural.kernels.calibration import Calibrator
from tests.unit.engine.building import bundle, schema, slot

SLOTS = {"worker-0": "c0", "worker-1": "c1"}
LOGITS = np.array([[[0.4], [-1.0]], [[2.0], [0.5]]])  # [2 slots, 2 rows, 1 output]
SOFTER = Calibrator("platt", 0.5, 0.1)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "f8")))


def test_the_mean_of_chances_is_served_as_it_is_without_a_calibrator():
    found = serve(bundle({}), schema(), "mean", LOGITS, [1.0, 1.0])
    assert not found.calibrated
    assert found.final is found.raw
    expected = sigmoid(LOGITS[:, :, 0]).mean(axis=0)
    np.testing.assert_allclose(found.final.probabilities[:, 1], expected)


def test_a_calibrator_changes_the_answer_and_leaves_the_raw_one_beside_it():
    made = bundle({}, calibrators={"mean": SOFTER})
    found = serve(made, schema(), "mean", LOGITS, [1.0, 1.0])
    raw = sigmoid(LOGITS[:, :, 0]).mean(axis=0)
    np.testing.assert_allclose(found.raw.probabilities[:, 1], raw)
    expected = sigmoid(0.5 * np.log(raw / (1 - raw)) + 0.1)
    np.testing.assert_allclose(found.final.probabilities[:, 1], expected)
    assert found.calibrated


def test_a_calibrator_of_another_way_to_combine_has_no_effect():
    made = bundle({}, calibrators={"weighted": SOFTER})
    assert not serve(made, schema(), "mean", LOGITS, [1.0, 1.0]).calibrated
    assert serve(made, schema(), "weighted", LOGITS, [1.0, 1.0]).calibrated


def test_values_come_back_in_the_units_of_the_target_and_are_never_calibrated():
    made = bundle({}, calibrators={"mean": SOFTER})
    found = serve(made, schema("regression"), "mean", LOGITS, [1.0, 1.0])
    assert not found.calibrated
    np.testing.assert_allclose(found.final.values, 10.0 + 2.0 * LOGITS[:, :, 0].mean(axis=0))


def test_groups_are_weighted_by_the_weights_of_their_slots():
    made = bundle({"worker-0": 0.25, "worker-1": 0.75})
    by_key = {"c0": LOGITS[0].astype("f4"), "c1": LOGITS[1].astype("f4")}
    found = serve_groups(made, schema("regression"), "weighted", by_key, SLOTS)
    expected = 10.0 + 2.0 * (0.25 * LOGITS[0, :, 0] + 0.75 * LOGITS[1, :, 0])
    np.testing.assert_allclose(found.final.values, expected, rtol=1e-6)


@pytest.mark.parametrize("aggregation", ["mean", "weighted", "ensemble", "majority"])
def test_slots_of_one_group_answer_as_any_one_of_them(aggregation):
    made = bundle({"worker-0": 0.25, "worker-1": 0.75})
    one = LOGITS[0].astype("f4")
    alone = serve_groups(made, schema(), aggregation, {"c0": one}, dict.fromkeys(SLOTS, "c0"))
    both = serve(made, schema(), aggregation, np.stack([one, one]), [0.25, 0.75])
    np.testing.assert_allclose(alone.final.probabilities, both.final.probabilities, rtol=1e-12)


def test_only_a_regression_has_a_scale():
    assert target_scale(schema()) is None
    found = target_scale(schema("regression"))
    assert (found.mean, found.sd, found.tau) == (10.0, 2.0, 0.0)
    assert target_scale(schema("regression"), 0.7).tau == 0.7


EXPERTS = {"worker-0": ("BTC",), "worker-1": ("ETH", "SOL")}
THREE = {"worker-0": 0.5, "worker-1": 0.25, "worker-2": 0.25}


def test_a_slot_counts_twice_for_records_of_its_symbols():
    of = bundle(THREE, experts=EXPERTS)
    weights = routed(of, THREE, ["BTC", "SOL", None, "DOGE"])
    assert weights.tolist() == [
        [1.0, 0.5, 0.5, 0.5],
        [0.25, 0.5, 0.25, 0.25],
        [0.25, 0.25, 0.25, 0.25],
    ]


@pytest.mark.parametrize("symbols", [[], [None], ["DOGE", None]])
def test_where_no_slot_knows_a_record_weights_stay_as_they_are(symbols):
    assert routed(bundle(THREE, experts=EXPERTS), THREE, symbols).tolist() == [0.5, 0.25, 0.25]
    assert routed(bundle(THREE), THREE, ["BTC"]).tolist() == [0.5, 0.25, 0.25]


def test_symbols_of_rows_move_the_weighted_answer_and_leave_the_mean():
    of = bundle({"worker-0": 0.5, "worker-1": 0.5}, experts={"worker-0": ("BTC",)})
    logits = {"c0": np.array([[2.0], [2.0]], "f4"), "c1": np.array([[-1.0], [-1.0]], "f4")}
    groups = {"worker-0": "c0", "worker-1": "c1"}
    rows = np.array([0, -1], "i4")
    known = schema(symbols=("BTC",))
    weighted = serve_groups(of, known, "weighted", logits, groups, symbols=rows).final.values
    assert weighted.tolist() == pytest.approx([sigmoid((2 * 2 - 1) / 3), sigmoid(0.5)])
    mean = serve_groups(of, known, "mean", logits, groups, symbols=rows).final
    assert mean.values[0] == mean.values[1]
    assert mean.consensus.tolist() == pytest.approx([2 / 3, 0.5])


def test_the_capabilities_of_slots_say_which_symbols_they_know():
    slots = [slot(f"worker-{k}") for k in range(3)]
    tags = [("btc_analysis", "training"), ("eth_analysis", "sol_analysis"), ("training",)]
    for one, own in zip(slots, tags, strict=True):
        one.spec = replace(one.spec, capabilities=own)
    found = experts_of(slots, ("BTCUSDT", "ETH", "SOL-USD"))
    assert found == {"worker-0": ("BTCUSDT",), "worker-1": ("ETH", "SOL-USD")}
    assert experts_of(slots, ()) == {}
