"""A damaged newest version costs no cluster: the newest whole one answers, and everything says so."""

import pytest

from flow_nexus_neural.engine.operations.fall_back import fall_back_of, told_of_fall_back
from flow_nexus_neural.engine.storage.verification import verify
from flow_nexus_neural.errors import StoreCorrupt
from tests.doubles.seeded import run_seeded
from tests.sim.scheduled import scheduled_world


def flip(state_dir, sha):
    path = state_dir / "blobs" / sha[:2] / f"{sha}.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


async def trained(state_dir, epochs=3, *, until_round=None, **init):
    """What is in force when the server ends: the whole version, and what it answered before."""
    async with scheduled_world(state_dir) as w:
        cluster = await w.cluster(2, **init)
        if until_round is None:
            await w.train(cluster, epochs=epochs)
        else:
            await w.start(cluster, epochs=epochs)
            await w.rounds(cluster, until_round)
        return cluster, (await w.whole(cluster)).committed


def weights_of(version):
    (network,) = version.networks.values()
    return network


def test_the_newest_whole_version_answers_and_everything_names_the_damage(tmp_path):
    async def scenario():
        cluster, present = await trained(tmp_path)
        sha = weights_of(present).blob
        flip(tmp_path, sha)
        assert not verify(tmp_path).ok
        whole = [line for line in present.kept if sha not in line.blobs][-1]
        for again in range(2):  # the next server still says so
            async with scheduled_world(tmp_path) as w:
                answer = await w.predict(cluster)
                assert answer.model_version == present.version + 1
                status = await w.status(cluster)
                (told,) = [text for text in status.warnings if "is lost" in text]
                assert f"version {present.version} is lost" in told
                assert sha[:12] in told
                assert f"version {whole.version} was put in force again" in told
                committed = (await w.whole(cluster)).committed
                assert weights_of(committed).digest == whole.digest
                assert sha not in committed.blobs
                versions = await w.versions(cluster)
                assert versions[-1]["rule"] == "rollback"
                if again:
                    await w.train(cluster, epochs=1)
                    assert not any("is lost" in text for text in (await w.status(cluster)).warnings)
        assert (tmp_path / "damaged" / f"{sha}.safetensors").is_file()
        assert verify(tmp_path).damages == []

    run_seeded(scenario)


def test_where_only_moments_are_damaged_the_weights_stay(tmp_path):
    async def scenario():
        cluster, present = await trained(tmp_path)
        network = weights_of(present)
        if network.moments_blob is None:
            pytest.skip("this training keeps no moments")
        flip(tmp_path, network.moments_blob)
        async with scheduled_world(tmp_path) as w:
            committed = (await w.whole(cluster)).committed
            assert weights_of(committed).digest == network.digest
            assert committed.version == present.version + 1

    run_seeded(scenario)


def test_a_training_that_ran_ends_with_the_reason(tmp_path):
    async def scenario():
        cluster, present = await trained(tmp_path, epochs=50, until_round=3)
        flip(tmp_path, weights_of(present).blob)
        async with scheduled_world(tmp_path) as w:
            status = await w.status(cluster)
            assert status.training_status == "failed"
            assert f"version {present.version} is lost" in status.training_error
            assert (await w.predict(cluster)).model_version == present.version + 1
        assert verify(tmp_path).damages == []

    run_seeded(scenario)


@pytest.mark.parametrize("consensus", ["proof-of-learning", "raft"])
def test_where_nothing_is_whole_or_voters_decide_the_cluster_is_refused_alone(tmp_path, consensus):
    async def scenario():
        cluster, present = await trained(tmp_path, consensus=consensus)
        damaged = present.weight_files if consensus == "raft" else present.blobs
        for sha in damaged:
            flip(tmp_path, sha)
        async with scheduled_world(tmp_path, seed=5) as w:
            with pytest.raises(StoreCorrupt, match=min(present.weight_files)[:12]):
                await w.status(cluster)
            await w.cluster(1)

    run_seeded(scenario)


def test_what_is_said_belongs_to_the_version_that_took_the_place():
    entry = {"damaged_files": ["ab" * 32], "model_version": 5, "replaced": 4, "restored": 3}
    assert fall_back_of([entry], 5) == told_of_fall_back(4, 3, ("ab" * 32,))
    assert fall_back_of([entry], 6) is None
    assert fall_back_of([{"model_version": 5}], 5) is None
