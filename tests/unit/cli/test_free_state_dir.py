"""Servers of one configuration each get a state directory, and callers are told which."""

import pytest

from flow_nexus_neural.cli import free_state_dir
from flow_nexus_neural.cli.free_state_dir import default_places, open_engine_beside_others
from flow_nexus_neural.engine.requests import InitRequest, ListRequest, StatusRequest
from flow_nexus_neural.errors import ClusterNotFound, StateDirLocked
from flow_nexus_neural.settings import Settings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Of a server that nobody gave a state directory."""
    monkeypatch.setattr("flow_nexus_neural.settings.default_state_dir", lambda: tmp_path / "state")
    made = Settings.model_construct(**Settings(state_dir=tmp_path / "state").model_dump())
    made.model_fields_set.discard("state_dir")
    return made


def opened(settings):
    return open_engine_beside_others(settings, lambda: None)


async def test_the_first_server_has_the_default_directory_and_says_nothing(settings, tmp_path):
    async with opened(settings) as engine:
        assert engine.context.settings.state_dir == tmp_path / "state"
        assert (await engine.init_cluster(InitRequest(name="a"))).warnings == []
        assert (await engine.clusters()).warnings == []


async def test_a_second_server_gets_a_directory_of_its_own_and_says_so(settings, tmp_path):
    async with opened(settings) as first, opened(settings) as second, opened(settings) as third:
        mine = await first.init_cluster(InitRequest(name="mine"))
        made = await second.init_cluster(InitRequest(name="made", reuse=True))
        (notice,) = made.warnings
        assert f"another server has the state directory {tmp_path / 'state'}" in notice
        assert f"in {tmp_path / 'state-2'};" in notice
        status = await second.status(StatusRequest(cluster_id=made.cluster_id))
        assert notice in status.warnings
        again = await second.init_cluster(InitRequest(name="made", reuse=True))
        assert (again.cluster_id, again.warnings) == (made.cluster_id, [notice])
        assert notice in (await second.clusters(ListRequest())).warnings
        with pytest.raises(ClusterNotFound) as caught:
            await second.status(StatusRequest(cluster_id=mine.cluster_id))
        assert notice in caught.value.hint
        assert third.context.settings.state_dir == tmp_path / "state-3"
        assert third.context.settings.data_root == first.context.settings.data_root


async def test_what_was_kept_beside_is_named_later(settings, tmp_path):
    async with opened(settings), opened(settings) as second:
        await second.init_cluster(InitRequest(name="beside"))
    async with opened(settings) as engine:
        (notice,) = (await engine.clusters()).warnings
        assert str(tmp_path / "state-2") in notice
        assert "--state-dir" in notice


async def test_a_directory_that_was_chosen_is_refused_when_it_is_taken(tmp_path):
    chosen = Settings(state_dir=tmp_path / "state")
    async with opened(chosen):
        with pytest.raises(StateDirLocked):
            async with opened(chosen):
                pass
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


async def test_there_is_an_end_to_it(settings, monkeypatch):
    monkeypatch.setattr(free_state_dir, "MAX_SERVERS", 2)
    async with opened(settings), opened(settings):
        with pytest.raises(StateDirLocked):
            async with opened(settings):
                pass


def test_the_places_are_beside_the_default_one(tmp_path):
    places = default_places(tmp_path / "state")
    assert places[0] == tmp_path / "state"
    assert [place.name for place in places[1:3]] == ["state-2", "state-3"]
    assert len(places) == 9
