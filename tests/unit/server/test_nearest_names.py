"""The words that people use, and the argument or the choice that they mean here."""

import pytest

from flow_nexus_neural.server.argument_names import ALIASES, INERT, NOT_AVAILABLE, REFUSED
from flow_nexus_neural.server.nearest_names import (
    ARGUMENT_WORDS,
    VALUE_WORDS,
    nearest_argument,
    nearest_choice,
)
from flow_nexus_neural.server.tools import TOOL_SPECS

FIELDS = {name for spec in TOOL_SPECS for name in spec.request.model_fields}


def test_every_word_means_an_argument_that_exists():
    assert {meaning for words in ARGUMENT_WORDS.values() for meaning in words} <= FIELDS


def test_no_word_hides_what_is_told_about_a_name_otherwise():
    known = {*INERT, *NOT_AVAILABLE, *REFUSED} | {a for names in ALIASES.values() for a in names}
    assert set(ARGUMENT_WORDS) & {*INERT, *NOT_AVAILABLE, *REFUSED} == set()
    assert "lr" not in known


def test_every_value_word_means_a_choice_that_exists():
    choices = {
        choice
        for spec in TOOL_SPECS
        for schema in spec.input_schema()["properties"].values()
        for part in schema.get("anyOf", [schema])
        for choice in part.get("enum", ())
    }
    assert {meaning for words in VALUE_WORDS.values() for meaning in words} <= choices


@pytest.mark.parametrize(
    ("name", "fields", "meant"),
    [
        ("x", ["features", "target"], "features"),
        ("x", ["input_data"], "input_data"),
        ("timeout", ["wait_seconds"], "wait_seconds"),
        ("lr", ["cluster_id"], None),
        ("epocs", ["epochs"], "epochs"),
        ("class_weights", ["class_weight"], "class_weight"),
        ("scale_pos_weight", ["class_weight", "weights"], "class_weight"),
        ("pos_label", ["positive_class", "target"], "positive_class"),
        ("decision_threshold", ["threshold"], "threshold"),
        ("cutoff", ["threshold"], "threshold"),
    ],
)
def test_a_word_means_what_the_tool_has(name, fields, meant):
    assert nearest_argument(name, fields, fields) == meant


def test_a_long_name_is_compared_by_its_beginning_only():
    assert nearest_argument("z" * 100_000, ["epochs"], ["epochs"]) is None
    assert nearest_choice("z" * 100_000, ["mesh"]) is None
