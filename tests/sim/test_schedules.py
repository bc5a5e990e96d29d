"""Hundreds of schedules of one engine, each decided by its seed alone; whatever happens, the books are right.

A failing seed is run again, to the same message, with `pytest tests/sim/test_schedules.py -k seed17`.
"""

import pytest

from tests.doubles.tables import cells
from tests.sim.schedules import run_schedule

SEEDS = range(110)
IN_EVERY_RUN = SEEDS[:40]
TWICE = (1, 3, 7, 10, 20, 33)
RAFT_SEEDS = range(30)
RAFT_TWICE = (28, 34)
"""One in which a majority is missing once, and one without faults; both decide on versions."""
REAL_EVERY = 10
"""Every so many schedules nodes run the real service; the others a linear one, which is faster."""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The course of a seed, run once for all tests that look at it."""
    made = {}

    def run(seed):
        if seed not in made:
            place = tmp_path_factory.mktemp(f"seed{seed}")
            made[seed] = run_schedule(place, seed, real=seed % REAL_EVERY == 0)
        return made[seed]

    return run


@pytest.mark.parametrize("seed", cells(SEEDS, telling=IN_EVERY_RUN), ids=lambda seed: f"seed{seed}")
def test_whatever_happens_the_books_are_right(course, seed):
    course(seed)


@pytest.mark.parametrize("seed", TWICE, ids=lambda seed: f"seed{seed}")
def test_one_seed_gives_the_same_messages_the_same_ledger_and_the_same_weights(
    tmp_path, course, seed
):
    first = course(seed)
    assert first.messages
    assert first.entries
    assert run_schedule(tmp_path, seed, real=seed % REAL_EVERY == 0) == first


@pytest.mark.parametrize(
    "seed", cells(RAFT_SEEDS, telling=RAFT_SEEDS[:12]), ids=lambda seed: f"seed{seed}"
)
def test_under_raft_the_books_are_right_too_and_the_voters_have_what_is_served(tmp_path, seed):
    run_schedule(tmp_path, seed, consensus="raft")


@pytest.mark.parametrize("seed", RAFT_TWICE, ids=lambda seed: f"seed{seed}")
def test_one_seed_gives_the_same_course_under_raft(tmp_path, seed):
    first = run_schedule(tmp_path / "one", seed, consensus="raft")
    assert "raft_step" in {kind for _, _, _, kind in first.messages}
    assert first.weights
    assert run_schedule(tmp_path / "two", seed, consensus="raft") == first


def test_another_seed_gives_another_course(course):
    courses = [course(seed) for seed in TWICE]
    assert len({course.messages for course in courses}) == len(courses)
    assert len({course.entries for course in courses}) == len(courses)
    assert len({course.weights for course in courses}) > 1


def test_the_schedules_meet_what_they_are_for(course):
    courses = [course(seed) for seed in IN_EVERY_RUN]
    ends = {
        kind
        for course in courses
        for _, _, direction, kind in course.messages
        if direction == "end"
    }
    assert {"killed", "runtime_lost", "protocol_violation", "stopped"} <= ends
    assert {"completed", "failed", "stopped"} <= {course.training_status for course in courses}
    assert "store_unavailable" in {code for course in courses for code in course.refusals}
    assert sum(len(course.weights) for course in courses) > 2 * len(courses)
    assert max(course.messages[-1][0] for course in courses) > 10  # virtual seconds
