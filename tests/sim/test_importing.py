"""An exported folder becomes a cluster with the same answers; an edited or foreign one does not."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from flow_nexus_neural.artifacts.manifest import with_manifest
from flow_nexus_neural.engine.requests import ExportRequest, ImportRequest, InitRequest
from flow_nexus_neural.engine.versions.commit import install, store_blobs, version_entry
from flow_nexus_neural.errors import (
    DatasetNotFound,
    InvalidDataset,
    LimitExceeded,
    PathNotAllowed,
    StoreUnavailable,
)
from tests.sim.simulated import blobs, world

OTHER = ({"type": "dense", "units": 4, "activation": "tanh"}, {"type": "dense", "units": 1})
LIKE = [[0.3, -1.0, 2.0], [1.0, 1.0, 1.0], [-2.0, 0.1, 0.4]]
ANSWERED = (
    "predictions",
    "confidences",
    "probabilities",
    "interval",
    "prediction_set",
    "threshold",
    "classes",
    "calibrated",
    "node_agreement",
    "consensus",
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


async def export(w, cluster, path="out", **more):
    return await w.engine.export_model(ExportRequest(cluster_id=cluster, path=path, **more))


async def bring_in(w, path="out", **more):
    return await w.engine.import_model(ImportRequest(path=path, **more))


async def answers(w, cluster, aggregation):
    reply = await w.predict(cluster, LIKE, aggregation=aggregation)
    return {name: getattr(reply, name) for name in ANSWERED}


async def same(w, cluster, twin, aggregations=("mean", "majority", "weighted", "ensemble")):
    for aggregation in aggregations:
        assert await answers(w, twin, aggregation) == await answers(w, cluster, aggregation)


async def test_the_imported_cluster_answers_to_the_bit_as_its_source_and_outlives_the_server(
    tmp_path, folder
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2, consensus="byzantine")
        await w.deploy(cluster, layers=OTHER)
        await w.deploy(cluster, role="aggregator", layers=None)
        # Enough rows for calibration, intervals, slot weights and the network of the aggregator.
        await w.train(cluster, blobs(2600), epochs=2, threshold=0.4, class_weight="balanced")
        version = w.engine.cluster(cluster).committed
        assert version.bundle.conformal
        assert version.bundle.roles.networks
        report = await export(w, cluster)
        made = await bring_in(w, name="twin", sha256=report.sha256)
        assert made.source.cluster_id == cluster
        assert made.source.version == version.version
        assert made.source.sha256 == report.sha256
        assert (made.nodes, made.healthy_nodes, made.warnings) == (4, 4, [])
        assert made.accuracy == version.accuracy
        twin = made.cluster_id
        assert w.engine.cluster(twin).spec.daa_enabled is False
        assert w.engine.cluster(twin).spec.wasm_optimization is False
        await same(w, cluster, twin)
        before = await answers(w, twin, "ensemble")
        assert w.engine.cluster(twin).committed.bundle.content == {
            **version.bundle.content,
            "version": 1,
        }
        status = await w.status(twin, detail="versions")
        assert status.versions[0].rule == f"imported from {cluster} version {version.version}"
    async with world(tmp_path) as w:
        assert await answers(w, twin, "ensemble") == before
        # It is a cluster like any other: it trains on from its weights and goes back to what was imported.
        await w.train(twin, blobs(200), epochs=1)
        assert w.engine.cluster(twin).committed.version > 1
        await w.engine.init_cluster(InitRequest(restore=twin, version=1))
        assert await answers(w, twin, "weighted") == {**await answers(w, cluster, "weighted")}


async def test_slots_keep_weights_of_their_own_under_their_names(tmp_path, folder):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await w.train(cluster, epochs=2)
        source = w.engine.cluster(cluster)
        await own_weights_for(w, source, "worker-1")
        await export(w, cluster)
        made = await bring_in(w)
        assert made.networks == 2
        twin = w.engine.cluster(made.cluster_id).committed
        assert twin.members == source.committed.members
        assert twin.members["worker-1"] == "c0@worker-1"
        await same(w, cluster, made.cluster_id)


async def own_weights_for(w, cluster, slot):
    """Commit a version in which a slot answers by weights of its own, as a personalised training does."""
    last = cluster.committed
    group = last.networks["c0"]
    state = replace(group.state, params=group.state.params * np.float32(1.5))
    own = group.personal_to(slot, state, 0)
    rest = replace(group, slots=tuple(name for name in group.slots if name != slot))
    networks, files = await store_blobs(
        cluster, last.schema, {"c0": rest, own.key: own}, frozenset({own.key}), last.bundle.rule
    )
    number = last.version + 1
    digests = {key: network.digest for key, network in networks.items()}
    bundle = replace(last.bundle, version=number, parity=number % 2, digests=digests)
    version = replace(last, version=number, networks=networks, bundle=bundle)
    entries = [version_entry(cluster, networks[own.key], number, "personalised")]
    await install(cluster, version, entries, [], files)


async def test_an_edited_foreign_or_unreachable_folder_is_refused_and_makes_nothing(
    tmp_path, folder
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster, epochs=1)
        report = await export(w, cluster)
        out = folder / "out"

        def edited(name, change):
            shutil.rmtree(folder / name, ignore_errors=True)
            shutil.copytree(out, folder / name)
            change(folder / name)
            return name

        def weights(place):
            tensors = load_file(place / "model.safetensors")
            tensors["c0/layers.0.kernel"][0, 0] += 1
            save_file(tensors, place / "model.safetensors")

        def sealed(place):
            """A forger who also writes the manifest anew."""
            files = {f.name: f.read_bytes() for f in place.iterdir() if f.name != "manifest.json"}
            for name, content in with_manifest(files).items():
                (place / name).write_bytes(content)

        def config(place, change):
            value = json.loads((place / "config.json").read_text())
            change(value["stored"])
            (place / "config.json").write_text(json.dumps(value))
            sealed(place)

        cases = [
            (edited("a", weights), InvalidDataset, "'model.safetensors' was changed", {}),
            (
                edited("b", lambda p: (weights(p), sealed(p))),
                InvalidDataset,
                "weights of network c0 are not those",
                {},
            ),
            (
                edited("c", lambda p: (p / "config.json").write_text("{}")),
                InvalidDataset,
                "'config.json' (was changed|has)",
                {},
            ),
            (edited("d", lambda p: (p / "README.md").unlink()), InvalidDataset, "is missing", {}),
            (
                edited("e", lambda p: (p / "x").write_text("")),
                InvalidDataset,
                "'x' is not part",
                {},
            ),
            (
                edited("f", lambda p: config(p, wider)),
                Exception,
                "tensor 'c0/layers.0.kernel' of the export is of shape|not what its layers give",
                {},
            ),
            (
                edited("g", lambda p: config(p, lambda s: s["bundle"].update(threshold=7))),
                InvalidDataset,
                "threshold is 7",
                {},
            ),
            (
                edited("h", lambda p: config(p, lambda s: s["bundle"].update(slot_weights={}))),
                InvalidDataset,
                "other nodes than those that serve",
                {},
            ),
            (
                edited("i", lambda p: (p / "manifest.json").unlink()),
                InvalidDataset,
                "no export",
                {},
            ),
            ("out", InvalidDataset, "another export", {"sha256": "0" * 64}),
            ("none", DatasetNotFound, "no folder", {}),
            ("../../etc", PathNotAllowed, "outside the data roots", {}),
        ]
        for path, error, match, more in cases:
            with pytest.raises(error, match=match):
                await bring_in(w, path, **more)
        assert len((await w.engine.clusters()).clusters) == 1
        files = sorted((tmp_path / "blobs").rglob("*.safetensors"))
        made = await bring_in(w, sha256=report.sha256)
        assert made.healthy_nodes == 1
        await same(w, cluster, made.cluster_id)
        assert len(sorted((tmp_path / "blobs").rglob("*.safetensors"))) > len(files)


def wider(stored):
    """A layer said to be wider than its tensors."""
    layers = stored["networks"]["c0"]["plan"]["layers"]
    layers[0]["args"]["units"] = 7


async def test_limits_of_the_server_hold_for_imports(tmp_path, folder):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.train(cluster, epochs=1)
        await export(w, cluster)
    for limit, match in (
        ({"max_nodes": 1}, "has 2 nodes; the limit is 1"),
        ({"max_parameters": 5}, "parameters; the limit is 5"),
        ({"max_clusters": 1}, "1 live clusters"),
    ):
        async with world(tmp_path, **limit) as w:
            with pytest.raises(LimitExceeded, match=match):
                await bring_in(w)


async def test_a_disk_that_fails_while_it_is_made_durable_leaves_nothing(tmp_path, folder):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster, epochs=1)
        await export(w, cluster)
        before = sorted((tmp_path / "blobs").rglob("*.safetensors"))
        store = w.engine.context.store
        commit = store.commit_version

        async def full(*arguments, **more):
            raise StoreUnavailable("could not write: No space left on device")

        store.commit_version = full
        with pytest.raises(StoreUnavailable):
            await bring_in(w)
        store.commit_version = commit
        assert sorted((tmp_path / "blobs").rglob("*.safetensors")) == before
        assert len((await w.engine.clusters()).clusters) == 1


async def test_a_cluster_under_raft_is_agreed_on_again_from_what_was_imported(tmp_path, folder):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, consensus="raft")
        await w.train(cluster, epochs=1)
        await export(w, cluster)
        made = await bring_in(w, name="twin")
        await same(w, cluster, made.cluster_id)
        status = await w.train(made.cluster_id, epochs=1)
        assert status.training_status == "completed"
        assert w.engine.cluster(made.cluster_id).committed.version > 1
