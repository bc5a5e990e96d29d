"""How private a model is stays with it: in its versions, in exports, and in what is made of an import."""

import json
from dataclasses import replace

import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation, SelfComposedDpEvent
from dp_accounting.dp_event import ComposedDpEvent
from dp_accounting.pld import PLDAccountant
from safetensors import safe_open

from flow_nexus_neural.artifacts.manifest import with_manifest
from flow_nexus_neural.engine.requests import ExportRequest, ImportRequest, InitRequest
from flow_nexus_neural.errors import (
    InvalidDataset,
    PrivacyBudgetSpent,
    UnsupportedCombination,
)
from tests.sim.simulated import blobs, world
from tests.sim.test_each_client import of_clients

pytestmark = pytest.mark.anyio

ROUND = {"optimizer": "sgd", "learning_rate": 0.1, "validation_size": 0}
FIRST = {"mode": "central_dp", "noise_multiplier": 2.0, "clip_norm": 0.5}
SECOND = {"mode": "central_dp", "noise_multiplier": 3.0, "max_epsilon": 40}


def epsilon(*noises_and_counts):
    """By dp-accounting's accountant of privacy loss distributions, which the product does not use."""
    other = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, 1e-4)
    events = [SelfComposedDpEvent(GaussianDpEvent(z), n) for z, n in noises_and_counts]
    other.compose(ComposedDpEvent(events))
    return other.get_epsilon(1e-5)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


async def trained(w, cluster, privacy, epochs=3, data=None, **more):
    await w.start(cluster, data, privacy=privacy, epochs=epochs, **ROUND, **more)
    status = await w.done(cluster)
    assert status.training_status == "completed", status.training_error
    return (await w.status(cluster, detail="full")).serving.privacy


async def export(w, cluster, path="out", **more):
    return await w.engine.export_model(ExportRequest(cluster_id=cluster, path=path, **more))


async def bring_in(w, path="out", **more):
    return await w.engine.import_model(ImportRequest(path=path, **more))


async def test_every_version_says_what_all_trainings_in_it_have_cost(tmp_path, folder):
    async with world(tmp_path) as w:
        cluster = await w.cluster(4)
        first = await trained(w, cluster, FIRST)
        assert first.epsilon == pytest.approx(epsilon((2.0, 3)), rel=2e-3)
        both = await trained(w, cluster, SECOND, epochs=2)
        assert both.epsilon == pytest.approx(epsilon((2.0, 3), (3.0, 2)), rel=2e-3)
        one, other = both.trainings
        assert (one.mode, one.rounds, one.sums, one.noise_multiplier) == ("central_dp", 3, 3, 2.0)
        assert (one.clip_norm, one.delta, other.max_epsilon) == (0.5, 1e-5, 40)
        assert other.epsilon_of_data == pytest.approx(both.epsilon)
        assert "dp-accounting" in one.accountant
        assert one.relation == "add_or_remove_one"
        lines = (await w.status(cluster, detail="versions")).versions
        rounds = [(2.0, 3), (3.0, 1)], [(2.0, 3)], [(2.0, 2)], [(2.0, 1)]
        told = [line.privacy.epsilon for line in lines[1:]]
        assert told == [pytest.approx(epsilon(*of), rel=2e-3) for of in rounds]
        # The first training again in force: what came after it is in these weights no more.
        (old,) = [line.version for line in lines if line.version == 3]
        await w.engine.init_cluster(InitRequest(restore=cluster, version=old))
        status = await w.status(cluster, detail="full")
        assert status.serving.privacy.epsilon == first.epsilon
        assert (await w.status(cluster, detail="nodes")).serving.privacy.trainings == ()
    async with world(tmp_path) as w:
        status = await w.status(cluster, detail="full")
        assert status.serving.privacy == first
        assert status.versions[0].privacy.epsilon == first.epsilon


async def test_every_format_of_an_export_has_the_numbers(tmp_path, folder):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        privacy = await trained(w, cluster, FIRST)
        wanted = json.loads(privacy.model_dump_json())
        assert (await export(w, cluster)).privacy == privacy
        config = json.loads((folder / "out" / "config.json").read_text())
        assert config["stored"]["privacy"] == wanted
        card = (folder / "out" / "README.md").read_text()
        assert f"central_dp, epsilon {privacy.epsilon:.6g} at delta 1e-05" in card
        assert "| 2 | 0.5 | 3 | 3 |" in card
        with safe_open(folder / "out" / "model.safetensors", "np") as file:
            assert json.loads(file.metadata()["privacy"]) == wanted
            assert file.metadata()["format"] == "np"
        await export(w, cluster, "again")
        for name in ("model.safetensors", "config.json", "README.md"):
            assert (folder / "again" / name).read_bytes() == (folder / "out" / name).read_bytes()
        await export(w, cluster, "p.py", format="predictor")
        code = (folder / "p.py").read_text()
        assert f"epsilon {privacy.epsilon:.6g}" in code
        scope = {"__name__": "p"}
        exec(compile(code, "p.py", "exec"), scope)
        assert scope["MODEL"]["privacy"] == wanted


async def test_after_an_import_the_numbers_are_there_and_compose(tmp_path, folder):
    async with world(tmp_path) as w:
        cluster = await w.cluster(4)
        first = await trained(w, cluster, FIRST)
        await export(w, cluster)
    other = tmp_path / "elsewhere"
    (other / "data").mkdir(parents=True)
    (folder / "out").rename(other / "data" / "out")
    async with world(other) as w:
        twin = await bring_in(w)
        assert twin.privacy == first
        assert twin.warnings == []
        assert (await w.status(twin.cluster_id, detail="full")).serving.privacy == first
        both = await trained(w, twin.cluster_id, SECOND, epochs=2)
        assert both.epsilon == pytest.approx(epsilon((2.0, 3), (3.0, 2)), rel=2e-3)
        # Also a cluster that does not go on from it counts what others have spent on these rows.
        fresh = await w.cluster(4, name="fresh")
        tight = {"mode": "central_dp", "noise_multiplier": 9.0, "max_epsilon": first.epsilon}
        with pytest.raises(PrivacyBudgetSpent):
            await w.start(fresh, privacy=tight, **ROUND)
        # The same model once more is not spent once more.
        await bring_in(w, name="again")
        spent = [one.sums.count for one in await w.engine.context.store.privacy_spending()]
        assert sorted(spent) == [2, 3]
    async with world(other) as w:
        spent = [one.sums.count for one in await w.engine.context.store.privacy_spending()]
        assert sorted(spent) == [2, 3]


async def test_without_privacy_it_says_none_and_private_training_does_not_go_on_from_it(
    tmp_path, folder
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        bare = await trained(w, cluster, None)
        assert (bare.mode, bare.epsilon, bare.trainings[0].epsilon) == ("none", None, None)
        report = await export(w, cluster)
        assert report.privacy.mode == "none"
        assert "- privacy: none" in (folder / "out" / "README.md").read_text()
        twin = await bring_in(w, name="twin")
        with pytest.raises(UnsupportedCombination, match="made without privacy, perhaps from the"):
            await w.start(twin.cluster_id, privacy=FIRST, **ROUND)
        # On other rows it may, and the numbers say of which rows they are.
        mixed = await trained(w, twin.cluster_id, FIRST, data=blobs(seed=5))
        assert (mixed.mode, mixed.epsilon) == ("mixed", None)
        assert [one.mode for one in mixed.data_sets] == ["none", "central_dp"]


async def test_an_export_whose_numbers_are_not_what_its_sums_cost_is_refused(tmp_path, folder):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await trained(w, cluster, FIRST)
        await export(w, cluster)
        files = {
            path.name: path.read_bytes()
            for path in (folder / "out").iterdir()
            if path.name != "manifest.json"
        }

        def written(change):
            config = json.loads(files["config.json"])
            change(config["stored"])
            forged = with_manifest({**files, "config.json": json.dumps(config).encode()})
            for name, content in forged.items():
                (folder / "out" / name).write_bytes(content)

        written(lambda stored: stored["privacy"].update(epsilon=0.1))
        with pytest.raises(
            InvalidDataset, match=r"of its privacy it says epsilon 0\.1, and its sums"
        ):
            await bring_in(w)
        written(lambda stored: stored["privacy"]["trainings"][0].update(noise_multiplier=-1))
        with pytest.raises(InvalidDataset, match="privacy"):
            await bring_in(w)
        # An export of an earlier version of this program says nothing of it.
        written(lambda stored: stored.pop("privacy"))
        twin = await bring_in(w, name="old")
        assert twin.privacy is None
        assert any("how private" in one for one in twin.warnings)
        with pytest.raises(UnsupportedCombination, match="not recorded how it was trained"):
            await w.start(twin.cluster_id, privacy=FIRST, **ROUND)


async def test_a_version_of_an_older_journal_is_unknown_and_so_is_what_follows(tmp_path, folder):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await trained(w, cluster, FIRST)
        live = w.engine.cluster(cluster)
        live.state.commit(replace(live.committed, privacy=None))
        assert (await w.status(cluster, detail="full")).serving.privacy is None
        after = await trained(w, cluster, SECOND)
        assert (after.mode, after.epsilon, len(after.trainings)) == ("unknown", None, 1)
        assert "- privacy: unknown" in await card(w, cluster, folder)


async def card(w, cluster, folder):
    await export(w, cluster)
    return (folder / "out" / "README.md").read_text()


async def test_clients_of_the_data_stay_that_in_an_import_and_are_not_added_to_workers(
    tmp_path, folder
):
    each = {"partition": "each_client", "federated": True}
    async with world(tmp_path) as w:
        cluster = await w.cluster(2, consensus="raft")
        first = await trained(w, cluster, FIRST, data=of_clients(), **each)
        assert first.trainings[0].protects == first.data_sets[0].protects == "client_of_data"
        await export(w, cluster)
    other = tmp_path / "elsewhere"
    (other / "data").mkdir(parents=True)
    (folder / "out").rename(other / "data" / "out")
    async with world(other) as w:
        twin = await bring_in(w)
        (spent,) = await w.engine.context.store.privacy_spending()
        assert spent.sums.unit == "client_of_data"
        merged = {"data": of_clients(), "privacy": FIRST, **ROUND, "partition": "client"}
        fresh = await w.cluster(2, name="fresh", consensus="raft")
        for cluster in (twin.cluster_id, fresh):
            with pytest.raises(UnsupportedCombination, match="not those of this training"):
                await w.start(cluster, **merged)
        again = await trained(w, twin.cluster_id, FIRST, data=of_clients(), **each)
        assert again.epsilon == pytest.approx(epsilon((2.0, 6)), rel=2e-3)
