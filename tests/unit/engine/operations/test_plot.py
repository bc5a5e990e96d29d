from dataclasses import replace
from types import SimpleNamespace

from flow_nexus_neural.engine.operations.plot import seen_outcomes
from flow_nexus_neural.engine.state.feedback import GivenAnswer, RecordedOutcome

SCHEMA = SimpleNamespace(
    digest="s", task="regression", classes=None, target_sd=2.0, target_mean=10.0
)
ONE = RecordedOutcome(
    "prd", 0, 1, "s", None, 1.5, {}, None, "now", GivenAnswer(12.5, None, 11.0, 14.0)
)


def test_outcomes_are_told_in_the_unit_of_what_was_predicted():
    (seen,) = seen_outcomes(SCHEMA, [ONE])
    assert (seen.prediction, seen.low, seen.high, seen.outcome) == (12.5, 11.0, 14.0, 13.0)


def test_outcomes_of_other_data_or_without_what_was_predicted_are_left_out():
    others = [
        replace(ONE, schema_digest="t"),
        replace(ONE, answer=None),
        replace(ONE, answer=GivenAnswer(None)),
    ]
    assert list(seen_outcomes(SCHEMA, others)) == []
