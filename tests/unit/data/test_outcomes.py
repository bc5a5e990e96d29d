"""Outcomes in records: which field, and which class or value."""

import pytest

from flow_nexus_neural.data.adapter import adapt
from flow_nexus_neural.data.outcomes import outcome_of, outcome_rank, read_outcome
from tests.unit.engine.building import schema


@pytest.mark.parametrize(
    ("classes", "value", "index"),
    [
        ([0, 1], 1, 1.0),
        ([0, 1], "1", 1.0),
        ([0, 1], 1.0, 1.0),
        ([0, 1], -1, 0.0),
        ([0, 1], True, 1.0),
        ([0, 1], "down", 0.0),
        ([-1, 1], 0, 0.0),
        ([-1, 1], -1, 0.0),
        (["no", "yes"], 1, 1.0),
        (["down", "up"], -1, 0.0),
        ([0, 1], 2, None),
        ([0, 1], 0.5, None),
        ([0, 1], "sideways", None),
        ([0, 1], [1], None),
        (["cat", "dog"], "dog", 1.0),
        (["cat", "dog"], 1, None),
        ([1, 2], 1, 0.0),
        ([1, 2], 0, None),
        ([1, 0], 1, 0.0),
    ],
)
def test_an_outcome_is_a_class_of_the_model_or_a_direction_where_its_classes_are(
    classes, value, index
):
    found = outcome_of(schema(classes=classes), "outcome", value)
    assert found.value == index
    assert (found.why is None) == (index is not None)


def test_of_several_classes_only_a_label_counts():
    many = schema("multiclass")
    assert outcome_of(many, "outcome", "b").value == 1.0
    assert outcome_of(many, "outcome", 1).value is None
    assert "none of the model's classes (a, b, c)" in outcome_of(many, "outcome", "d").why


def test_a_value_is_standardised_and_a_direction_is_none():
    of = schema("regression")
    assert outcome_of(of, "expectedOutcome", 14).value == 2.0
    assert outcome_of(of, "expectedOutcome", "8").value == -1.0
    for name, value in (("trend", 1), ("outcome", "high"), ("outcome", True), ("outcome", "nan")):
        assert outcome_of(of, name, value).value is None


def test_the_name_that_says_most_wins_and_null_says_nothing():
    of = schema(target_name="rises")
    given = {"trend": 1, "Outcome": 1, "next_close": 0, "expectedOutcome": None, "volume": 3}
    assert read_outcome(of, given).name == "Outcome"
    assert read_outcome(of, {**given, "rises": 1}).name == "rises"
    assert read_outcome(of, {**given, "expectedOutcome": 1}).name == "expectedOutcome"
    assert read_outcome(of, {"trend": None, "next_close": 1, "price": 2}) is None
    assert outcome_rank(of, "next_close") is None


def test_records_keep_their_outcomes_apart_from_their_input():
    of = schema()
    records = [{"f0": 1, "trend": 1}, {"f0": 1}, {"f0": 2, "y": 0, "trend": 1, "other": 5}]
    made = adapt(of, records)
    assert made.outcomes == {0: {"trend": 1}, 2: {"y": 0, "trend": 1}}
    assert (made.x == adapt(of, [{"f0": 1}, {"f0": 1}, {"f0": 2}]).x).all()
    assert adapt(of, [1.0, 2.0]).outcomes == {}


def test_a_feature_of_the_model_is_no_outcome():
    columns = tuple(
        c.model_copy(update={"name": n})
        for c, n in zip(schema().columns, ("trend", "f1"), strict=True)
    )
    made = adapt(schema(columns=columns), {"trend": 1, "f1": 2, "outcome": 1})
    assert made.outcomes == {0: {"outcome": 1}}
    assert "trend" in made.mapped


def test_of_a_window_the_last_row_has_the_outcome():
    of = schema(input={"vector_length": 0, "n_scalars": 2, "window": 3})
    window = [{"f0": 1, "y": 0}, {"f0": 2, "y": 0}, {"f0": 3, "y": 1}]
    assert adapt(of, {"window": window}).outcomes == {0: {"y": 1}}
    assert adapt(of, {"window": window[:2], "outcome": 1}).outcomes[0]["outcome"] == 1


@pytest.mark.parametrize("given", [{"label": 1, "trend": -1}, {"rises": 0, "outcome": 1}])
def test_records_that_say_two_things_say_none(given):
    found = read_outcome(schema(target_name="rises"), given)
    assert (found.value, found.why.endswith("say different things")) == (None, True)


def test_where_the_target_has_a_name_only_it_and_plain_words_for_outcomes_count():
    of = schema(target_name="rises")
    for name in ("y", "class", "target", "direction"):
        assert read_outcome(of, {name: 1}) is None
        assert read_outcome(schema(target_name=None), {name: 1}).value == 1.0
        assert read_outcome(schema(target_name=name), {name: 1}).value == 1.0
    for name in ("expectedOutcome", "outcome", "label", "trend", "rises"):
        assert read_outcome(of, {name: 1}).value == 1.0


@pytest.mark.parametrize("huge", [10**400, -(10**400)])
def test_an_integer_that_no_float_holds_is_refused(huge):
    for task in ("binary", "multiclass", "regression"):
        found = outcome_of(schema(task), "label", huge)
        assert (found.value, bool(found.why)) == (None, True)


def test_a_value_is_refused_where_its_square_would_not_be_finite():
    narrow = schema("regression", target_sd=1e-5)
    for value in (1e308, -1e308, 1e300, 1e6):
        found = outcome_of(narrow, "outcome", value)
        assert found.value is None
        assert "standard deviations" in found.why
    assert outcome_of(narrow, "outcome", 11).value == pytest.approx(1e5)
