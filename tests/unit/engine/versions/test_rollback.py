"""What a roll back refuses before it reads anything; `tests/sim/test_versions.py` carries them out."""

import pytest

from flow_nexus_neural.engine.state.version import KeptVersion
from flow_nexus_neural.engine.versions.rollback import roll_back
from flow_nexus_neural.errors import InvalidArguments, NotTrained, TrainingRunning
from tests.unit.engine.building import bundle, cluster_state, committed, live, network

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def line(version):
    return KeptVersion(version, "now", "mean", 1, "trn_1", "d0", None, None, frozenset({"b"}))


def cluster(*kept):
    state = cluster_state()
    if kept:
        lines = tuple(line(number) for number in kept)
        state.committed = committed([network()], bundle({"worker-0": 1.0}), kept=lines)
    return live(state)


async def test_without_a_version_there_is_nothing_to_go_back_to():
    with pytest.raises(NotTrained):
        await roll_back(cluster(), 1)


async def test_a_version_that_is_not_kept_is_refused_with_those_that_are():
    with pytest.raises(InvalidArguments, match="kept are 2, 3"):
        await roll_back(cluster(2, 3), 1)


async def test_the_version_in_force_stays_as_it_is():
    of = cluster(2, 3)
    assert await roll_back(of, 3) is of.committed


async def test_while_a_training_is_prepared_nothing_goes_back():
    of = cluster(2, 3)
    with of.state.preparing_training(), pytest.raises(TrainingRunning):
        await roll_back(of, 2)
