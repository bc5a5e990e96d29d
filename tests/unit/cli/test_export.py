"""The export command writes nothing into the state directory that it reads."""

import pytest

from flow_nexus_neural.cli.export import export
from flow_nexus_neural.engine.requests import ExportRequest
from flow_nexus_neural.settings import Settings


@pytest.mark.parametrize("folder", [".", "blobs", "linked"])
def test_a_place_in_the_state_directory_is_refused_before_anything_is_copied(
    tmp_path, capsys, folder
):
    state = tmp_path / "state"
    (state / "blobs").mkdir(parents=True)
    place = state / folder
    if folder == "linked":
        place = tmp_path / "linked"
        place.symlink_to(state / "blobs")
    settings = Settings(state_dir=state, data_dir=tmp_path)
    request = ExportRequest(cluster_id="dnc_0123456789ab", path=str(place / "model"))
    assert export(settings, request) == 1
    assert "lies in the state directory" in capsys.readouterr().err
    assert not list(state.rglob("model"))
