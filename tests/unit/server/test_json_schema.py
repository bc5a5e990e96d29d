"""Schemas of arguments judge as pydantic's own do; those of results are shallow and fit every result."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from flow_nexus_neural.server.json_schema import argument_schema, describe, result_schema
from flow_nexus_neural.server.rounding import wire_json
from flow_nexus_neural.server.schemas import PredictResult, StatusResult
from flow_nexus_neural.server.tools import TOOL_SPECS
from tests.doubles.engine_double import node_status, prediction_report, status_report

CONTENTS = [
    (StatusResult, wire_json(StatusResult.of(status_report([node_status(0)], full=True)))),
    (PredictResult, wire_json(PredictResult.of(prediction_report("mean")))),
]
TYPES: dict[str, Any] = {
    "string": "x",
    "integer": 7,
    "number": 1.5,
    "boolean": True,
    "null": None,
    "object": {"anything": [1]},
}
GIVEN: dict[str, Any] = {
    "cluster_id": "dnc_000000000001",
    "name": "c",
    "dataset": "synthetic:xor",
    "input_data": {"price": 1.0},
    "topology": "ring",
    "epochs": 5,
    "weights": {"worker-0": 1.0},
    "capabilities": ["training"],
    "layers": [{"type": "dense", "units": 1}],
    "seed": 7,
    "until": "done",
    "format": "safetensors",
    "path": "model",
    "kind": "confusion",
}
GIVEN_TO: dict[str, dict[str, Any]] = {"neural_cluster_plot": {"format": "png"}}
ANSWERING = [spec for spec in TOOL_SPECS if spec.result is not None]
"""Without the tool whose answer is a picture with words."""
WRONG: list[Any] = [7, -1, 0.5, 1e9, "x", "x" * 65, True, [], ["a b"], {}, {"x": -1}, [["a"]]]


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object of a schema, outermost first."""
    if isinstance(schema, dict):
        yield schema
        for inner in schema.values():
            yield from parts(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from parts(inner)


def value_of(schema: dict[str, Any]) -> Any:
    """A value of the type that a shallow schema names."""
    if "anyOf" in schema:
        return value_of(schema["anyOf"][0])
    if "const" in schema:
        return schema["const"]
    if schema["type"] == "array":
        return [value_of(schema["items"])]
    return TYPES[schema["type"]]


@pytest.mark.parametrize("spec", TOOL_SPECS, ids=lambda spec: spec.name)
def test_a_schema_of_arguments_judges_like_pydantics_own_except_for_null(spec: Any):
    own = jsonschema.Draft202012Validator(spec.request.model_json_schema(mode="validation"))
    published = jsonschema.Draft202012Validator(argument_schema(spec.request))
    fields = spec.request.model_fields
    given = GIVEN | GIVEN_TO.get(spec.name, {})
    good = {name: value for name, value in given.items() if name in fields}
    assert own.is_valid(good)
    assert published.is_valid(good)
    assert not published.is_valid({**good, "unheard_of": 1})
    n_refused = 0
    for name in fields:
        for wrong in WRONG:
            changed = {**good, name: wrong}
            verdict = own.is_valid(changed)
            n_refused += not verdict
            assert published.is_valid(changed) == verdict, (name, wrong)
    assert n_refused > len(fields)
    for name, field in fields.items():
        if not field.is_required() and field.default is None:
            assert not published.is_valid({**good, name: None})


@pytest.mark.parametrize(("result", "content"), CONTENTS)
def test_a_schema_of_a_result_names_the_type_of_every_field_and_requires_it(
    result: Any, content: dict[str, Any]
):
    schema = result_schema(result)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(content)
    assert validator.is_valid({**content, "a_later_field": 1})
    for name, field in schema["properties"].items():
        assert not validator.is_valid({key: content[key] for key in content if key != name})
        arms = field.get("anyOf", [field])
        for arm in arms:
            assert validator.is_valid({**content, name: value_of(arm)}), name
        for kind, value in TYPES.items():
            named = {arm.get("type", "boolean") for arm in arms}
            allowed = named | ({"integer"} if "number" in named else set())
            if kind not in allowed and "const" not in arms[0]:
                assert not validator.is_valid({**content, name: value}), (name, kind)


@pytest.mark.parametrize("spec", ANSWERING, ids=lambda spec: spec.name)
def test_a_schema_of_a_result_says_nothing_about_what_is_inside_an_object(spec: Any):
    schema = spec.output_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema) == {"type", "properties", "required"}
    allowed = {"type", "items", "anyOf", "const", "description"}
    for name, field in schema["properties"].items():
        for part in parts(field):
            assert set(part) <= allowed, name


@pytest.mark.parametrize("spec", TOOL_SPECS, ids=lambda spec: spec.name)
def test_published_schemas_carry_no_titles_and_no_definitions(spec: Any):
    made = [spec.input_schema(), spec.output_schema()]
    for schema in (one for one in made if one is not None):
        jsonschema.Draft202012Validator.check_schema(schema)
        for part in parts(schema):
            assert not {"$ref", "$defs"} & set(part)
            assert not isinstance(part.get("title"), str)


def test_making_a_schema_leaves_the_models_own_alone():
    before = copy.deepcopy(StatusResult.model_json_schema(mode="serialization"))
    describe(result_schema(StatusResult), {"nodes": "all of them"})
    assert StatusResult.model_json_schema(mode="serialization") == before


def test_a_description_of_a_field_that_does_not_exist_is_refused():
    schema: Any = {"properties": {"latency": {"type": "object"}}}
    describe(schema, {"latency": "in ms"})
    assert schema["properties"]["latency"]["description"] == "in ms"
    with pytest.raises(KeyError):
        describe(schema, {"latencies": "in ms"})


def test_a_bound_that_clients_cannot_represent_is_left_out():
    (spec,) = [spec for spec in TOOL_SPECS if spec.name == "neural_cluster_init"]
    assert argument_schema(spec.request)["properties"]["seed"] == {"minimum": 0, "type": "integer"}
    assert "9223372036854775808" in json.dumps(spec.request.model_json_schema())
