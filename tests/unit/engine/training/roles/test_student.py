"""What parameter servers learn, and when they may answer."""

import pytest

from flow_nexus_neural.engine.training.roles import student
from flow_nexus_neural.engine.training.roles.student import Distilling, flaw
from flow_nexus_neural.engine.versions.members import Members
from tests.unit.engine.building import bundle, schema
from tests.unit.engine.training.roles.test_stacker import part

SIZES = {"train": 300, "select": 100, "meta": 60, "verify": 40, "calib": 40, "test": 30}


def distilling(task="binary", select=100):
    parts = {name: part(n, n) for name, n in (SIZES | {"select": select}).items()}
    logits = {name: (4 * rows.y - 2)[:, None].astype("f4") for name, rows in parts.items()}
    own = bundle({"worker-0": 1.0})
    members = Members(schema(task), parts, {"worker-0": "c0"}, own, own, {"c0": logits}, None)
    return Distilling(members, {"c0": {name: logits[name] for name in ("train", "select")}})


def test_it_learns_training_rows_with_what_is_served_for_them_and_never_meta_rows():
    of = distilling()
    lesson = of.lesson((1, 0))
    assert lesson.fit is of.members.parts["train"]
    assert lesson.held is of.members.parts["select"]
    assert lesson.teacher.tolist() == pytest.approx((4 * lesson.fit.y - 2)[:, None], abs=1e-5)
    assert set(lesson.further) == {"select", "meta", "verify", "calib", "test"}


def test_of_many_rows_it_learns_a_sample_with_their_own_teacher(monkeypatch):
    monkeypatch.setattr(student, "MAX_ROWS", 50)
    lesson = distilling().lesson((1, 0))
    assert len(lesson.fit) == len(lesson.teacher) == 50
    assert ((lesson.teacher[:, 0] > 0) == (lesson.fit.y > 0.5)).all()
    assert (distilling().lesson((1, 0)).fit.x == lesson.fit.x).all()


def test_a_teacher_of_values_speaks_in_standard_deviations():
    lesson = distilling("regression").lesson((1, 0))
    assert lesson.teacher.tolist() == pytest.approx((4 * lesson.fit.y - 2)[:, None], abs=1e-5)


def test_it_may_answer_only_where_it_is_near_its_teacher():
    of = distilling()
    y = of.members.parts["select"].y
    right = (4 * y - 2)[:, None].astype("f4")
    assert of.gate({"select": right}).used
    wrong = right.copy()
    wrong[:5] *= -1
    gate = of.gate({"select": wrong})
    assert (gate.used, gate.own, gate.rival) == (False, 0.95, 1.0)


def test_values_may_be_two_hundredths_of_the_variance_worse():
    of = distilling("regression")
    y = of.members.parts["select"].y
    teacher = (4 * y - 2)[:, None]
    assert of.gate({"select": teacher.astype("f4")}).used
    assert not of.gate({"select": (teacher + 3).astype("f4")}).used


def test_without_select_rows_nothing_could_be_held_against_the_teacher():
    assert flaw(distilling().members) is None
    assert "too few select rows" in flaw(distilling(select=10).members)
