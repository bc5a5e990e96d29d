"""The compact schemas accept and refuse what pydantic's own schemas accept and refuse."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from flow_nexus_neural.server.json_schema import (
    describe,
    published_schema,
    share_repeats,
    without_enum,
)
from flow_nexus_neural.server.rounding import wire_json
from flow_nexus_neural.server.schemas import PredictResult, StatusResult
from flow_nexus_neural.server.strict_tool import ECHOED
from flow_nexus_neural.server.tools import TOOL_SPECS
from tests.doubles.engine_double import node_status, prediction_report, status_report

WRONG: list[Any] = [None, True, 7, 1.5, "x", [], {}, [None], {"x": 1}]


def mutations(value: Any) -> Iterator[Any]:
    """The value with one part replaced or left out, for every part."""
    if isinstance(value, dict):
        for key in value:
            yield {name: part for name, part in value.items() if name != key}
            for replacement in (*WRONG, *mutations(value[key])):
                yield {**value, key: replacement}
    elif isinstance(value, list) and value:
        for replacement in (*WRONG, *mutations(value[0])):
            yield [replacement, *value[1:]]


@pytest.mark.parametrize(
    ("tool", "content"),
    [
        (
            "neural_cluster_status",
            wire_json(StatusResult.of(status_report([node_status(0)], full=False))),
        ),
        ("neural_predict_distributed", wire_json(PredictResult.of(prediction_report("mean")))),
    ],
)
def test_a_published_result_schema_judges_like_pydantics_own(tool: str, content: dict[str, Any]):
    spec = next(spec for spec in TOOL_SPECS if spec.name == tool)
    published = jsonschema.Draft202012Validator(spec.output_schema())
    own_schema = spec.result.model_json_schema(mode="serialization", by_alias=True)
    own_schema = without_enum(own_schema, ECHOED)  # the one looseness that is meant
    own = jsonschema.Draft202012Validator(own_schema)
    assert own.is_valid(content)
    assert published.is_valid(content)
    n_refused = 0
    for changed in mutations(content):
        verdict = own.is_valid(changed)
        n_refused += not verdict
        assert published.is_valid(changed) == verdict, json.dumps(changed)[:500]
    assert n_refused > 300


@pytest.mark.parametrize("spec", TOOL_SPECS, ids=lambda spec: spec.name)
def test_a_compact_schema_is_shorter_valid_and_without_noise(spec: Any):
    for compact in (spec.input_schema(), spec.output_schema()):
        jsonschema.Draft202012Validator.check_schema(compact)
        assert '"title": "' not in json.dumps(compact)
    raw = spec.result.model_json_schema(mode="serialization", by_alias=True)
    assert len(json.dumps(spec.output_schema())) < 0.8 * len(json.dumps(raw))


def test_making_a_schema_leaves_the_models_own_alone():
    before = copy.deepcopy(StatusResult.model_json_schema(mode="serialization"))
    published_schema(StatusResult, "serialization")
    assert StatusResult.model_json_schema(mode="serialization") == before


def test_repeats_are_written_once_and_mean_what_they_meant():
    nullable = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    texts = {"items": {"type": "string"}, "type": "array"}
    value = {"anyOf": [{"type": "string"}, {"type": "number"}]}
    once = {"anyOf": [{"type": "boolean"}, {"type": "null"}]}
    properties = {
        f"{name}{number}": copy.deepcopy(body)
        for name, body in (("nullable", nullable), ("texts", texts), ("value", value))
        for number in range(3)
    }
    schema: Any = {"properties": {**properties, "once": copy.deepcopy(once)}}
    share_repeats(schema)
    assert schema["$defs"] == {"N": nullable, "SNv": value, "LS": texts}
    assert schema["properties"]["texts2"] == {"$ref": "#/$defs/LS"}
    assert schema["properties"]["once"] == once


def test_a_description_belongs_to_the_outermost_field_of_its_name():
    inner: Any = {"properties": {"latency": {"type": "number"}, "ms": {"type": "number"}}}
    schema: Any = {"properties": {"latency": {"type": "object"}}, "$defs": {"Inner": inner}}
    describe(schema, {"latency": "outer", "ms": "inner"})
    assert schema["properties"]["latency"]["description"] == "outer"
    assert "description" not in inner["properties"]["latency"]
    assert inner["properties"]["ms"]["description"] == "inner"
