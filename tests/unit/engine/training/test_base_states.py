"""A base state travels to those workers only that do not hold it."""

import pytest

from flow_nexus_neural.engine.training.base_states import BaseStates
from tests.unit.engine.running import virtual_time
from tests.unit.engine.training.by_hand import START
from tests.unit.engine.training.linked import after_training


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def test_who_holds_the_state_starts_from_its_own_memory(tmp_path):
    async with after_training(tmp_path) as r:
        averaged = await r.average()
        after = START.with_state(averaged.state)
        async with BaseStates(r.made, [(slot, after) for slot in r.workers]) as bases:
            for slot in r.workers:
                base = bases.of(slot, after)
                assert base.region is None
                assert base.key == f"state:c0:{slot.name}"


async def test_a_state_that_nobody_holds_is_published_once_and_given_up(tmp_path):
    async with after_training(tmp_path) as r:
        await r.average()
        async with BaseStates(r.made, [(slot, START) for slot in r.workers]) as bases:
            regions = {bases.of(slot, START).region for slot in r.workers}
            (region,) = regions
            assert region is not None
        with pytest.raises(Exception, match="given up"):
            region.grant_frame()
