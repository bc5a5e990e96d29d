"""The rows from which aggregators learn to combine slots."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.training.roles.lesson import held_out
from flow_nexus_neural.engine.training.roles.stacker import COPIES, Stacking
from flow_nexus_neural.engine.versions.members import Members
from tests.unit.engine.building import bundle, schema

SLOTS = {"worker-0": "c0", "worker-1": "c1"}
RUN = (1, 0)


def part(n, seed):
    draw = np.random.Generator(np.random.PCG64(seed))
    nobody = np.full(n, -1, "i4")
    y = (np.arange(n) % 2).astype("f4")
    return Rows(draw.standard_normal((n, 2)).astype("f4"), y, nobody, nobody)


def stacking(meta=100, **more):
    sizes = {"meta": meta, "verify": 80, "calib": 60, "test": 40}
    parts = {name: part(n, n) for name, n in sizes.items()}
    knows = {name: (4 * rows.y[:, None] - 2) for name, rows in parts.items()}
    blind = {name: np.zeros((len(rows), 1), "f4") for name, rows in parts.items()}
    own = bundle({slot: 0.5 for slot in SLOTS})  # noqa: C420  one share each
    members = Members(schema(), parts, SLOTS, own, own, {"c0": knows, "c1": blind}, None, **more)
    return Stacking(members, {})


def test_rows_held_out_are_not_trained_on():
    lesson = stacking().lesson("aggregator-0", RUN, resampled=False)
    assert len(lesson.held) == 20
    assert len(lesson.fit) == 80 * (1 + COPIES)
    assert set(lesson.further) == {"verify", "calib", "test"}
    assert lesson.input.n_scalars == lesson.fit.x.shape[1]


def test_the_latest_rows_are_held_out_where_rows_have_an_order():
    assert np.flatnonzero(held_out(10, ordered=True)).tolist() == [8, 9]
    assert np.flatnonzero(held_out(10, ordered=False)).tolist() == [4, 9]


def test_only_copies_lack_answers():
    stack = stacking()
    lesson = stack.lesson("aggregator-0", RUN, resampled=False)
    masks = lesson.fit.x[:, [1, 3]]  # value and mask by column
    assert masks[:80].all()
    assert not masks[80:].all()
    assert masks.any(axis=1).all(), "a row without any answer teaches nothing"
    assert 1 - masks[80:].mean() == pytest.approx(0.2, abs=0.08)


def test_each_of_several_aggregators_draws_rows_of_its_own():
    one, other, again = (
        stacking().lesson(name, RUN, resampled=True).fit.x
        for name in ("aggregator-0", "aggregator-1", "aggregator-0")
    )
    assert (one == again).all()
    assert (one != other).any()


def test_too_few_rows_teach_nothing_and_say_so():
    assert stacking().flaw is None
    assert stacking(0).flaw.startswith("there are no meta rows: none were kept")
    assert "10 meta rows" in stacking(10).flaw


def test_a_stack_that_knows_is_admitted_and_one_that_guesses_is_not():
    stack = stacking()
    y = stack.members.parts["verify"].y
    fitted = stack.members.bundle
    knows = {"verify": (8 * y[:, None] - 4).astype("f4")}
    assert stack.gate(knows, fitted).used
    guesses = {"verify": np.zeros((80, 1), "f4")}
    gate = stack.gate(guesses, fitted)
    assert not gate.used
    assert gate.own == pytest.approx(np.log(2))
    assert gate.rival == pytest.approx(np.logaddexp(0, -1.0))
    assert not stack.gate({}, fitted).used


def test_rows_in_time_order_must_show_a_gain_of_two_standard_errors():
    """Of 80 rows half lose 0.2 less than the rival's log(1 + 1/e) and half 0.133 more: 1.5 errors."""
    stack = stacking()
    y = stack.members.parts["verify"].y
    margin = np.where(np.arange(80) % 2, 2.12, 0.576)
    stacked = {"verify": ((2 * y - 1) * margin)[:, None].astype("f4")}
    gate = stack.gate(stacked, stack.members.bundle)
    assert 1 < (gate.rival - gate.own) / gate.standard_error < 2
    assert gate.used
    in_order = stack.members.schema.model_copy(update={"time_ordered": True})
    ordered = replace(stack, members=replace(stack.members, schema=in_order))
    found = ordered.gate(stacked, stack.members.bundle)
    assert (found.used, found.reason) == (False, "not better by more than 2 standard errors")
