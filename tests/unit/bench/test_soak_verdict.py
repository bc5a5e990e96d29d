"""A soak fails when it should: nothing was harmed, little was answered, or a refusal was not expected."""

import pytest

from bench.soak_verdict import BACK_S, EXPECTED, SPARED_WORKERS, Findings, memory_growth, victims
from flow_nexus_neural import errors
from flow_nexus_neural.errors import NeuralError


def node(pid, role="worker", *, healthy=True):
    return {"pid": pid, "role": role, "healthy": healthy}


def run(*, answered=1000, refused=0, excused=0, killed=10, trained=1, silent_s=0.1):
    """What was found in a run of this course."""
    found = Findings()
    found.begin()
    found.done["nodes killed"] = killed
    found.done["trainings completed"] = trained
    for number in range(answered + refused + excused):
        found.note_prediction(
            answered=number < answered,
            silent_s=silent_s,
            excused=number >= answered + refused,
        )
    found.judge()
    return found.wrong


def test_a_run_that_went_well_passes():
    assert run() == []
    assert run(refused=10, excused=100) == []


@pytest.mark.parametrize(
    ("course", "words"),
    [
        ({"answered": 0, "excused": 3}, "0 of 3 predictions were answered"),
        ({"answered": 0}, "0 of 0 predictions were answered"),
        ({"answered": 40, "excused": 60}, "40 of 100 predictions were answered"),
        ({"answered": 90, "refused": 10}, "10 of 100 predictions were refused"),
        ({"silent_s": BACK_S + 1}, "no prediction was answered for 31 s"),
        ({"killed": 0}, "no node was harmed"),
        ({"trained": 0}, "no training was completed"),
    ],
)
def test_a_run_that_proves_nothing_or_answers_little_fails(course, words):
    assert any(words in one for one in run(**course))


def test_what_was_done_before_the_storm_does_not_count():
    found = Findings()
    found.done.update({"predictions": 20, "trainings completed": 1, "nodes killed": 1})
    found.begin()
    found.judge()
    assert len(found.wrong) == 3


def test_workers_are_spared_so_that_the_cluster_can_survive():
    workers = [node(pid) for pid in range(SPARED_WORKERS + 1)]
    others = [node(10, "validator"), node(11, "parameter_server")]
    assert set(victims([*workers, *others], set())) == {0, 1, 2, 10, 11}
    assert set(victims([*workers[1:], *others], set())) == {10, 11}
    assert victims([node(1), node(2), node(3, healthy=False)], set()) == []


def test_a_node_that_was_frozen_does_not_count_as_one_that_is_left():
    workers = [node(pid) for pid in range(SPARED_WORKERS + 2)]
    assert set(victims(workers, {0})) == {1, 2, 3}
    assert victims(workers, {0, 1}) == []


def test_every_expected_refusal_is_one_that_the_product_has():
    codes = {
        kind("").code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, NeuralError)
    }
    assert set().union(*EXPECTED.values()) <= codes


def test_a_refusal_counts_as_wrong_unless_it_is_expected():
    found = Findings()
    found.note_refusal("neural_train_distributed", "training_running: it trains")
    found.note_refusal("neural_node_deploy", "node_died: gone")
    assert found.wrong == []
    found.note_refusal("neural_cluster_status", "internal_error: unexpected")
    assert found.wrong == ["neural_cluster_status refused: internal_error: unexpected"]
    assert found.errors["neural_cluster_status: internal_error"] == 1


@pytest.mark.parametrize(("last_mb", "grew"), [(104.0, False), (106.0, True)])
def test_memory_that_grows_after_the_first_part_is_told(last_mb, grew):
    found = Findings()
    found.resident_mb += [60.0] * 20 + [100.0] * 20 + [last_mb] * 60
    found.judge()
    assert any("memory grew by 6.0%" in wrong for wrong in found.wrong) is grew


def test_of_a_short_run_no_growth_is_told():
    assert memory_growth([1.0, 2.0, 3.0]) is None
