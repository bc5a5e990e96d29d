"""Updates of clients, counted in one by one, and what the policies make of all of them at once."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.registry import find_policy
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.client_sums import MeanOfClients, sum_of_clients
from flow_nexus_neural.engine.training.combining import Combiner
from flow_nexus_neural.engine.versions.aggregate import aggregate
from flow_nexus_neural.errors import InternalError
from tests.unit.engine.training.by_hand import group

START = group(["worker-0"], optimizer="adam", params=[0.1, 0.2, 0.3, 0.4])


class _Here:
    """A context whose worker thread is this one."""

    async def offload(self, work, *arguments):
        return work(*arguments)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def updates(n=9):
    draw = np.random.Generator(np.random.PCG64(3))
    state = START.state
    made = []
    for k in range(n):
        params = (state.params + draw.standard_normal(4)).astype("f4")
        moments = {name: draw.random(4).astype("f4") for name in state.moments}
        own = replace(state, params=params, moments=moments, opt_step=3 + k)
        made.append(Update(f"c{k}", own, "d", rows=5 + k, steps=3, opt_step=3 + k, loss=1, cpu_s=0))
    return made


def combiner(name):
    return Combiner(_Here(), find_policy(name), None, (1, 0), 1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name", ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad"]
)
async def test_one_by_one_gives_what_all_at_once_give(name):
    summed = sum_of_clients(combiner(name), START, ["c0"])
    assert isinstance(summed, MeanOfClients)
    for update in updates():
        await summed.add(update)
    made = (await summed.combined()).state
    at_once = aggregate(START.state, updates(), find_policy(name)).state
    assert made.opt_step == at_once.opt_step
    for one, array in at_once.arrays.items():
        np.testing.assert_allclose(made.arrays[one], array, rtol=0, atol=1e-6)
    if name in ("fedavg", "fedprox"):
        assert all(np.array_equal(made.arrays[k], v) for k, v in at_once.arrays.items())


def test_clients_start_from_a_state():
    with pytest.raises(InternalError, match="no state"):
        sum_of_clients(combiner("fedavg"), replace(START, state=None), [])
