"""Weighted sums of parts of states that consist of several arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_nexus_neural.kernels.folding import BLOCK, fold, length_of


def state(*lengths, seed=0):
    draw = np.random.Generator(np.random.PCG64(seed))
    return [draw.standard_normal(n).astype(np.float32) for n in lengths]


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    weights=st.lists(st.floats(-3, 3), min_size=1, max_size=4),
)
def test_a_part_is_the_weighted_sum_and_the_rest_is_left_alone(lengths, cut, weights):
    total = sum(lengths)
    start, stop = sorted(int(share * total) for share in cut)
    sources = [state(*lengths, seed=k) for k in range(len(weights))]
    into = [np.full(n, 7, np.float32) for n in lengths]
    fold(into, list(zip(sources, weights, strict=True)), 2.0, (start, stop))
    summed = sum(w * np.concatenate(s).astype(float) for s, w in zip(sources, weights, strict=True))
    wanted = np.full(total, 7, np.float32)
    wanted[start:stop] = (summed / 2.0)[start:stop].astype(np.float32)
    assert np.allclose(np.concatenate(into), wanted, rtol=1e-6, atol=1e-6)
    assert length_of(into) == total


def test_a_state_may_be_summed_into_itself():
    own, other = state(2 * BLOCK + 3), state(2 * BLOCK + 3, seed=1)
    wanted = ((own[0].astype(float) + other[0]) / 2).astype(np.float32)
    fold(own, [(own, 1.0), (other, 1.0)], 2.0, (0, len(wanted)))
    assert np.array_equal(own[0], wanted)


def test_equal_states_with_integer_weights_give_themselves_back():
    one = state(1000)
    into = [np.empty(1000, np.float32)]
    fold(into, [(one, 7.0), (one, 11.0)], 18.0, (0, 1000))
    assert np.array_equal(into[0], one[0])


def test_whoever_watches_between_blocks_may_end_it():
    def stop():
        raise InterruptedError

    into = [np.zeros(3 * BLOCK, np.float32)]
    with pytest.raises(InterruptedError):
        fold(into, [([np.ones(3 * BLOCK, np.float32)], 1.0)], 1.0, (0, 3 * BLOCK), stop)
    assert into[0][:BLOCK].all()
    assert not into[0][BLOCK:].any()


@pytest.mark.parametrize("part", [(-1, 2), (2, 1), (0, 6)])
def test_a_part_outside_the_state_is_refused(part):
    with pytest.raises(ValueError, match="not in a state of 5"):
        fold(state(5), [(state(5), 1.0)], 1.0, part)


def test_sources_of_another_layout_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        fold(state(3, 2), [(state(5), 1.0)], 1.0, (0, 5))
    with pytest.raises(ValueError, match="0 sources"):
        fold(state(3), [], 1.0, (0, 3))
