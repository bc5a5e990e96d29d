"""What a caller is told to do about nodes, in every state that they can be in."""

from typing import get_args

import pytest

from flow_nexus_neural.coordination.membership import SlotState
from flow_nexus_neural.engine.state.advice import (
    failure_warnings,
    missing_workers,
    next_step,
    what_is_missing,
)
from flow_nexus_neural.engine.state.slots import SlotBook
from tests.unit.engine.building import slot


def told(*slots):
    return next_step(slots, "nothing is known")


def test_a_node_that_failed_on_its_own_is_to_be_replaced():
    failed = slot("worker-0", state="failed")
    assert told(failed).startswith("replace worker-0 with neural_node_deploy")
    assert failure_warnings([failed]) == [
        "worker-0 failed; replace with neural_node_deploy (same role, model and capabilities, no layers)"
    ]


async def test_a_node_that_is_being_started_again_is_not_to_be_replaced():
    returning, restarting = (slot(f"worker-{n}", state="failed") for n in range(2))
    returning.await_return(expected=True)
    async with restarting.restarting:
        for one in (returning, restarting):
            assert told(one) == f"wait for {one.name} with neural_cluster_status and call again"
            assert failure_warnings([one]) == [
                f"{one.name} failed; a new process is being started, wait for it"
            ]
    returning.await_return(expected=False)
    assert "replace worker-0" in told(returning)
    assert "replace worker-1" in told(restarting)


async def test_each_of_several_nodes_is_told_what_is_true_of_it():
    lost = slot("worker-0", state="failed")
    returning = slot("worker-1", state="failed", returning=True)
    waiting = slot("worker-2", state="recovering")
    hint = told(lost, returning, waiting)
    assert hint.split("; ") == [
        "wait for worker-1 with neural_cluster_status and call again",
        "call again, which starts worker-2",
        "replace worker-0 with neural_node_deploy (same role, model and capabilities, no layers)",
    ]
    lost_text, arriving_text = failure_warnings([lost, returning, waiting])
    assert "worker-0" in lost_text
    assert "worker-1" not in lost_text
    assert "worker-1" in arriving_text


@pytest.mark.parametrize("state", get_args(SlotState))
@pytest.mark.parametrize("restarts", [False, True])
async def test_only_a_node_that_nobody_starts_is_called_lost(state, restarts):
    one = slot("worker-0", state=state)
    if restarts:
        await one.restarting.acquire()
    hint = told(one)
    assert ("replace" in hint) == (
        not restarts and state in ("failed", "failed_permanently", "quarantined")
    )
    assert ("which starts" in hint) == (not restarts and state == "recovering")
    if restarts:
        one.restarting.release()


def test_what_else_is_wrong_is_told_where_no_node_is_missing():
    assert told() == "nothing is known"


def test_many_nodes_are_counted():
    assert "and 2 more" in told(*(slot(f"worker-{n}", state="failed") for n in range(10)))


def test_a_quarantined_node_is_told_apart_from_a_failed_one():
    caught, failed = slot("worker-0", state="quarantined"), slot("worker-1", state="failed")
    texts = failure_warnings(iter([caught, failed]))
    assert [text.split()[:2] for text in texts] == [
        ["worker-1", "failed;"],
        ["worker-0", "quarantined,"],
    ]
    assert all("neural_node_deploy" in text for text in texts)


def test_a_running_training_tells_a_suspect_worker_from_one_that_is_being_started_again():
    suspect = slot("worker-0", state="suspect")
    returning = slot("worker-1", state="failed", returning=True)
    assert missing_workers(None, [suspect]) == "worker-0 suspect; rounds go on without"
    assert missing_workers(None, [suspect, returning]) == (
        "worker-0 suspect and worker-1 being started again; rounds go on without"
    )


def test_members_of_which_a_majority_is_missing_are_lost_only_where_nothing_brings_them_back():
    book = SlotBook()
    for one in (slot("worker-0", state="failed"), slot("worker-1", state="recovering")):
        book.add(one)
    both = what_is_missing(book, ["worker-0", "worker-1", "worker-9"])
    assert both.startswith(
        "; lost: worker-0, worker-9. Call again, which starts worker-1; replace worker-0"
    )
    assert what_is_missing(book, ["worker-1"]) == ". Call again, which starts worker-1"
    assert what_is_missing(book, ["worker-9"]).startswith("; lost: worker-9. See worker-9 in ")
