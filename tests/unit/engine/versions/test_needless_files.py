"""A file goes when neither the version in force nor the training that runs names it."""

from dataclasses import replace

import pytest

from flow_nexus_neural.engine.state.continuation import Continuation
from flow_nexus_neural.engine.versions.needless_files import needless_files
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def test_what_a_running_training_goes_on_from_stays_until_its_next_round(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.train()
        former, training = w.committed, w.cluster.state.latest_training
        bare = replace(former, networks={}, recent={}, best={}, kept=())
        assert needless_files(w.cluster, bare, None) == sorted(former.blobs)
        kept = Continuation(own_states={"c0": min(former.blobs)})
        training.advance = replace(training.advance, continuation=kept)
        assert needless_files(w.cluster, bare, None) == sorted(former.blobs)  # it does not run
        training.status = "running"
        assert needless_files(w.cluster, bare, None) == sorted(former.blobs)[1:]
        further = replace(training.advance, continuation=Continuation())
        assert needless_files(w.cluster, bare, further) == sorted(former.blobs)
        training.status = "completed"
