"""Updates become one state: by the policy, in slot order, and only from what was delivered."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.coordinate_median import CoordinateMedian
from flow_nexus_neural.coordination.consensus.policy import Combined
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.versions.aggregate import aggregate
from flow_nexus_neural.errors import RoundFailed
from tests.unit.engine.building import network, state

MEAN, MEDIAN = FederatedAveraging(), CoordinateMedian()
OF = network()
BASE = state(OF.plan, seed=0, opt_step=4)


def update(number, rows=10, opt_step=9, **arrays):
    made = replace(state(OF.plan, seed=number + 1, opt_step=opt_step), **arrays)
    return Update(
        f"worker-{number}",
        made,
        "d",
        rows=rows,
        steps=5,
        opt_step=made.opt_step,
        loss=0.1,
        cpu_s=0.0,
    )


class LeavesOut:
    """A policy that leaves out the updates at these positions and averages the others."""

    name, aliases = "leaves_out", ()

    def __init__(self, *positions):
        self.positions = positions

    def combine(self, base, updates, rows):
        kept = [k for k in range(len(updates)) if k not in self.positions]
        vectors = {
            name: np.mean([updates[k][name] for k in kept], axis=0) if kept else base[name]
            for name in base
        }
        weights = tuple(1 / len(kept) if k in kept else 0.0 for k in range(len(updates)))
        reasons = dict.fromkeys(self.positions, "too far")
        return Combined(vectors, weights if kept else None, reasons, {"kept": len(kept)})


def test_the_mean_weighs_every_array_by_rows():
    updates = [update(0, rows=10), update(1, rows=30), update(2, rows=2)]
    made = aggregate(BASE, updates, MEAN)
    rows = np.array([10, 30, 2], "f8")
    for name, array in made.state.arrays.items():
        stacked = np.stack([one.state.arrays[name].astype("f8") for one in updates])
        expected = (rows[:, None] * stacked).sum(axis=0) / rows.sum()
        np.testing.assert_allclose(array, expected, rtol=1e-6)
        assert array.dtype == np.float32
    assert made.weights == {
        "worker-0": pytest.approx(10 / 42),
        "worker-1": pytest.approx(30 / 42),
        "worker-2": pytest.approx(2 / 42),
    }


def test_the_median_outvotes_one_that_lies_and_gives_nobody_a_weight():
    lie = np.full_like(BASE.params, 1e6)
    honest = [update(0), update(1)]
    made = aggregate(BASE, [*honest, update(2, params=lie)], MEDIAN)
    low, high = (
        extreme([one.state.params for one in honest], axis=0) for extreme in (np.min, np.max)
    )
    assert (made.state.params >= low - 1e-5).all()
    assert (made.state.params <= high + 1e-5).all()
    assert made.weights is None
    mean = aggregate(BASE, [*honest, update(2, params=lie)], MEAN)
    assert (mean.state.params > high).all()  # so that it was the policy which held


def test_equal_updates_stay_what_they_are_bit_for_bit():
    same = [replace(update(1, rows=n + 3), slot=f"worker-{n}") for n in range(5)]
    made = aggregate(BASE, same, MEAN)
    for name, array in made.state.arrays.items():
        assert array.tobytes() == same[0].state.arrays[name].tobytes()


def test_arrays_that_no_update_brings_stay_those_of_the_base():
    bare = [update(n, moments={}) for n in range(2)]
    made = aggregate(BASE, bare, MEAN)
    assert set(made.state.moments) == {"m", "v"}
    assert made.state.moments["m"] is BASE.moments["m"]
    assert not np.array_equal(made.state.params, BASE.params)


def test_the_step_counter_is_the_mean_by_rows_of_those_that_were_used():
    updates = [
        update(0, rows=10, opt_step=10),
        update(1, rows=30, opt_step=20),
        update(2, rows=999, opt_step=1000),
    ]
    assert aggregate(BASE, updates, LeavesOut(2)).state.opt_step == 18  # 17.5, halves up
    assert aggregate(BASE, updates, MEAN).state.opt_step == 962


def test_who_was_left_out_is_named_by_slot_with_the_reason():
    made = aggregate(BASE, [update(n) for n in range(3)], LeavesOut(1))
    assert made.excluded == {"worker-1": "too far"}
    assert made.weights == {"worker-0": 0.5, "worker-1": 0.0, "worker-2": 0.5}
    assert made.evidence == {"kept": 2}


def test_nothing_is_made_of_no_update():
    with pytest.raises(RoundFailed, match="no worker delivered") as failure:
        aggregate(BASE, [], MEAN)
    assert failure.value.code == "round_failed"


def test_nothing_is_made_when_the_policy_leaves_out_all():
    updates = [update(n) for n in range(6)]
    with pytest.raises(RoundFailed, match="leaves_out left out every update") as failure:
        aggregate(BASE, updates, LeavesOut(*range(6)))
    assert "worker-3: too far" in failure.value.message
    assert (
        "worker-4" not in failure.value.message
    )  # a bound, so that no message grows with the cluster


@pytest.mark.parametrize("policy", [MEAN, MEDIAN], ids=lambda policy: policy.name)
def test_neither_base_nor_updates_are_written_to(policy):
    updates = [update(n) for n in range(3)]
    states = (BASE, *(one.state for one in updates))
    before = [a.tobytes() for one in states for a in one.arrays.values()]
    aggregate(BASE, updates, policy)
    assert [a.tobytes() for one in states for a in one.arrays.values()] == before
