"""Hundreds of wrong calls: each gets one worded error, reaches no engine, and harms no later call."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow_nexus_neural.server.argument_values import Expected
from flow_nexus_neural.server.tools import TOOL_SPECS
from tests.doubles.engine_double import CLUSTER
from tests.integration.served import GOOD_CALLS, SHOWN, Served, text_of

ERROR_FORM = re.compile(r"^[a-z_]+: .+\. .+")
NAMES = [spec.name for spec in TOOL_SPECS]
CALLS = GOOD_CALLS | SHOWN

NESTED: Any = []
for _ in range(150):
    NESTED = [NESTED]

WRONG_BY_KIND: dict[str, list[Any]] = {
    "string": [5, 1.5, True, [], ["x"], {}, {"a": 1}],
    "number": [
        "abc",
        "1e999",
        "0x10",
        True,
        False,
        [],
        [1],
        {},
        "NaN",
        "-Infinity",
        -1e9,
        "[1]",
        10**400,
    ],
    "boolean": ["maybe", 1, 0, 2.5, [], {}, "[true]"],
    "array": ["abc", "{", "5", 5, True, [5], [None], [[]], NESTED],
    "list of texts": ["{", "{}", "[", 5, True, {}, [5], [None], [[]], NESTED],
    "object": ["abc", "[]", 5, True, [], {"a": "x"}, {"a": None}, {"a": -1}, {"a": []}],
    "choice": ["no such", "mesh,ring", 5, True, [], {}, ["mesh"], "\x00", "a" * 10_000],
}


JUDGED_BY_ENGINE = ("privacy", "outcomes")
"""Objects whose content is of many kinds: the server checks only that they are objects."""


def wrong_values(name: str, field: Expected) -> list[Any]:
    if name in JUDGED_BY_ENGINE:
        return [value for value in WRONG_BY_KIND["object"] if not isinstance(value, dict)]
    if field.choices:
        return WRONG_BY_KIND["choice"]
    if field.kinds >= {"string", "object"}:  # data: every structure is for the engine to judge
        return [5, 1.5, True]
    if field.kinds == {"array", "object"}:  # layers: a model of Keras is an object
        return [value for value in WRONG_BY_KIND["array"] if value not in ("{}", {})]
    if field.kinds == {"string", "number", "boolean"}:  # a label is as data have it
        return [[], ["x"], {}, {"a": 1}, NESTED]
    (kind,) = field.kinds
    return WRONG_BY_KIND["list of texts" if field.of_texts else kind]


def malformed_table() -> Iterator[tuple[str, dict[str, Any]]]:
    for spec in TOOL_SPECS:
        good = CALLS[spec.name]
        for name, info in spec.request.model_fields.items():
            expected = Expected.of(info)
            for value in wrong_values(name, expected):
                yield spec.name, {**good, name: value}
            if expected.required:
                yield spec.name, {key: value for key, value in good.items() if key != name}
                yield spec.name, {**good, name: None}
        for unknown in (
            "nonsense",
            "",
            " ",
            "cluster",
            "__class__",
            "a.b",
            "x" * 3000,
            "cluster_id ",
            "ünbekannt",
        ):
            yield spec.name, {**good, unknown: 1}
        yield spec.name, {**good, **{f"unknown_{i}": i for i in range(200)}}
    for name in (
        "",
        "neural",
        "neural_cluster_ini",
        "neural_cluster_init ",
        "x" * 5000,
        "../etc",
        "tools/call",
    ):
        yield name, {"cluster_id": CLUSTER}


TABLE = list(malformed_table())


def assert_one_worded_error(server: Served, tool: str, arguments: dict[str, Any]) -> None:
    before = len(server.double.asked)
    answer = server.call(tool, arguments)
    shown = f"{tool} {str(arguments)[:300]}"
    assert answer.is_error, shown
    assert answer.structured_content is None, shown
    text = text_of(answer)
    assert ERROR_FORM.match(text), text
    assert "\n" not in text
    assert len(text) < 1000, text
    assert len(server.double.asked) == before, f"reached the engine: {shown}"


def test_the_table_is_large():
    assert len(TABLE) > 500


def test_every_malformed_call_gets_one_worded_error_and_the_next_call_is_answered(server: Served):
    for number, (tool, arguments) in enumerate(TABLE):
        assert_one_worded_error(server, tool, arguments)
        if number % 10 == 0:
            server.result("neural_cluster_terminate")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KNOWN_NAMES = sorted({name for spec in TOOL_SPECS for name in spec.request.model_fields})


@settings(
    derandomize=True,
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    tool=st.sampled_from(NAMES),
    arguments=st.dictionaries(
        st.sampled_from(KNOWN_NAMES) | st.text(max_size=12), JSON_VALUES, max_size=5
    ),
)
def test_whatever_is_sent_the_answer_is_a_result_or_one_worded_error(
    server: Served, tool: str, arguments: dict[str, Any]
):
    answer = server.call(tool, arguments)
    text = text_of(answer)
    if answer.is_error:
        assert answer.structured_content is None
        assert ERROR_FORM.match(text), text
        assert len(text) < 1000
        assert not text.startswith("internal_error"), text
    else:
        json.loads(text)


@settings(
    derandomize=True,
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(tool=st.sampled_from(NAMES), name=st.text(max_size=40))
def test_an_unknown_argument_is_never_dropped_in_silence(server: Served, tool: str, name: str):
    spec = next(spec for spec in TOOL_SPECS if spec.name == tool)
    answer = server.call(tool, {**CALLS[tool], name: "?"})
    if answer.is_error:
        assert ERROR_FORM.match(text_of(answer))
        return
    known = name in spec.request.model_fields
    shown = answer.structured_content is None  # a picture, with all warnings in its words
    said = [text_of(answer)] if shown else answer.structured_content["warnings"]
    assert known or any(name in line for line in said)


@pytest.mark.parametrize("tool", NAMES)
def test_a_call_without_arguments_names_the_first_one_missing(server: Served, tool: str):
    if tool == "neural_cluster_list":  # the only one that needs none
        server.result(tool)
        return
    answer = server.call(tool, {})
    first = next(iter(next(spec for spec in TOOL_SPECS if spec.name == tool).request.model_fields))
    assert text_of(answer).startswith(f"invalid_arguments: {tool}: '{first}' is missing; ")
