"""The committed model, written and read back, and who belongs to it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.engine.state.network_groups import ADAGRAD_START
from flow_nexus_neural.engine.state.version import load_committed, model_digest
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.versions.commit import recent_files
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.kernels.calibration import Calibrator
from tests.unit.engine.building import bundle, committed, network, plan, state


def stored_model(tmp_path):
    """A version with two networks, its files written."""
    files = CheckpointFiles(tmp_path)
    networks = []
    for key, slots, seed in (("c0", ("worker-0", "worker-1"), 1), ("c1", ("worker-2",), 2)):
        made = network(key, slots, state=state(plan(), seed), version=4, rows={slots[0]: 31})
        blob, _ = files.write(made.tensors(made.state), {})
        moments, _ = files.write(made.state.moments, {})
        digest = made.digest_of(made.state)
        networks.append(replace(made, blob=blob, moments_blob=moments, digest=digest))
    of_bundle = bundle(
        {"worker-0": 0.5, "worker-1": 0.3, "worker-2": 0.2},
        digests={c.key: c.digest for c in networks},
        calibrators={"mean": Calibrator("platt", 1.25, -0.5)},
        error_correlation=0.3,
    )
    recent = recent_files(None, {c.key: c for c in networks}, 5)
    best = {c.key: c.blob for c in networks}
    return files, committed(networks, of_bundle, recent=recent, best=best)


def through_json(model):
    return json.loads(json.dumps(model.to_json()))


def test_a_version_reads_back_as_it_was(tmp_path):
    files, model = stored_model(tmp_path)
    again = load_committed(through_json(model), files)
    assert again.to_json() == model.to_json()
    assert again.bundle == model.bundle
    assert again.bundle.sha == model.bundle.sha
    for key, one in model.networks.items():
        other = again.networks[key]
        assert other.state.opt_step == 7
        for name, array in one.state.arrays.items():
            assert np.array_equal(array, other.state.arrays[name])
        assert replace(other, state=None) == replace(one, state=None)
    assert again.blobs == model.blobs
    assert len(model.blobs) == 4


def test_altered_missing_or_foreign_checkpoints_are_not_served(tmp_path):
    files, model = stored_model(tmp_path)
    stored = through_json(model)
    foreign = through_json(model)
    foreign["cohorts"]["c0"]["blob"] = model.networks["c1"].blob
    with pytest.raises(StoreCorrupt, match="the journal says"):
        load_committed(foreign, files)
    moments = through_json(model)
    moments["cohorts"]["c0"]["blob"] = model.networks["c0"].moments_blob
    with pytest.raises(StoreCorrupt, match="does not hold the tensors"):
        load_committed(moments, files)
    file = files.path(model.networks["c0"].blob)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(StoreCorrupt, match="has changed"):
        load_committed(stored, files)
    file.unlink()
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        load_committed(stored, files)


def test_the_bundle_is_named_by_what_shapes_an_answer_and_nothing_else():
    one = bundle({"worker-0": 1.0})
    assert replace(one, parity=0).sha == one.sha
    for change in (
        {"version": 4},
        {"digests": {"c0": "d1"}},
        {"slot_weights": {"worker-0": 0.5}},
        {"calibrators": {"mean": Calibrator("temperature", 2.0, 0.0)}},
        {"residual_quantiles": {"mean": 1.0}},
    ):
        assert replace(one, **change).sha != one.sha


@pytest.mark.parametrize(
    ("optimizer", "moments"), [("adam", "mv"), ("sgd", ""), ("rmsprop", "v"), ("adagrad", "v")]
)
def test_another_optimizer_starts_afresh_from_the_same_weights(optimizer, moments):
    before = state(plan())
    after = before.with_fresh_moments(optimizer)
    assert np.array_equal(after.params, before.params)
    assert (set(after.moments), after.opt_step) == (set(moments), 0)
    start = ADAGRAD_START if optimizer == "adagrad" else 0
    assert all((array == np.float32(start)).all() for array in after.moments.values())


def test_a_state_with_one_bad_value_is_not_finite():
    one = state(plan())
    assert one.is_finite
    one.moments["v"][0] = np.inf
    assert not one.is_finite


def test_the_last_files_are_kept_in_order_without_repeats():
    former = committed([network()], bundle({}), recent={"c0": ("a", "b", "c")})
    for blob, keep, expected in (
        ("d", 3, ("b", "c", "d")),
        ("c", 3, ("a", "b", "c")),
        ("d", 9, ("a", "b", "c", "d")),
    ):
        assert recent_files(former, {"c0": network(blob=blob)}, keep) == {"c0": expected}
    assert recent_files(former, {"c1": network("c1", blob="x")}, 3) == {"c1": ("x",)}


def test_one_network_is_the_model_and_several_are_named_together():
    assert model_digest({"c0": "d0"}) == "d0"
    both = model_digest({"c0": "d0", "c1": "d1"})
    assert both not in ("d0", "d1")
    assert both != model_digest({"c0": "d1", "c1": "d0"})


def test_slots_join_and_leave_a_version():
    one = committed([network(slots=("worker-0",))], bundle({"worker-0": 1.0}))
    two = one.with_slot("worker-1", "c0")
    assert two.network_of("worker-1").key == "c0"
    assert two.bundle.slot_weights == {"worker-0": 1.0, "worker-1": 1.0}
    assert one.network_of("worker-1") is None
    back = two.without_slot("worker-1")
    assert back.network_of("worker-1") is None
    assert back.bundle.sha == one.bundle.sha


def test_the_next_version_keeps_the_slots_that_came_meanwhile():
    former = committed([network(slots=("worker-0", "worker-3"))], bundle({"worker-3": 1.0}))
    following = committed([network(slots=("worker-0",))], bundle({"worker-0": 1.0}), version=4)
    merged = following.with_slots_of(former)
    assert (merged.version, merged.networks["c0"].slots) == (4, ("worker-0", "worker-3"))
    other = committed([network("c9", slots=("worker-7",))], bundle({"worker-7": 1.0}))
    assert following.with_slots_of(other) == following
    assert following.with_slots_of(None) == following


def test_a_training_moves_on_to_what_was_committed_beside_it():
    trained = network(state=state(plan(), 1), version=3, moments_blob="m3")
    beside = network(state=state(plan(), 2), version=4, digest="d4", blob="b4", moments_blob="m4")
    newest = committed([beside], bundle({})).newest(trained)
    assert (newest.version, newest.digest, newest.blob) == (4, "d4", "b4")
    assert newest.moments_blob == "m4"
    assert np.array_equal(newest.state.params, beside.state.params)
    assert np.array_equal(newest.state.moments["m"], trained.state.moments["m"])
    assert committed([trained], bundle({})).newest(beside) is beside
    assert committed([network("c9")], bundle({})).newest(trained) is trained
