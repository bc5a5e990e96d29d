"""How large an epoch is, and when one worker is not enough whatever its size."""

import pytest

from flow_nexus_neural.coordination.training_defaults import Scale
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.training.work_sharing import effort
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import START

SCALE = Scale(
    shard_rows=640, has_validation=True, has_sequence=False, parameters=4, optimizer="sgd"
)


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def found(tmp_path, consensus="raft", **more):
    async with running(tmp_path, 2, places=3, init={"consensus": consensus}) as w:
        request = TrainRequest(cluster_id="c", dataset="d", **more)
        return effort(w.cluster, request, SCALE, (1280, 2), {"c0": START})


async def test_it_is_counted_in_rows_steps_and_exchanges(tmp_path):
    one = await found(tmp_path, batch_size=8)
    assert (one.workers, one.networks, one.places) == (2, 1, 3)
    assert (one.rows, one.batch_size, one.parameters, one.sequence) == (1280, 8, 4, 1)
    assert one.exchanges == 4  # 80 steps of a shard, averaged every 20
    assert one.needs_workers is None


@pytest.mark.parametrize(
    ("consensus", "says"), [("byzantine", "outvoted"), ("gossip", "between several")]
)
async def test_votes_and_gossip_need_several_workers(tmp_path, consensus, says):
    assert says in (await found(tmp_path, consensus)).needs_workers
