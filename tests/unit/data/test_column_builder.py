import numpy as np
import pytest

from flow_nexus_neural.data import column_builder
from flow_nexus_neural.data.column_builder import blocks_of_records, columns_from_blocks
from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded


def build(*blocks, **limits):
    return columns_from_blocks(lambda: iter(blocks), "the data", Limits(1_000, **limits))


def test_texts_after_numbers_keep_the_spelling_of_the_numbers():
    column = build({"a": ["01", "02"]}, {"a": ["oak", None]})["a"]
    assert [column.levels[code] if code >= 0 else None for code in column.codes] == [
        "01", "02", "oak", None,
    ]  # fmt: skip


def test_rows_without_a_vector_are_missing_whichever_block_they_are_in():
    column = build({"v": [[1, 2], None]}, {"v": [None, None]}, {"v": [[3, 4]]})["v"]
    assert column.shape == (5, 2)
    assert np.isnan(column).all(axis=1).tolist() == [False, True, True, True, False]


def test_arrays_are_taken_as_they_are():
    columns = build({"a": np.arange(3.0), "v": np.ones((3, 2))}, {"a": np.ones(1), "v": [[5, 6]]})
    assert columns["a"].tolist() == [0, 1, 2, 1]
    assert columns["v"][-1].tolist() == [5, 6]


def test_vectors_of_different_lengths_are_refused():
    with pytest.raises(InvalidDataset, match="different lengths"):
        build({"v": [[1, 2]]}, {"v": [[1, 2, 3]]})


def test_rows_are_counted_before_a_block_is_converted():
    with pytest.raises(LimitExceeded, match="more than 1000 rows"):
        build({"a": [object()] * 1_001})


@pytest.mark.parametrize(
    "block",
    [
        {"a": [1.0] * 400},
        {"v": [[1] * 20] * 20},
        {"v": [[1] * 200] + [None] * 20},
        {"t": [f"text {index}" for index in range(30)]},
    ],
)
def test_memory_is_counted_whatever_a_column_holds(block):
    with pytest.raises(LimitExceeded, match="more memory than one table may"):
        build(block, table_bytes=3_000)


def test_what_a_first_pass_took_is_free_for_the_second():
    numbers, text = {"a": list(range(300))}, {"a": ["oak"]}
    assert len(build(numbers, text, table_bytes=301 * 4 + 301 * 170)["a"].codes) == 301


def test_texts_that_hardly_repeat_are_given_up_unless_they_may_be_times(monkeypatch):
    monkeypatch.setattr(column_builder, "MAX_KEPT_LEVELS", 10)
    words, days = (
        [f"w{index}" for index in range(30)],
        [f"2024-01-{day:02}" for day in range(1, 31)],
    )
    columns = build({"w": words, "t": days})
    assert len(columns["w"].levels) == 10
    assert columns["w"].codes.tolist() == [*range(10), *[-1] * 20]
    assert columns["t"].levels == tuple(days)


def test_a_block_of_records_holds_a_bounded_amount_of_text_and_cells(monkeypatch):
    monkeypatch.setattr(column_builder, "BLOCK_CHARS", 100)
    monkeypatch.setattr(column_builder, "BLOCK_CELLS", 40)
    by_text = blocks_of_records(({"a": 1}, 60) for _ in range(5))
    assert [len(block["a"]) for block in by_text] == [2, 2, 1]
    by_cells = list(blocks_of_records(({f"k{index}": 1}, 0) for index in range(14)))
    assert [len(block) for block in by_cells] == [7, 7]
