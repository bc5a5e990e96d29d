"""What a slot remembers of its process, and what ends with the process."""

from flow_nexus_neural.coordination.conduct import Conduct
from flow_nexus_neural.engine.state.slots import MAX_ERROR_LENGTH
from tests.unit.engine.building import slot

PROCESS, NEXT = object(), object()


def running():
    one = slot("worker-0")
    for state in ("starting", "syncing"):
        if one.state != "healthy":
            one.move(state)
    one.attach(PROCESS, 0.0)
    if one.state != "healthy":
        one.become_healthy("now")
    return one


def test_a_doubted_slot_is_not_asked_until_it_has_answered_right():
    one = running()
    assert one.note_answer("refused", from_caller=True) == "suspect"
    one.doubt("its answer is not finite")
    assert (one.state, one.healthy, one.last_error) == (
        "suspect",
        False,
        "its answer is not finite",
    )
    assert not one.trust()
    assert one.note_answer("right", from_caller=False) == "trusted"
    assert one.trust()
    assert one.healthy


def test_a_condemned_slot_is_not_trusted_again_whatever_its_process_answers():
    one = running()
    one.condemn("predictions_refused: " + "x" * 1000)
    assert len(one.last_error) < MAX_ERROR_LENGTH + 10
    one.note_answer("right", from_caller=True)
    assert not one.trust()
    assert one.state == "suspect"


def test_a_new_process_begins_without_the_conduct_of_the_old_one():
    one = running()
    one.note_answer("unanswered", from_caller=True)
    one.condemn("predictions_unanswered")
    one.attach(NEXT, 1.0)
    assert (one.condemned, one.conduct) == (False, Conduct())


def test_one_question_is_watched_and_one_inquiry_runs_for_each_process():
    one = running()
    assert one.begin_watch(PROCESS)
    assert not one.begin_watch(PROCESS)
    assert one.begin_inquiry(PROCESS)
    assert not one.begin_inquiry(PROCESS)
    one.attach(NEXT, 1.0)
    assert one.begin_watch(NEXT)
    assert one.begin_inquiry(NEXT)
    one.end_watch(PROCESS)
    one.end_inquiry(PROCESS)
    assert not one.begin_watch(NEXT)
    assert not one.begin_inquiry(NEXT)
    one.end_watch(NEXT)
    one.end_inquiry(NEXT)
    assert one.begin_watch(NEXT)
    assert one.begin_inquiry(NEXT)
