"""A committed version leaves as files that answer as the cluster's own nodes do, whole or not at all."""

import hashlib
import json
import os
from contextlib import contextmanager

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from safetensors.numpy import load_file

from flow_nexus_neural.artifacts.safetensors_folder import SafetensorsFolder
from flow_nexus_neural.engine.requests import ExportRequest
from flow_nexus_neural.errors import (
    InvalidArguments,
    NotTrained,
    PathNotAllowed,
    StoreCorrupt,
    StoreUnavailable,
)
from tests.sim.simulated import world

OTHER = ({"type": "dense", "units": 4, "activation": "tanh"}, {"type": "dense", "units": 1})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


async def export(w, cluster, path, **more):
    return await w.engine.export_model(ExportRequest(cluster_id=cluster, path=path, **more))


async def test_a_folder_holds_the_version_and_says_how_far_it_is_from_the_nodes(tmp_path, folder):
    async with world(tmp_path) as w:
        untrained = await w.cluster(1, name="untrained")
        with pytest.raises(NotTrained):
            await export(w, untrained, "none")
        cluster = await w.cluster(2)
        await w.deploy(cluster, layers=OTHER)
        status = await w.train(cluster)
        report = await export(w, cluster, "out")
        files = {file.name: file.read_bytes() for file in (folder / "out").iterdir()}
        assert {f.name: f.sha256 for f in report.files} == {
            name: hashlib.sha256(content).hexdigest() for name, content in files.items()
        }
        assert report.sha256 == hashlib.sha256(files["manifest.json"]).hexdigest()
        assert report.verified.rows == 8
        assert 0 < report.verified.max_difference < 1e-6
        assert report.verified.rows_of == "test rows of the training"
        committed = w.engine.cluster(cluster).committed
        for key, group in committed.networks.items():
            stored = load_file(folder / "out" / "model.safetensors")
            for name, tensor in group.tensors(group.state).items():
                assert np.array_equal(stored[f"{key}/{name}"], tensor)
        config = json.loads(files["config.json"])
        assert config["source"]["bundle_sha"] == committed.sha
        card = files["README.md"].decode()
        assert f"| accuracy | {status.global_accuracy:.6g} |" in card
        assert "| R squared | not measured |" in card

        again = await export(w, cluster, "same")
        assert again.sha256 == report.sha256  # equal versions give equal bytes
        with pytest.raises(InvalidArguments, match="exists"):
            await export(w, cluster, "out")
        with pytest.raises(PathNotAllowed):
            await export(w, cluster, str(tmp_path / "outside"))
        with pytest.raises(InvalidArguments, match=r"version 99 .* is not kept"):
            await export(w, cluster, "v99", version=99)
        with no_file_larger_than(2_000), pytest.raises(StoreUnavailable, match="could not write"):
            await export(w, cluster, "full")
        older = await export(w, cluster, "older", version=1)
        assert older.model_version == 1
        assert older.verified is None
        assert older.not_verified == "the nodes serve another version than 1"
        assert older.sha256 != report.sha256
    assert sorted(os.listdir(folder)) == ["older", "out", "same"]


async def test_an_export_that_answers_otherwise_than_the_nodes_is_not_kept(
    tmp_path, folder, monkeypatch
):
    recompute = SafetensorsFolder.recompute

    def off(self, model, files, examples):
        found = recompute(self, model, files, examples)
        return type(found)(found.answers + 1e-4, found.expected, found.by)

    monkeypatch.setattr(SafetensorsFolder, "recompute", off)
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster, epochs=1)
        with pytest.raises(StoreCorrupt, match="answers otherwise than the cluster's nodes"):
            await export(w, cluster, "out")
    assert os.listdir(folder) == []


async def test_an_export_during_a_training_is_one_committed_version(tmp_path, folder):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.start(cluster, epochs=12)
        await w.rounds(cluster, 1)
        reports = []
        for number in range(3):
            reports.append(await export(w, cluster, f"out{number}"))
            await anyio.lowlevel.checkpoint()
        await w.done(cluster)
        stored = {e["model_version"]: e["weights_digest"] for e in await w.versions(cluster)}
        for number, report in enumerate(reports):
            config = json.loads((folder / f"out{number}" / "config.json").read_text())
            digest = config["stored"]["networks"]["c0"]["digest"]
            assert stored[report.model_version] == digest


@pytest.mark.parametrize(("kind", "path"), [("onnx", "m.onnx"), ("predictor", "m.py")])
async def test_a_file_of_another_format_is_run_before_it_is_kept(tmp_path, folder, kind, path):
    pytest.importorskip("onnxruntime")
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.deploy(cluster, layers=OTHER)
        await w.train(cluster, epochs=1)
        with pytest.raises(InvalidArguments, match=r"does not end in \."):
            await export(w, cluster, "model.txt", format=kind)
        report = await export(w, cluster, path, format=kind)
        assert 0 < report.verified.max_difference < 1e-6
        assert report.sha256 == hashlib.sha256((folder / path).read_bytes()).hexdigest()
        assert any("weighted" in told for told in report.not_included)
        with pytest.raises(InvalidArguments, match="exists"):
            await export(w, cluster, path, format=kind)
        again = await export(w, cluster, path, format=kind, overwrite=True)
        assert again.sha256 == report.sha256
        for own in (b"years of work", (folder / path).read_bytes()[40:], b""):
            (folder / path).write_bytes(own)
            with pytest.raises(PathNotAllowed, match="was not written by an export"):
                await export(w, cluster, path, format=kind, overwrite=True)
            assert (folder / path).read_bytes() == own
        with pytest.raises(InvalidArguments, match="names a folder"):
            await export(w, cluster, f"{path}/", format=kind)
        await on_a_full_disk(w, cluster, folder, kind, f"other.{path}")
    assert os.listdir(folder) == [path]


@contextmanager
def no_file_larger_than(n_bytes):
    """What the system does on a full disk, done by its limit for the size of a file."""
    resource = pytest.importorskip("resource")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


async def on_a_full_disk(w, cluster, folder, kind, path):
    before = sorted(os.listdir(folder))
    with no_file_larger_than(400), pytest.raises(StoreUnavailable, match="could not write"):
        await export(w, cluster, path, format=kind)
    assert sorted(os.listdir(folder)) == before
    await export(w, cluster, path, format=kind)  # there was nothing wrong but the disk
    (folder / path).unlink()
