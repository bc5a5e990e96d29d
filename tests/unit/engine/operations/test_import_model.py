"""Reading an export in the engine: nothing is made of what cannot be read."""

from types import SimpleNamespace

import pytest

from flow_nexus_neural.engine.operations.import_model import read_model
from flow_nexus_neural.engine.requests import ImportRequest
from flow_nexus_neural.errors import DatasetNotFound
from flow_nexus_neural.settings import Settings


@pytest.mark.anyio
async def test_a_folder_that_is_not_there_is_named(tmp_path):
    async def read_data(read):
        return read()

    context = SimpleNamespace(settings=Settings(state_dir=tmp_path), read_data=read_data)
    with pytest.raises(DatasetNotFound, match="is called 'out'"):
        await read_model(context, ImportRequest(path="out"))
