"""A course has what all rounds share, and asks no more workers than was said."""

import dataclasses

import pytest

from flow_nexus_neural.engine.training.course import Course


def test_a_course_stays_the_same_and_samples_clients_unless_it_is_said_to_ask_everybody():
    course = Course(config=None, recipe=None, rows=None, cut=None, least_workers=1, run=(1, 0))
    assert (course.everybody, course.trusted) == (False, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        course.least_workers = 2
