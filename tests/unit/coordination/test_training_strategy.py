"""One process or many: what decides, and that one process is never given up for nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_nexus_neural.coordination.training_strategy import (
    MARGIN,
    Effort,
    choose_strategy,
    expected_s,
)

LARGE = Effort(
    workers=4,
    networks=1,
    places=4,
    rows=100_000,
    batch_size=64,
    parameters=20_000,
    sequence=1,
    exchanges=4,
)
SMALL = replace(LARGE, rows=200, batch_size=8, parameters=50, exchanges=1)


def test_much_work_is_shared_and_little_is_not():
    assert choose_strategy(LARGE).name == "local_sgd"
    small = choose_strategy(SMALL)
    assert small.name == "single_process"
    assert "25 optimiser steps" in small.reason
    assert "4 workers" in small.reason


@pytest.mark.parametrize(
    ("change", "name", "says"),
    [
        ({"workers": 1}, "single_process", "one worker"),
        ({"places": 1}, "single_process", "one worker compute at a time"),
        ({"needs_workers": "a vote"}, "local_sgd", "a vote"),
        ({"networks": 2}, "local_sgd", "2 different networks"),
    ],
)
def test_what_decides_before_any_size_does(change, name, says):
    for effort in (LARGE, SMALL):
        found = choose_strategy(replace(effort, **change))
        assert (found.name, says in found.reason) == (name, True)


efforts = st.builds(
    Effort,
    workers=st.integers(1, 64),
    networks=st.just(1),
    places=st.integers(1, 64),
    rows=st.integers(1, 10**6),
    batch_size=st.integers(1, 512),
    parameters=st.integers(1, 10**7),
    sequence=st.integers(1, 512),
    exchanges=st.integers(1, 4),
)


@given(efforts)
def test_sharing_is_chosen_only_where_it_is_expected_to_be_faster(effort):
    if choose_strategy(effort).name == "local_sgd":
        alone_s, together_s = expected_s(effort)
        assert together_s < MARGIN * alone_s
        assert effort.places > 1
        assert effort.workers > 1


@given(efforts, st.integers(2, 10))
def test_more_rows_never_speak_against_sharing(effort, times):
    if choose_strategy(effort).name == "local_sgd":
        assert choose_strategy(replace(effort, rows=effort.rows * times)).name == "local_sgd"
