"""What the gate needs; `tests/sim/test_learning_from_outcomes.py` has models admitted and refused."""

import numpy as np
import pytest

from flow_nexus_neural.engine.versions.admission import compared
from flow_nexus_neural.kernels.decision import MOST_PROBABLE
from tests.unit.engine.building import bundle, cluster_state, committed, live, network

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Judge:
    """Loses as the digest of the model says."""

    rule = MOST_PROBABLE

    async def test_losses(self, networks, of_bundle):
        assert of_bundle.digests == {key: one.digest for key, one in networks.items()}
        return np.array([float(networks["c0"].digest)] * 3) + np.array([0.0, 0.1, 0.2])


async def test_each_model_is_judged_with_its_own_bundle():
    state = cluster_state()
    former = network(digest="0.9")
    state.committed = committed([former], bundle({"worker-0": 1.0}, digests={"c0": "0.9"}))
    found = await compared(live(state), Judge(), {"c0": network(digest="0.2")})
    assert (found.before, found.after) == (pytest.approx(1.0), pytest.approx(0.3))
    assert found.admitted
    worse = await compared(live(state), Judge(), {"c0": network(digest="1.2")})
    assert not worse.admitted


async def test_without_a_model_in_force_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="learns from outcomes"):
        await compared(live(cluster_state()), Judge(), {})
