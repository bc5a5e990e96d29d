"""Reading JSON in steps gives exactly what the standard decoder gives, and refuses what it refuses."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.data import json_text
from flow_nexus_neural.data.json_text import decode_in_steps

few = settings(derandomize=True, max_examples=200, deadline=None)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@few
@given(values, st.sampled_from([None, 2]), st.sampled_from(["", " ", "\n\t"]))
def test_valid_json_is_read_as_the_standard_decoder_reads_it(value, indent, space):
    text = space + json.dumps(value, indent=indent) + space
    assert decode_in_steps(text) == json.loads(text) == value


@few
@given(values, st.data())
def test_damaged_json_is_refused_exactly_when_the_standard_decoder_refuses_it(value, data):
    text = json.dumps(value)
    place = data.draw(st.integers(0, len(text)))
    damage = data.draw(st.sampled_from(["", ",", "]", "}", "{", "[", ":", '"', "1", "x", "\\"]))
    damaged = text[:place] + damage + text[place + 1 :]
    try:
        expected = json.loads(damaged)
    except ValueError:
        with pytest.raises(ValueError, match=r"\S"):
            decode_in_steps(damaged)
    else:
        assert decode_in_steps(damaged) == expected


@pytest.mark.parametrize(
    "text", ["NaN", "[1, NaN]", '{"a": [Infinity]}', '{"a": -Infinity}', "", " "]
)
def test_constants_that_are_not_json_are_refused(text):
    with pytest.raises(ValueError, match=r"\S"):
        decode_in_steps(text)


@few
@given(
    st.dictionaries(st.text(alphabet='a,"}{:\\', max_size=4), values, max_size=20),
    st.integers(4, 60),
    st.data(),
)
def test_members_that_are_decoded_in_runs_of_any_length_are_the_same(value, run_chars, data):
    text = json.dumps(value)
    place = data.draw(st.integers(0, len(text)))
    damaged = text[:place] + data.draw(st.sampled_from(',"}{:1')) + text[place + 1 :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "RUN_CHARS", run_chars)
        assert decode_in_steps(text) == value
        try:
            expected = json.loads(damaged)
        except ValueError:
            with pytest.raises(ValueError, match=r".+"):
                decode_in_steps(damaged)
        else:
            assert decode_in_steps(damaged) == expected
