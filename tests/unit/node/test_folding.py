"""A node sums what it may read into what it may write, and counts what it read of others."""

import numpy as np
import pytest

from flow_nexus_neural.node.folding import fold_regions
from flow_nexus_neural.node.regions import Region
from flow_nexus_neural.protocol.digest import vectors_digest
from flow_nexus_neural.protocol.messages import Fold, FoldPart, FoldSource


def region(key, value, *, writable=False, dtype="f4"):
    arrays = {"params": np.full(3, value, dtype), "buffers": np.full(2, value, dtype)}
    return Region(key, arrays, writable)


def summed(*, into="own", start=0, stop=5, sources=(("own", 1.0), ("other", 3.0)), **more):
    part = FoldPart(
        start=start,
        stop=stop,
        divisor=4.0,
        sources=tuple(FoldSource(region=key, weight=weight) for key, weight in sources),
    )
    return Fold(into=into, parts=(part,), **more)


def held(**more):
    regions = {"own": region("own", 1, writable=True), "other": region("other", 5)}
    return regions | more


def carried_out(request, regions, watch=lambda: None):
    return fold_regions(request, regions.__getitem__, watch)


def test_its_own_part_is_no_traffic_and_the_digest_is_of_all_it_holds():
    regions = held()
    reply = carried_out(summed(start=1, stop=4), regions)
    assert reply.bytes_read == 3 * 4
    params, buffers = regions["own"].arrays.values()
    assert params.tolist() == [1, 4, 4]
    assert buffers.tolist() == [4, 1]
    assert reply.digest == vectors_digest([params, buffers])
    assert carried_out(summed(hashed=False), regions).digest is None


def test_a_region_that_was_granted_for_reading_is_not_written():
    with pytest.raises(ValueError, match="not granted for writing"):
        carried_out(summed(into="other"), held())


@pytest.mark.parametrize("other", [region("other", 5, dtype="f8"), region("other", 5, dtype="i8")])
def test_other_numbers_than_float32_are_refused(other):
    with pytest.raises(ValueError, match="other arrays than float32"):
        carried_out(summed(), held(other=other))


def test_a_part_beyond_the_state_is_refused():
    with pytest.raises(ValueError, match="not in a state of 5"):
        carried_out(summed(stop=6), held())
