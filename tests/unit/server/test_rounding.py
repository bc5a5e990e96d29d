import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from flow_nexus_neural.server import rounding
from flow_nexus_neural.server.answer_size import answer_short_enough
from flow_nexus_neural.server.rounding import wire_json
from flow_nexus_neural.server.schemas import PredictResult
from flow_nexus_neural.server.strict_tool import succeeded
from flow_nexus_neural.vocabulary import round_float
from tests.doubles.engine_double import prediction_report


class Measured(BaseModel):
    number: float | None
    exact: int
    text: str
    nested: dict[str, list[float]]


class Listed(BaseModel):
    values: list[float | int | None]


@settings(derandomize=True, max_examples=200)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_keeps_six_digits_and_is_idempotent(value: float):
    rounded = round_float(value)
    assert rounded is not None
    assert round_float(rounded) == rounded
    assert math.isclose(rounded, value, rel_tol=5e-6, abs_tol=5e-324)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1 + 0.2, 0.3),
        (1234567.0, 1234570.0),
        (1e-9 / 3, 3.33333e-10),
        (0.0, 0.0),
        (-1 / 3, -0.333333),
    ],
)
def test_examples_of_rounding(value: float, expected: float):
    assert round_float(value) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_unknown(value: float):
    assert round_float(value) is None


def test_integers_and_text_are_exact_and_lone_surrogates_can_be_sent():
    content = wire_json(
        Measured(number=1 / 3, exact=2**53 + 1, text="é \ud800", nested={"a": [math.pi]})
    )
    assert content == {
        "number": 0.333333,
        "exact": 2**53 + 1,
        "text": "é ?",
        "nested": {"a": [3.14159]},
    }


def test_a_number_that_must_be_there_is_not_replaced_by_null():
    with pytest.raises(ValidationError):
        wire_json(Measured(number=None, exact=1, text="", nested={"a": [math.nan]}))


@settings(derandomize=True, max_examples=200)
@given(st.lists(st.floats() | st.integers() | st.none(), max_size=8))
def test_a_list_is_rounded_as_each_of_its_numbers(values: list[float | int | None]):
    content = wire_json(Listed(values=values))
    expected = [round_float(v) if isinstance(v, float) else v for v in values]
    assert content == {"values": expected}
    assert [type(v) for v in content["values"]] == [type(v) for v in expected]


def test_the_content_of_a_reply_is_made_once(monkeypatch: pytest.MonkeyPatch):
    made = []

    def counted(result: BaseModel) -> dict:
        made.append(result)
        return wire_json(result)

    monkeypatch.setattr(rounding, "wire_json", counted)
    answer = PredictResult.of(prediction_report("mean"))
    reply = succeeded(answer_short_enough(answer))
    assert made == [answer]
    assert json.loads(reply.content[0].text) == reply.structured_content == wire_json(answer)
