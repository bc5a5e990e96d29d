"""Which back end answers, from times alone."""

import pytest

from flow_nexus_neural.coordination.backend_choice import (
    BUCKETS,
    LONGEST_MS,
    Choice,
    Timing,
    bucket_of,
    choose,
)


def timing(torch_ms, wasm_ms):
    return Timing([torch_ms / 1e3] * 3, [wasm_ms / 1e3] * 3)


def test_a_batch_belongs_to_the_smallest_bucket_that_holds_it():
    assert [bucket_of(n) for n in (0, 1, 2, 8, 9, 100, 101)] == [None, 1, 8, 8, 32, 100, None]


def test_buckets_go_to_wasm_up_to_the_first_that_it_loses():
    choice = choose({1: timing(1, 0.1), 8: timing(1, 0.5), 32: timing(1, 2)})
    assert choice.backend == {1: "wasm", 8: "wasm", 32: "torch", 100: "torch"}
    assert choice.speedup == pytest.approx({1: 10, 8: 2, 32: 0.5})
    assert (choice.active, choice.reason) == (True, None)
    assert [choice.uses_wasm(n) for n in (1, 8, 9, 500)] == [True, True, False, False]


@pytest.mark.parametrize(("torch_ms", "wasm_ms", "wins"), [(1.09, 1, False), (1.11, 1, True)])
def test_wasm_must_be_a_tenth_faster(torch_ms, wasm_ms, wins):
    assert choose({1: timing(torch_ms, wasm_ms)}).active is wins


def test_a_run_that_would_hold_up_the_server_is_left_to_the_node():
    choice = choose({1: timing(100 * LONGEST_MS, LONGEST_MS + 1)})
    assert not choice.active
    assert "hold up" in choice.reason


def test_times_of_a_clock_that_stands_still_choose_nothing():
    choice = choose({1: timing(0, 0)})
    assert (choice.active, choice.speedup) == (False, {})
    assert "could not be measured" in choice.reason


def test_before_any_measurement_torch_answers():
    assert Choice().backend == dict.fromkeys(BUCKETS, "torch")
