import pytest

from flow_nexus_neural.coordination.rounds import (
    LATE,
    NOT_AWAITED,
    Close,
    Fail,
    Round,
    RoundPatience,
    Wait,
    deadline_s,
    unfinished,
)
from flow_nexus_neural.errors import InvalidRequest

SLOTS = ["worker-0", "worker-1", "worker-2"]


def begin(slots=SLOTS, **options):
    usual = {"min_contributors": 1, "started_s": 100.0, "patience": RoundPatience(give_up_s=900.0)}
    return Round(slots, **usual | options)


def test_a_round_closes_when_all_have_answered():
    round_ = begin()
    assert isinstance(round_.answered("worker-2", 101.0), Wait)
    assert isinstance(round_.answered("worker-0", 102.0), Wait)
    assert round_.answered("worker-1", 103.0) == Close(tuple(SLOTS), {})
    assert round_.completions_s == {"worker-0": 2.0, "worker-1": 3.0, "worker-2": 1.0}


def test_contributors_are_in_slot_order_whatever_the_order_of_arrival():
    slots = ["worker-10", "worker-9", "worker-2"]
    round_ = begin(slots)
    for slot in slots:
        decision = round_.answered(slot, 101.0)
    assert decision.contributors == ("worker-2", "worker-9", "worker-10")


def test_a_dead_worker_is_missing_at_once():
    round_ = begin()
    round_.answered("worker-0", 101.0)
    round_.lost("worker-1", 101.5, "died")
    assert round_.answered("worker-2", 102.0) == Close(
        ("worker-0", "worker-2"), {"worker-1": "died"}
    )


def test_a_round_fails_as_soon_as_its_quorum_is_out_of_reach():
    round_ = begin()
    assert isinstance(round_.lost("worker-0", 101.0), Wait)
    decision = round_.lost("worker-1", 101.0, "frozen")
    assert isinstance(decision, Fail)
    assert decision.excluded == {"worker-0": "died", "worker-1": "frozen", "worker-2": NOT_AWAITED}
    assert "1 of 2" in decision.reason
    assert unfinished(decision) == ["worker-2"]


def test_a_worker_is_called_late_only_when_time_decided_against_it():
    round_ = begin(history=[2.0] * 5)
    round_.answered("worker-0", 101.0)
    failed = round_.tick(100.0 + 30.0)
    assert isinstance(failed, Fail)
    assert failed.excluded == {"worker-1": LATE, "worker-2": LATE}
    assert unfinished(failed) == ["worker-1", "worker-2"]


def test_a_straggler_is_left_out_at_the_deadline_that_history_sets():
    round_ = begin(history=[2.0] * 5)
    for slot in SLOTS[:2]:
        decision = round_.answered(slot, 102.0)
    assert decision == Wait(103.0)  # 1.5 medians
    assert isinstance(round_.tick(102.999), Wait)
    assert round_.tick(103.0) == Close(("worker-0", "worker-1"), {"worker-2": "late"})


def test_a_deadline_without_a_quorum_waits_for_ten_medians_and_then_fails():
    round_ = begin(history=[5.0] * 5)
    assert round_.answered("worker-0", 104.0) == Wait(150.0)
    assert isinstance(round_.tick(149.9), Wait)
    decision = round_.tick(150.0)
    assert isinstance(decision, Fail)
    assert "1 of 2 needed updates came within 50.0 s" in decision.reason


def test_a_quorum_after_the_deadline_closes_at_once():
    round_ = begin(history=[2.0] * 5)
    round_.answered("worker-0", 102.0)
    decision = round_.answered("worker-1", 110.0)
    assert decision == Close(("worker-0", "worker-1"), {"worker-2": "late"})


def test_short_rounds_wait_half_a_minute_for_a_quorum():
    round_ = begin(history=[0.01] * 5)
    assert round_.tick(100.0) == Wait(130.0)


def test_without_a_history_the_first_arrivals_set_the_deadline_once_the_quorum_is_in():
    round_ = begin()
    assert round_.tick(100.0) == Wait(1000.0)
    assert round_.answered("worker-0", 104.0) == Wait(140.0)  # no quorum: ten medians
    assert round_.answered("worker-1", 106.0) == Wait(110.0)  # median(4, 6) + 5 s


def test_long_first_rounds_are_given_twice_the_median():
    round_ = begin()
    round_.answered("worker-0", 140.0)
    assert round_.answered("worker-1", 160.0) == Wait(200.0)


def test_fewer_than_five_times_are_no_history():
    assert begin(history=[2.0] * 4).tick(100.0) == Wait(1000.0)
    assert begin(history=[2.0] * 5).tick(100.0) == Wait(130.0)


def test_only_the_last_twenty_times_count():
    old_load = [1000.0] * 40
    round_ = begin(history=old_load + [2.0] * 20)
    round_.answered("worker-0", 102.0)
    assert round_.answered("worker-1", 102.0) == Wait(103.0)


def test_a_late_update_changes_nothing():
    round_ = begin(history=[2.0] * 5)
    round_.answered("worker-0", 101.0)
    round_.answered("worker-1", 101.0)
    closed = round_.tick(103.0)
    assert round_.answered("worker-2", 103.1) is closed
    assert round_.lost("worker-0", 103.2) is closed
    assert round_.tick(9999.0) is closed


def test_an_update_that_comes_after_the_deadline_nobody_ticked_is_late():
    round_ = begin(history=[2.0] * 5)
    round_.answered("worker-0", 101.0)
    round_.answered("worker-1", 101.0)
    decision = round_.answered("worker-2", 103.5)
    assert decision == Close(("worker-0", "worker-1"), {"worker-2": "late"})


def test_an_update_counts_once_however_often_it_comes():
    round_ = begin()
    for _ in range(5):
        decision = round_.answered("worker-0", 101.0)
    assert isinstance(decision, Wait)


def test_an_unasked_update_is_ignored():
    round_ = begin(["worker-0"])
    assert isinstance(round_.answered("worker-7", 101.0), Wait)
    assert round_.answered("worker-0", 102.0) == Close(("worker-0",), {})


def test_what_a_worker_delivered_before_it_died_counts():
    round_ = begin(["worker-0", "worker-1"])
    round_.answered("worker-0", 101.0)
    round_.lost("worker-0", 101.1)
    assert round_.answered("worker-1", 101.2) == Close(("worker-0", "worker-1"), {})


def test_an_answer_from_a_slot_that_was_declared_lost_does_not_count():
    round_ = begin()
    round_.lost("worker-0", 101.0)
    round_.answered("worker-0", 101.1)
    round_.answered("worker-1", 101.2)
    assert round_.answered("worker-2", 101.3) == Close(
        ("worker-1", "worker-2"), {"worker-0": "died"}
    )


def test_time_never_runs_backwards():
    round_ = begin(history=[2.0] * 5)
    round_.answered("worker-0", 102.5)
    round_.answered("worker-1", 101.0)
    assert round_.completions_s == {"worker-0": 2.5, "worker-1": 2.5}


def test_waiting_for_all_ignores_the_deadline_but_not_death():
    round_ = begin(history=[2.0] * 5, wait_for_all=True)
    round_.answered("worker-0", 101.0)
    round_.answered("worker-1", 101.0)
    assert isinstance(round_.tick(500.0), Wait)
    assert round_.lost("worker-2", 501.0) == Close(("worker-0", "worker-1"), {"worker-2": "died"})


def test_a_round_that_nobody_answers_ends():
    round_ = begin(patience=RoundPatience(give_up_s=60.0))
    assert round_.tick(100.0) == Wait(160.0)
    assert isinstance(round_.tick(160.0), Fail)


def test_waking_at_the_announced_time_always_decides():
    """Started + limit - started is not always the limit in floating point."""
    for started in (0.1, 1e6 + 0.3, 12345.6789):
        for limit in (0.7, 2.0000001, 29.999999999):  # median times
            round_ = Round(
                SLOTS,
                min_contributors=1,
                started_s=started,
                history=[limit] * 5,
                patience=RoundPatience(give_up_s=1e9),
            )
            round_.answered("worker-0", started)
            decision = round_.answered("worker-1", started)
            assert isinstance(round_.tick(decision.until_s), Close)


def test_the_deadline_follows_its_formula():
    assert deadline_s([2.0] * 5) == 3.0  # med + 1 s
    assert deadline_s([10.0] * 5) == 12.5  # 1.25 med
    # med 10, mad 1: 10 + 4 * 1.4826
    assert deadline_s([9.0, 9.0, 10.0, 11.0, 11.0]) == pytest.approx(15.9304)
    # med 10, mad 9: capped at 3 med
    assert deadline_s([1.0, 1.0, 10.0, 19.0, 19.0]) == 30.0


def test_a_round_of_milliseconds_gives_a_busy_machine_three_seconds():
    assert deadline_s([0.01] * 5) == 3.0
    assert deadline_s([1.9] * 5) == 3.0
    assert deadline_s([2.5] * 5) == 3.5


def test_slots_that_repeat_and_impossible_minimums_are_refused():
    with pytest.raises(ValueError, match="repeat"):
        begin(["worker-0", "worker-0"])
    with pytest.raises(InvalidRequest):
        begin(min_contributors=4)
    with pytest.raises(InvalidRequest):
        begin([])
