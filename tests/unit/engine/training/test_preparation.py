"""A training is right before it starts: its data, networks and shards; a refusal touches no node."""

import numpy as np
import pytest

from flow_nexus_neural.engine.training.preparation import (
    _data_request,
    healthy_workers,
    prepare_training,
)
from flow_nexus_neural.errors import (
    DataTooSmall,
    InvalidArguments,
    NoWorkers,
)
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.unit.engine.running import LAYERS, OTHER_LAYERS, ROWS, rows, running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def prepared(w, ordinal=0, **more):
    return await prepare_training(w.cluster, w.train_request(**more), ordinal)


async def test_every_training_row_belongs_to_exactly_one_worker(tmp_path):
    async with running(tmp_path, 3) as w:
        found = await prepared(w)
        own = np.concatenate(list(found.shards.rows.values()))
        assert sorted(own) == list(range(len(found.data.parts["train"].y)))
        assert sum(len(part.y) for part in found.data.parts.values()) <= ROWS
        assert found.dataset.rows == ROWS
        assert found.dataset.split.train == len(own)


async def test_no_node_is_touched(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 2, faults=faults) as w:
        before = [n.bytes_sent for n in w.runtime.nodes]
        await prepared(w)
        assert [n.bytes_sent for n in w.runtime.nodes] == before
        assert w.cluster.state.trainings == []
        assert w.cluster.state.networks_made == 0


async def test_without_a_worker_there_is_nothing_to_train_and_the_hint_fits_the_reason(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.deploy("validator")
        w.slots["worker-0"].fail("dead")
        with pytest.raises(NoWorkers, match="0 of 1 workers, 1 of 1 validators") as refusal:
            await prepared(w)
        assert refusal.value.hint.startswith("replace worker-0")
    async with running(tmp_path / "none", 0) as w:
        with pytest.raises(NoWorkers) as refusal:
            healthy_workers(w.cluster)
        assert refusal.value.hint == "deploy one with neural_node_deploy (role: worker)"


async def test_only_healthy_workers_get_rows(tmp_path):
    async with running(tmp_path, 3) as w:
        w.slots["worker-1"].fail("dead")
        found = await prepared(w)
        assert set(found.shards.rows) == {"worker-0", "worker-2"}
        assert found.networks["c0"].slots == ("worker-0", "worker-2")


async def test_too_few_rows_are_refused(tmp_path):
    async with running(tmp_path, 1) as w:
        with pytest.raises(DataTooSmall):
            await prepared(w, dataset=rows(8))


async def test_what_contradicts_the_number_of_workers_is_refused(tmp_path):
    async with running(tmp_path, 2) as w:
        with pytest.raises(InvalidArguments, match="above the 2 workers that can train"):
            await prepared(w, federated=True, clients_per_round=3)
        with pytest.raises(NoWorkers, match="a round needs 3 workers and 2 take part"):
            await prepared(w, federated=True, min_nodes_per_round=3)


@pytest.mark.usefixtures("workers_share")
async def test_a_test_row_never_becomes_a_training_row_whatever_seed_a_training_has(tmp_path):
    async with running(tmp_path, 2) as w:
        found = [await prepared(w, ordinal, seed=seed) for ordinal, seed in ((0, 1), (1, 99))]
        for part in ("train", "test", "select"):
            one, other = (made.data.parts[part] for made in found)
            assert one.x.tobytes() == other.x.tobytes()
            assert one.y.tobytes() == other.y.tobytes()
        shards = [made.shards.rows["worker-0"] for made in found]
        assert not np.array_equal(*shards)  # who gets which of them is drawn anew
        assert [made.config.seed for made in found] == [1, 99]


@pytest.mark.usefixtures("workers_share")
async def test_the_clusters_seed_and_the_ordinal_decide_where_none_is_given(tmp_path):
    async with running(tmp_path, 2) as w:
        first, again, second = [await prepared(w, ordinal) for ordinal in (0, 0, 1)]
        assert first.config.seed == w.cluster.spec.seed
        for name, own in first.shards.rows.items():
            np.testing.assert_array_equal(own, again.shards.rows[name])
        assert not np.array_equal(first.shards.rows["worker-0"], second.shards.rows["worker-0"])


async def test_rows_for_ensemble_weights_are_kept_where_two_networks_are_trained_and_only_there(
    tmp_path,
):
    many = rows(2_000)
    async with running(tmp_path, 2) as w:
        one = await prepared(w, dataset=many)
        assert (one.dataset.split.train, one.dataset.split.meta) == (1580, 0)
        await w.deploy(layers=OTHER_LAYERS)
        two = await prepared(w, dataset=many)
        assert (two.dataset.split.train, two.dataset.split.meta) == (1380, 200)
        tested = [
            made.data.parts["test"].y * made.data.schema.target_sd + made.data.schema.target_mean
            for made in (one, two)
        ]
        np.testing.assert_allclose(*tested, atol=1e-5)
        w.slots["worker-2"].fail("dead")
        assert (await prepared(w, dataset=many)).dataset.split.meta == 0


async def test_rows_for_roles_are_kept_where_there_is_such_a_node_and_only_there(tmp_path):
    values, classes = rows(2_000), {**rows(2_000), "y": [k % 2 for k in range(2_000)]}

    async def kept(w, data):
        split = (await prepared(w, dataset=data)).dataset.split
        return split.meta, split.verify

    async with running(tmp_path, 2) as w:
        assert await kept(w, classes) == (0, 0)
        await w.deploy(role="validator")
        assert await kept(w, classes) == (0, 140), (
            "a validator learns from decisions between classes"
        )
        assert await kept(w, values) == (0, 0), "and of values there is nothing to be right about"
        await w.deploy(role="aggregator")
        assert await kept(w, values) == (200, 140), (
            "an aggregator learns, and is admitted, on either"
        )


async def test_rows_kept_for_ensemble_weights_give_them_and_without_such_rows_nodes_weigh_the_same(
    tmp_path,
):
    async with running(tmp_path, 1) as w:
        await w.train(dataset=rows(2_000), epochs=1)
        assert w.committed.bundle.weights_source == "equal"
        await w.deploy(layers=OTHER_LAYERS)
        await w.train(dataset=rows(2_000), epochs=1)
        assert w.committed.bundle.weights_source == "validation loss"


async def test_sizes_and_folds_reach_the_data(tmp_path):
    async with running(tmp_path, 1) as w:
        found = await prepared(w, test_size=0.5, validation_size=8)
        split = found.dataset.split
        assert (split.train, split.select, split.test) == (24, 8, 32)
        with pytest.raises(InvalidArguments, match=r"folds .split=walk_forward. need rows in time"):
            await prepared(w, folds=3)
        table = [{"time": i, "a": i % 7, "y": i % 2} for i in range(ROWS)]
        assert len((await prepared(w, dataset=table, folds=3)).data.folds) == 2


async def test_weights_that_learnt_from_what_is_a_test_row_now_are_reported(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        said = "divided otherwise than in the training that this one goes on from"
        assert not any(said in warning for warning in (await prepared(w, 1)).warnings)
        found = await prepared(w, 1, test_size=0.4)
        assert found.continues
        assert any(said in warning for warning in found.warnings)
        other = await prepared(w, 1, test_size=0.4, dataset=rows(ROWS + 20))
        assert not any(said in warning for warning in other.warnings)


async def test_what_the_caller_insists_on_is_told_apart_from_a_default(tmp_path):
    async with running(tmp_path, 3) as w:
        asked = await prepared(w, federated=True, min_nodes_per_round=2)
        assert asked.least_workers == 2
        default = await prepared(w, federated=True)
        assert (default.least_workers, default.config.min_nodes_per_round) == (1, 2)


async def test_warnings_of_data_shards_and_networks_all_arrive(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.deploy(layers=({"type": "conv1d", "filters": 2, "kernel_size": 1}, *LAYERS))
        found = await prepared(w, federated=True, partition="capability")
        assert any("rows are below 2000" in warning for warning in found.warnings)
        assert any("the data have no symbols" in warning for warning in found.warnings)
        assert any(warning.startswith("worker-1: ") for warning in found.warnings)


async def test_under_privacy_no_rows_are_kept_for_roles_that_learn_nothing_then(tmp_path):
    async with running(tmp_path, 1) as w:
        for role in ("aggregator", "validator"):
            await w.deploy(role)
        plain, workers = w.train_request(), healthy_workers(w.cluster)
        private = plain.model_copy(update={"privacy": {"epsilon": 1.0}})
        for asked, kept in ((plain, True), (private, False)):
            made = _data_request(w.cluster, asked, workers)
            assert (made.stacking, made.admitting, made.doubting) == (kept, kept, kept)
