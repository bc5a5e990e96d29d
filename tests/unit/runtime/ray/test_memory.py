import numpy as np
import pytest

from flow_nexus_neural.errors import InvalidState
from flow_nexus_neural.runtime.connection.memory import MemoryRegion
from flow_nexus_neural.runtime.ray.memory import HostRegion


def test_a_region_lies_on_a_host_as_it_would_lie_here():
    arrays = {"x": np.arange(6, dtype="f4").reshape(2, 3), "y": np.arange(3, dtype="i8")}
    region = HostRegion("shard", arrays, lambda number: None)
    with MemoryRegion.of("shard", arrays) as local:
        assert (region.layout, region.nbytes) == (local.layout, local.nbytes)
    assert b"".join(region.body()) == arrays["x"].tobytes() + arrays["y"].tobytes()
    assert region.grant_frame().descriptor == region.number
    assert region.grant_frame().arrays is None


def test_a_region_keeps_what_it_was_given_and_is_given_up_once():
    source, given_up = np.ones(3, "f4"), []
    region = HostRegion("base", {"params": source}, given_up.append)
    source[:] = 9
    assert b"".join(region.body()) == np.ones(3, "f4").tobytes()
    region.close()
    region.close()
    assert given_up == [region.number]
    with pytest.raises(InvalidState):
        region.grant_frame()
