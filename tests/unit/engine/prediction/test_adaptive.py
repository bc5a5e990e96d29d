"""Sets and intervals of rows in time order follow what became of the answers before."""

from fractions import Fraction

import numpy as np
import pytest

from flow_nexus_neural.engine.prediction.adaptive import levels_after
from flow_nexus_neural.engine.state.feedback import RecordedOutcome
from flow_nexus_neural.kernels.conformal import LEVEL, AdaptiveLevel, ConformalScores
from tests.unit.engine.building import bundle, schema

MODES = ("mean", "majority", "weighted", "ensemble")
WEIGHTS = {"worker-0": 0.5, "worker-1": 0.5}
NINE = ConformalScores(9, (9,), (2.0,))
"""Values within 2.0 of the target hold it; targets have mean 10 and sd 2."""


def outcome(value, logits, symbol=None):
    return RecordedOutcome(
        prediction_id="prd_1",
        row=0,
        version=3,
        schema_digest="s",
        symbol=symbol,
        outcome=value,
        logits={f"worker-{k}": (own,) for k, own in enumerate(logits)},
        x=np.zeros(2, "f4"),
        at="now",
    )


def moved(task, scores, *outcomes, levels=None, ordered=True, of=None):
    made = of or bundle(WEIGHTS, conformal=dict.fromkeys(MODES, scores))
    levels = levels or {}
    for one in outcomes:
        levels = levels_after(made, schema(task, time_ordered=ordered), levels, one)
    return levels


def test_a_value_outside_its_interval_widens_the_next_and_one_inside_narrows_it():
    hit, miss = outcome(0.0, (0.5, 0.5)), outcome(0.0, (2.5, 2.5))  # 1 and 5 from the target
    assert {level.level for level in moved("regression", NINE, hit).values()} == {
        1 - Fraction(201, 2000)
    }
    after = moved("regression", NINE, miss, hit)
    assert set(after) == set(MODES)
    assert {level.level for level in after.values()} == {1 - Fraction(192, 2000)}
    assert {(level.answers, level.covered) for level in after.values()} == {(2, 1)}


def test_a_class_outside_its_set_counts_as_missed():
    least = ConformalScores(9, (9,), (-0.3,))
    sure = (2.0, 2.0)  # P(class 1) is .88, so the set holds class 1 alone
    assert moved("binary", least, outcome(1.0, sure))["mean"].covered == 1
    assert moved("binary", least, outcome(0.0, sure))["mean"].covered == 0
    unsure = (0.2, 0.2)
    assert moved("binary", least, outcome(0.0, unsure))["mean"].covered == 1


def test_a_level_that_so_few_rows_cannot_reach_is_met_by_everything():
    # Nine rows reach .9 and nothing above: whatever comes is held, and the level sinks again.
    above = dict.fromkeys(MODES, AdaptiveLevel(steps=190))
    far = outcome(0.0, (9.0, 9.0))
    assert moved("regression", NINE, far, levels=above)["mean"].covered == 1
    nothing = dict.fromkeys(MODES, AdaptiveLevel(steps=-3))
    assert moved("regression", NINE, far, levels=nothing)["mean"].steps == -2


@pytest.mark.parametrize(
    "more",
    [{"ordered": False}, {"of": bundle(WEIGHTS)}, {"of": bundle({**WEIGHTS, "worker-2": 0.1})}],
)
def test_what_was_given_no_set_or_has_no_order_moves_nothing(more):
    if "of" in more and len(more["of"].slot_weights) == 3:
        more = {"of": bundle(more["of"].slot_weights, conformal={"mean": NINE})}
    assert moved("regression", NINE, outcome(0.0, (2.5, 2.5)), **more) == {}


def test_the_weight_of_experts_counts_as_in_the_answer():
    of = bundle(WEIGHTS, conformal={"weighted": NINE}, experts={"worker-0": ("BTC",)})
    symbols = schema("regression", time_ordered=True, symbols=("BTC",))
    split = (
        0.0,
        2.4,
    )  # 0 and 4.8 from the target: 2.4 on the mean, 1.6 where worker-0 counts twice
    known = levels_after(of, symbols, {}, outcome(0.0, split, "BTC"))
    unknown = levels_after(of, symbols, {}, outcome(0.0, split))
    assert (known["weighted"].covered, unknown["weighted"].covered) == (1, 0)


def test_no_outcome_is_the_level_that_was_promised():
    assert AdaptiveLevel().level == LEVEL
