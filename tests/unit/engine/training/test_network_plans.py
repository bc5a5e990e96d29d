"""Workers with the same layers are one network, planned for the data, continued where it is trained."""

import numpy as np
import pytest

from flow_nexus_neural.engine.training.network_plans import members_by_network
from flow_nexus_neural.engine.training.preparation import prepare_training
from flow_nexus_neural.errors import InvalidArchitecture, InvalidArguments, LimitExceeded
from tests.unit.engine.running import LAYERS, OTHER_LAYERS, ROWS, rows, running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def prepared(w, ordinal=0, **more):
    return await prepare_training(w.cluster, w.train_request(**more), ordinal)


async def test_members_are_those_with_the_same_layers_in_slot_order(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.deploy(layers=OTHER_LAYERS)
        await w.deploy()
        groups = members_by_network(w.slots.healthy("worker"), "rnn", None).values()
        assert [[slot.name for slot in group] for group in groups] == [
            ["worker-0", "worker-1", "worker-3"],
            ["worker-2"],
        ]


async def test_workers_with_the_same_layers_share_a_network_and_others_do_not(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.deploy(layers=OTHER_LAYERS)
        await w.deploy()
        found = await prepared(w)
        assert {key: network.slots for key, network in found.networks.items()} == {
            "c0": ("worker-0", "worker-1", "worker-3"),
            "c1": ("worker-2",),
        }
        assert [info.parameters for info in found.network_infos] == [4, 4]
        assert [info.input for info in found.network_infos] == [[3], [3]]
        assert not found.continues


async def test_a_network_that_does_not_fit_names_the_workers_that_have_it(tmp_path):
    conv = ({"type": "conv1d", "filters": 2, "kernel_size": 9}, {"type": "dense", "units": 1})
    async with running(tmp_path, 1) as w:
        await w.deploy(layers=conv)
        with pytest.raises(InvalidArchitecture, match="worker-1: ") as refusal:
            await prepared(w)
        assert refusal.value.code == "invalid_architecture"


async def test_a_network_that_is_too_large_names_the_workers_that_have_it(tmp_path):
    async with running(tmp_path, 1, max_parameters=1000) as w:
        await w.deploy(layers=({"type": "dense", "units": 900}, {"type": "dense", "units": 1}))
        with pytest.raises(LimitExceeded, match="worker-1: "):
            await prepared(w)


NORMALISED = [{"type": "dense", "units": 4}, {"type": "batch_normalization"}]
FROZEN = [NORMALISED[0], {"type": "batch_normalization", "trainable": False}]


async def test_batches_of_one_row_are_refused_where_a_batch_norm_learns(tmp_path):
    async with running(tmp_path, 0) as w:
        await w.deploy(layers=NORMALISED)
        with pytest.raises(InvalidArguments, match="batch_size=1: batch_normalization") as refusal:
            await prepared(w, batch_size=1)
        assert "worker-0" in refusal.value.message
        assert "batch_size 2 or more" in refusal.value.hint
        assert (await prepared(w, batch_size=2)).config.batch_size == 2


@pytest.mark.parametrize("layers", [FROZEN, LAYERS])
async def test_batches_of_one_row_are_fine_where_none_does(tmp_path, layers):
    async with running(tmp_path, 0) as w:
        await w.deploy(layers=layers)
        assert (await prepared(w, batch_size=1)).config.batch_size == 1


async def test_a_second_training_goes_on_from_the_committed_weights(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        was = w.committed.networks["c0"]
        found = await prepared(w, 1)
        (network,) = found.networks.values()
        assert found.continues
        assert (network.key, network.version, network.digest) == ("c0", was.version, was.digest)
        assert network.state is was.state
        assert not any("lineage" in warning for warning in found.warnings)


async def test_another_optimiser_keeps_the_weights_and_forgets_the_moments(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        was = w.committed.networks["c0"]
        (network,) = (await prepared(w, 1, optimizer="adagrad")).networks.values()
        assert network.state.params is was.state.params
        assert network.state.opt_step == 0 < was.state.opt_step
        np.testing.assert_array_equal(network.state.moments["v"], np.full(4, 0.1, "f4"))
        assert (network.blob, network.moments_blob) == (was.blob, None)


@pytest.mark.parametrize(
    "more",
    [
        {"dataset": {"X": [[i % 3, i % 5] for i in range(60)], "y": [i / 7 for i in range(60)]}},
        {"dataset": {**rows(), "y": [i % 2 for i in range(ROWS)]}},
    ],
    ids=["other columns", "another task"],
)
async def test_other_data_start_a_lineage_of_their_own_and_say_so(tmp_path, more):
    async with running(tmp_path, 2) as w:
        await w.train()
        found = await prepared(w, 1, **more)
        (network,) = found.networks.values()
        assert (network.key, network.state, found.continues) == ("c1", None, False)
        assert any("starts a new lineage" in warning for warning in found.warnings)


async def test_equal_columns_with_other_rows_go_on(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        assert (await prepared(w, 1, dataset=rows(ROWS + 20))).continues


async def test_a_worker_with_other_layers_starts_anew_beside_one_that_goes_on(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.train()
        await w.deploy(layers=OTHER_LAYERS)
        found = await prepared(w, 1)
        versions = {key: network.version for key, network in found.networks.items()}
        assert sorted(versions.values()) == [0, 2]
        assert versions["c0"] == 2
        assert found.continues
        assert not any("lineage" in warning for warning in found.warnings)
