import pytest

from flow_nexus_neural.coordination.consensus.raft.applied import (
    Applied,
    apply,
    body_digest,
    record,
)
from flow_nexus_neural.protocol.raft_records import LogEntry


def run(*bodies, start=None):
    """What a log of these records comes to, and the verdicts on them."""
    applied, verdicts = start or Applied(), []
    for body in bodies:
        entry = LogEntry(applied.index + 1, 1, "record", body)
        applied, verdict = apply(applied, entry)
        verdicts.append(verdict)
    return applied, verdicts


def test_a_version_follows_its_parent():
    applied, verdicts = run(record(1, 0, "a"), record(2, 1, "b"), record(3, 2, "c"))
    assert verdicts == ["applied"] * 3
    assert (applied.index, applied.version, applied.parent) == (3, 3, 2)
    assert applied.digest == body_digest(record(3, 2, "c"))


def test_a_record_that_comes_twice_is_applied_once():
    applied, verdicts = run(record(1, 0, "a"), record(1, 0, "a"))
    assert verdicts == ["applied", "repeated"]
    assert (applied.index, applied.version) == (2, 1)


def test_a_record_that_nobody_waited_for_is_replaced_by_the_next_with_its_parent():
    applied, verdicts = run(record(1, 0, "a"), record(2, 1, "lost"), record(2, 1, "b"))
    assert verdicts == ["applied"] * 3
    assert applied.digest == body_digest(record(2, 1, "b"))


def test_a_late_record_changes_nothing():
    _, verdicts = run(record(1, 0, "a"), record(2, 1, "b"), record(3, 2, "c"), record(2, 1, "x"))
    assert verdicts[-1] == "refused"
    _, verdicts = run(record(1, 0, "a"), record(2, 1, "b"), record(9, 7, "x"))
    assert verdicts[-1] == "refused"


def test_a_bundle_changes_how_a_version_answers_and_not_what_may_follow():
    applied, verdicts = run(
        record(1, 0, "a"), record(2, 1, "b"), record(2, 2, "bundle"), record(3, 2, "c")
    )
    assert verdicts == ["applied"] * 4
    assert applied.version == 3
    late, verdicts = run(record(1, 0, "a"), record(2, 1, "b"), record(1, 1, "bundle"))
    assert verdicts[-1] == "refused"
    assert late.version == 2


def test_versions_may_begin_where_a_cluster_already_is():
    applied, verdicts = run(record(8, 7, "a"))
    assert verdicts == ["applied"]
    assert (applied.version, applied.parent) == (8, 7)


def test_other_entries_only_move_on():
    applied, verdict = apply(Applied(3, 2, 1, "d"), LogEntry(4, 2, "voters", voters=("a",)))
    assert (applied, verdict) == (Applied(4, 2, 1, "d"), "applied")


def test_a_snapshot_says_what_its_log_came_to():
    applied, _ = run(record(1, 0, "a"), record(2, 1, "b"))
    assert Applied.of_text(applied.to_text(), 2) == applied
    assert Applied.of_text("", 0) == Applied()


@pytest.mark.parametrize(
    "text",
    ["garbage", "[]", '{"version": "many"}', '{"version": -1}', '{"digest": "x"}', '{"more": 1}'],
)
def test_a_text_that_no_log_led_to_is_refused(text):
    with pytest.raises(ValueError, match="validation error"):
        Applied.of_text(text, 1)
