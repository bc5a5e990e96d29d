"""Every column of every row is under the digest that the ledger names, or under a check of the row's own."""

from dataclasses import replace

import pytest

from flow_nexus_neural.engine.storage.row_digests import (
    ROWS,
    digests_of,
    first_difference,
    named_rows,
    row_digest,
    row_name,
)
from flow_nexus_neural.engine.storage.rows import ClusterRow, HistoryRow, SlotRow, TrainingRow
from flow_nexus_neural.engine.storage.schema import CHECK, TABLES

CLUSTER = ClusterRow("c1", "n", "now", None, {"seed": 1}, {"loss": 0.5, "communication": {"a": 1}})
SLOT = SlotRow("c1", "worker-0", "node_1", 1, 7, "healthy", {"layers": []})
TRAINING = TrainingRow("t1", "c1", 0, "running", {"epochs": 3}, {"round": 0}, "now", None, None)
ROUND = HistoryRow("t1", "c1", 1, {"loss": 0.5, "bytes": 10, "seconds": 0.25})


def digest(row):
    (found,) = digests_of([row]).values()
    return found


@pytest.mark.parametrize("row", [CLUSTER, SLOT, TRAINING, ROUND], ids=lambda r: type(r).__name__)
def test_every_column_counts(row):
    for name in TABLES[type(row)].columns:
        value = getattr(row, name)
        other = {**value, "x": 1} if isinstance(value, dict) else 99 if value == 1 else "other"
        altered = digests_of([replace(row, **{name: other})])
        assert altered != digests_of([row]), name


def test_rows_are_named_by_table_and_key():
    assert list(digests_of([CLUSTER, SLOT, TRAINING, ROUND])) == [
        "clusters",
        "slots worker-0",
        "trainings t1",
        "history t1 1",
    ]


def test_what_differs_from_run_to_run_is_not_in_the_ledger_but_under_a_check():
    table = TABLES[HistoryRow]
    slower = replace(ROUND, point={**ROUND.point, "seconds": 0.5})
    assert digest(slower) == digest(ROUND)
    assert table.values(slower) != table.values(ROUND)
    swapped = [value.replace("0.25", "0.75") for value in map(str, table.values(ROUND))]
    assert CHECK in swapped[-1]  # reading compares it: see the tests of the store


def test_a_row_without_a_check_is_named_with_everything_in_it():
    """As older formats stored it, and as one looks whose check was altered away."""
    table = TABLES[HistoryRow]
    plain = ["t1", "c1", 1, '{"bytes":10,"loss":0.5}']
    other = ["t1", "c1", 1, '{"bytes":11,"loss":0.5}']
    assert row_digest(table, plain) != row_digest(table, other)


def test_an_open_part_that_says_the_same_in_other_words_is_another_one():
    table = TABLES[ClusterRow]
    values = table.values(CLUSTER)
    spaced = [*values[:-1], values[-1].replace(":", ": ")]
    assert row_digest(table, spaced) != row_digest(table, values)
    assert row_name(table, spaced) == row_name(table, values)


def test_the_ledger_names_the_last_digest_of_each_row():
    entries = [{ROWS: {"clusters": "a", "slots w": "b"}}, {"kind": "x"}, {ROWS: {"clusters": "c"}}]
    assert named_rows(entries) == {"clusters": "c", "slots w": "b"}


def test_a_missing_a_strange_and_an_altered_row_are_told():
    assert first_difference({"a": "1"}, {"a": "1"}) is None
    assert "'a' is missing" in first_difference({"a": "1"}, {})
    assert "'b' is named by no" in first_difference({"a": "1"}, {"a": "1", "b": "2"})
    assert "'a' has changed" in first_difference({"a": "1"}, {"a": "2"})
