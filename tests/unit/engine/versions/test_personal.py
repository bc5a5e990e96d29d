"""Own weights answer only where the answer of all slots gets better by them, on rows nobody trained on."""

import numpy as np
import pytest

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.versions.personal import (
    MOST_TRIED,
    Outputs,
    choose,
    with_personal,
)
from tests.unit.engine.building import bundle, network, schema, state

N = 200


def draw(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def rows(y, clients=None):
    nothing = np.full(len(y), -1, "i4")
    of = nothing if clients is None else np.asarray(clients, "i4")
    return Rows(np.zeros((len(y), 2), "f4"), np.asarray(y), nothing, of)


Y = (np.arange(N) % 2).astype("f4")
TRUTH = np.where(Y > 0.5, 1.0, -1.0)


def said(right, noise=0.0, seed=0):
    """[N, 1] logits that are right by so much, and off by so much noise."""
    return (right * TRUTH + noise * draw(seed).standard_normal(N))[:, None].astype("f4")


def choice(personal, shared, *, task="binary", own=None, y=Y, clients=None, of=None, **schema_of):
    slots = {f"worker-{k}": logits for k, logits in enumerate(shared)}
    personal = {f"worker-{k}": logits for k, logits in personal.items()}
    everywhere = np.ones(N, bool)
    outputs = Outputs(slots, personal, own or dict.fromkeys(personal, everywhere))
    made = of or bundle({slot: 1 / len(slots) for slot in slots})
    return choose(made, schema(task, **schema_of), rows(y, clients), outputs)


def test_weights_that_make_the_whole_answer_better_answer():
    shared = [said(1.0, 2.5, seed=9)] * 3
    found = choice({k: said(1.0, 1.8, seed=k) for k in range(3)}, shared)
    # None of the three is better alone by much: they are right on other rows.
    assert len(found.kept) >= 2
    assert found.personal_loss < found.shared_loss - found.standard_error
    assert "better" in found.reason


def test_a_slot_whose_own_weights_are_bad_goes_on_with_the_shared_ones():
    shared = [said(0.5)] * 3
    found = choice({0: said(2.0), 1: said(-3.0), 2: said(2.0)}, shared)
    assert found.kept == ("worker-0", "worker-2")
    assert found.own["worker-1"][0] > found.own["worker-1"][1]


def test_what_helps_by_less_than_its_error_is_not_kept():
    shared = said(1.0, 0.5, seed=9)
    personal = shared + 0.02 * draw(3).standard_normal((N, 1)).astype("f4")
    found = choice({0: personal, 1: personal}, [shared, shared])
    assert found.kept == ()
    assert f"{N} validation rows" in found.reason


def test_a_gain_of_one_standard_error_may_be_that_of_the_luckiest():
    shared, better = said(0.0), said(0.0)
    better[:58] = 0.1 * TRUTH[:58, None].astype("f4")
    better[58:100] = -0.1 * TRUTH[58:100, None].astype("f4")
    usual = choice({0: better, 1: better}, [shared, shared])
    gain = usual.shared_loss - usual.personal_loss
    assert usual.standard_error < gain < 2 * usual.standard_error
    assert usual.kept == ()


def test_a_lower_loss_with_fewer_right_decisions_is_not_better():
    shared = said(0.1)
    better = said(3.0)
    better[:4] *= -0.01  # wrong, but hardly sure of it
    found = choice({0: better, 1: better}, [shared, shared])
    assert found.personal_loss < found.shared_loss
    assert found.kept == ()
    assert "fewer validation rows rightly" in found.reason


@pytest.mark.parametrize(("robust", "kept"), [(False, True), (True, False)])
def test_under_byzantine_consensus_the_middle_client_must_gain_too(robust, kept):
    shared, better = said(0.5), said(0.5)
    better[:120] += 2.0 * TRUTH[:120, None].astype("f4")
    better[120:] -= 0.1 * TRUTH[120:, None].astype("f4")
    clients = np.repeat([0, 1, 2], [120, 40, 40])  # one client with most of the rows
    slots = {"worker-0": 0.5, "worker-1": 0.5}
    found = choice(
        {0: better, 1: better},
        [shared, shared],
        clients=clients,
        of=bundle(slots, robust=robust),
    )
    assert bool(found.kept) is kept


def test_slots_are_ranked_by_what_they_gain_on_rows_like_their_own():
    first, rest = np.arange(N) < 60, np.arange(N) >= 60
    shared = said(0.4)
    expert = said(0.4)
    expert[first] = 3.0 * TRUTH[first, None].astype("f4")
    own = {"worker-0": first, "worker-1": rest}
    found = choice({0: expert, 1: said(0.3)}, [shared, shared], own=own)
    assert found.kept == ("worker-0",)
    assert found.own["worker-0"][0] < 0.1 < found.own["worker-0"][1]


def test_values_are_compared_in_variances_of_the_target():
    y = draw(1).standard_normal(N).astype("f4")
    shared = (y + draw(2).standard_normal(N))[:, None].astype("f4")
    better = (y + 0.1 * draw(3).standard_normal(N))[:, None].astype("f4")
    found = choice({0: better, 1: better}, [shared, shared], task="regression", y=y)
    assert found.kept == ("worker-0", "worker-1")
    assert found.shared_loss == pytest.approx(float(((shared[:, 0] - y) ** 2).mean()), rel=1e-3)


def test_of_many_slots_some_numbers_are_tried_and_the_last_is_all():
    n = 3 * MOST_TRIED
    shared = [said(1.0, 2.0, seed=99)] * n
    found = choice({k: said(1.0, 2.0, seed=k) for k in range(n)}, shared)
    assert len(found.kept) in {3 * number for number in range(1, MOST_TRIED + 1)}


def test_personal_slots_leave_the_group_that_they_come_from_and_no_other():
    shared = network("c0", ("worker-0", "worker-1", "worker-2"))
    other = network("c1", ("worker-3",))
    own = shared.personal_to("worker-1", state(shared.plan), version=4)
    found = with_personal({"c0": shared, "c1": other}, {own.key: own})
    assert {key: one.slots for key, one in found.items()} == {
        "c0": ("worker-0", "worker-2"),
        "c1": ("worker-3",),
        "c0@worker-1": ("worker-1",),
    }
    assert (own.is_personal, own.shared_key, own.version) == (True, "c0", 4)
    assert (own.state.moments, own.blob, own.moments_blob) == ({}, None, None)
    assert not shared.is_personal
    assert shared.shared_key == "c0"
