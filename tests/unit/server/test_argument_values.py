import math

import pytest

from flow_nexus_neural.engine.requests import (
    DeployRequest,
    InitRequest,
    PredictRequest,
    TrainRequest,
)
from flow_nexus_neural.server.argument_names import camel_case, snake_case
from flow_nexus_neural.server.argument_values import Expected, read_value


def expected(request: type, field: str) -> Expected:
    return Expected.of(request.model_fields[field])


@pytest.mark.parametrize(
    ("request_type", "field", "kinds", "words"),
    [
        (InitRequest, "topology", {"string"}, "one of mesh, ring, star, hierarchical"),
        (InitRequest, "reuse", {"boolean"}, "true or false"),
        (TrainRequest, "epochs", {"number"}, "a number from 1 to 1000"),
        (TrainRequest, "rounds", {"number"}, "a number from 1 to 1000"),
        (TrainRequest, "seed", {"number"}, "a number from 0"),
        (DeployRequest, "autonomy", {"number"}, "a number from 0 to 1"),
        (DeployRequest, "layers", {"array", "object"}, "a list or an object"),
        (PredictRequest, "weights", {"object"}, "an object"),
        (TrainRequest, "dataset", {"string", "object", "array"}, "a list or a string or an object"),
    ],
)
def test_what_a_field_expects_is_read_from_its_annotation(
    request_type: type, field: str, kinds: set[str], words: str
):
    found = expected(request_type, field)
    assert found.kinds == kinds
    assert found.words() == words


def test_null_is_a_value_only_where_the_annotation_says_so():
    assert expected(TrainRequest, "rounds").nullable
    assert not expected(TrainRequest, "optimizer").nullable
    assert expected(TrainRequest, "dataset").required
    assert not expected(TrainRequest, "epochs").required


@pytest.mark.parametrize("value", [math.nan, math.inf, "NaN", "-Infinity", "1e999"])
def test_a_number_must_be_finite(value: object):
    with pytest.raises(ValueError, match="finite"):
        read_value(value, expected(DeployRequest, "autonomy"))


@pytest.mark.parametrize("value", [True, False, "true"])
def test_a_boolean_is_no_number(value: object):
    with pytest.raises(ValueError, match="a number"):
        read_value(value, expected(TrainRequest, "epochs"))


@pytest.mark.parametrize("value", [1, 0, "1", "yes"])
def test_a_number_is_no_boolean(value: object):
    with pytest.raises(ValueError, match="true or false"):
        read_value(value, expected(TrainRequest, "federated"))


def test_data_given_as_text_is_left_as_it_is():
    text = ' {"a": 1} '
    assert read_value(text, expected(TrainRequest, "dataset")) == text


@pytest.mark.parametrize("name", ["cluster_id", "wait_seconds", "min_nodes_per_round", "name"])
def test_both_spellings_of_a_name_are_each_others_inverse(name: str):
    assert snake_case(camel_case(name)) == name
    assert snake_case(name) == name
