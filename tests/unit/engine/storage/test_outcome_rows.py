"""Outcomes on disk: read back as they were, the oldest dropped, damage left out and counted."""

import sqlite3

import numpy as np
import pytest

from flow_nexus_neural.engine.state.feedback import Feedback, GivenAnswer, RecordedOutcome
from flow_nexus_neural.engine.storage import outcome_rows
from flow_nexus_neural.engine.storage.outcome_rows import (
    delete_outcomes,
    kept_outcomes,
    read_feedback,
    read_outcomes,
    write_outcomes,
)
from flow_nexus_neural.engine.storage.schema import make_tables
from flow_nexus_neural.kernels.hedge import HedgeState

LOST = HedgeState(2, {"worker-0": 0.25, "worker-1": 1 / 3}, 0.3)


@pytest.fixture
def connection():
    opened = sqlite3.connect(":memory:", isolation_level=None)
    make_tables(opened)
    for name in ("dnc_1", "dnc_2"):
        opened.execute("INSERT INTO clusters VALUES (?, 'n', 'now', NULL, '{}', '{}')", (name,))
    yield opened
    opened.close()


ANSWERS = (
    None,
    GivenAnswer(0.25, 0.75),
    GivenAnswer("yes", 0.5),
    GivenAnswer(3.5, None, -1e-300, 7.25),
    GivenAnswer(None),
)


def outcome(n, width=3):
    x = np.random.Generator(np.random.PCG64(n)).standard_normal((2, width)).astype("f4")
    logits = {"worker-0": (0.1 * n,), "worker-1": (-1e-300,)}
    symbol = "BTC" if n % 2 else None
    return RecordedOutcome(
        f"prd_{n}", n, 4, "s", symbol, 1.0, logits, x, "now", ANSWERS[n % len(ANSWERS)]
    )


def written(connection, start, n, cluster_id="dnc_1"):
    outcomes = [outcome(k) for k in range(start, start + n)]
    feedback = Feedback(recorded=start + n, version=4, hedge=LOST)
    write_outcomes(cluster_id, outcomes, feedback)(connection)
    return outcomes


def places(found):
    return [one.row for one in found]


def test_outcomes_are_read_back_bit_for_bit_in_order(connection):
    sent = [*written(connection, 0, 2), *written(connection, 2, 3)]
    written(connection, 0, 1, "dnc_2")
    found, damaged = read_outcomes(connection, "dnc_1")
    assert (places(found), damaged) == ([0, 1, 2, 3, 4], 0)
    for one, two in zip(sent, found, strict=True):
        assert (one.x == two.x).all()
        assert one.logits == two.logits
        assert one.answer == two.answer
        assert (one.symbol, one.at, one.outcome) == (two.symbol, two.at, two.outcome)
    feedback = read_feedback(connection, "dnc_1")
    assert (feedback.recorded, feedback.kept, feedback.version) == (5, 5, 4)
    assert feedback.hedge == LOST
    assert feedback.kept_bytes == kept_outcomes(connection, "dnc_1")[1] > 0


def test_the_oldest_are_dropped_by_rows_and_by_bytes(connection, monkeypatch):
    monkeypatch.setattr(outcome_rows, "MAX_ROWS", 4)
    written(connection, 0, 3)
    written(connection, 3, 3)
    assert places(read_outcomes(connection, "dnc_1")[0]) == [2, 3, 4, 5]
    assert read_feedback(connection, "dnc_1").recorded == 6
    each = kept_outcomes(connection, "dnc_1")[1] / 4
    monkeypatch.setattr(outcome_rows, "MAX_BYTES", int(2.5 * each))
    written(connection, 6, 1)
    assert places(read_outcomes(connection, "dnc_1")[0]) == [5, 6]
    written(connection, 0, 1, "dnc_2")
    assert kept_outcomes(connection, "dnc_1")[0] == 2


@pytest.mark.parametrize("change", ["replace(body, '1.0', '0.0')", "'{'", "''"])
def test_an_altered_outcome_is_left_out_and_counted(connection, change):
    written(connection, 0, 3)
    connection.execute(f"UPDATE outcomes SET body={change} WHERE place=1")
    found, damaged = read_outcomes(connection, "dnc_1")
    assert (places(found), damaged) == ([0, 2], 1)


@pytest.mark.parametrize(
    "damage",
    ["UPDATE feedback SET body=replace(body, '0.25', '0.00')", "DELETE FROM feedback"],
)
def test_what_was_learnt_begins_anew_where_it_was_altered(connection, damage):
    written(connection, 0, 3)
    connection.execute(damage)
    found = read_feedback(connection, "dnc_1")
    assert (found.damaged, found.hedge, found.version) == (True, HedgeState(), None)
    assert (found.recorded, found.kept) == (3, 3)
    written(connection, found.recorded, 1)  # and goes on behind what is there
    assert len(read_outcomes(connection, "dnc_1")[0]) == 4


def test_a_cluster_without_outcomes_has_learnt_nothing(connection):
    written(connection, 0, 3)
    assert read_feedback(connection, "dnc_2") == Feedback()
    delete_outcomes("dnc_1")(connection)
    assert read_feedback(connection, "dnc_1") == Feedback()
    assert read_outcomes(connection, "dnc_1") == ([], 0)
