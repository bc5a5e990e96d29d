import gc

import numpy as np
import pytest

from flow_nexus_neural.data.memory import (
    LEVEL_BYTES,
    GrowingArray,
    MemoryBudget,
    return_free_memory,
    without_collections,
)
from flow_nexus_neural.errors import LimitExceeded


def test_a_budget_refuses_what_is_too_much_before_it_is_taken():
    budget = MemoryBudget("the data", 100)
    budget.take(60)
    budget.give_back(20)
    budget.take(60)
    with pytest.raises(LimitExceeded, match="the data would take more memory"):
        budget.take(1)


def test_texts_count_with_four_bytes_per_character_unless_they_are_plain():
    MemoryBudget("x", LEVEL_BYTES + 3).take_text("abc")
    with pytest.raises(LimitExceeded):
        MemoryBudget("x", LEVEL_BYTES + 11).take_text("abé")


@pytest.mark.parametrize("row_shape", [(), (3,)])
def test_blocks_become_one_array_of_their_own_size(row_shape):
    blocks = [np.random.Generator(np.random.PCG64(n)).random((n, *row_shape)) for n in (1, 7, 900)]
    array = GrowingArray(MemoryBudget("x"))
    assert array.row_shape is None
    for block in blocks:
        array.append(block)
    assert (array.rows, array.row_shape) == (908, row_shape)
    whole = array.finished()
    assert whole.shape == (908, *row_shape)
    np.testing.assert_array_equal(whole, np.concatenate(blocks))


def test_dropped_rows_give_their_memory_back():
    array = GrowingArray(MemoryBudget("x", 80))
    array.append(np.zeros(10))
    array.clear()
    array.append(np.zeros(10))
    with pytest.raises(LimitExceeded):
        array.append(np.zeros(1))


def test_the_collector_rests_until_the_last_block_ends():
    assert gc.isenabled()
    with without_collections():
        with without_collections():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    return_free_memory()  # harmless at any time
