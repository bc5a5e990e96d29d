"""Whatever a node writes stays a quotation: printable, on one line, bounded, closed."""

import ast

from hypothesis import given
from hypothesis import strategies as st

from flow_nexus_neural.protocol.node_words import (
    CUT,
    MARK,
    own_words,
    plain,
    plain_lines,
    quoted,
    shortened,
)

HOSTILE = st.text() | st.text("'\\\"\n\r\x1b\x07\x9b\u202e\u2028. a", max_size=400)


@given(HOSTILE, st.integers(1, 300))
def test_plain_words_are_printable_on_one_line_and_bounded(text, longest):
    told = plain(text, longest)
    assert told.isprintable()
    assert len(told) <= longest + len(CUT)
    assert plain(told, len(told) or 1) == told


@given(HOSTILE, st.integers(1, 300))
def test_nothing_inside_closes_a_quotation(text, longest):
    told = quoted(text, longest)
    assert told.isprintable()
    assert ast.literal_eval(told) == plain(text, longest)
    assert own_words(text, longest) == MARK + told


@given(HOSTILE, st.integers(1, 300))
def test_lines_of_a_node_have_no_control_character_but_the_line_break(text, longest):
    told = plain_lines(text, longest)
    assert len(told) <= longest
    assert all(line.isprintable() for line in told.split("\n"))


@given(HOSTILE, st.integers(20, 200))
def test_a_quotation_that_is_cut_open_is_closed_again(text, longest):
    sentence = f"node worker-0 could not do it, {own_words(text, 300)}"
    told = shortened(sentence, longest)
    assert len(told) <= longest + len(CUT) + 1
    before, opening, _ = told.partition("'")
    if opening:
        assert isinstance(ast.literal_eval(told[len(before) :]), str)


def test_a_sentence_that_is_short_enough_stays_as_it_is():
    assert shortened("the node's end", 14) == "the node's end"
    assert shortened("the node's end came", 14) == "the node's end" + CUT
