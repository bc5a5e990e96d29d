"""Whose answers to the rows of a probe count, and how many have to agree."""

from types import SimpleNamespace

import numpy as np
import pytest

from flow_nexus_neural.engine.nodes.probe import ROWS, probe
from flow_nexus_neural.engine.state.slots import SlotBook
from flow_nexus_neural.errors import NodeTimeout, SyncMismatch
from flow_nexus_neural.protocol.plan import InputSpec
from tests.unit.engine.building import slot

DIGEST = "d" * 64
SILENT = NodeTimeout("silent", hint="wait")
OTHER_VERSION = "another version"
OTHER_SHAPE = "another shape"


class Calls:
    """Every node answers the sum of a row plus what it adds, or fails; `asked` has their names."""

    def __init__(self, adds):
        self.adds, self.asked, self.rows = adds, [], []

    async def ask(self, of, request, deadline, arrays):
        del request, deadline
        self.asked.append(of.name)
        self.rows.append(arrays["x"])
        adds = self.adds[of.name]
        if adds is SILENT:
            raise SILENT
        y = arrays["x"].sum(axis=1, keepdims=True)
        digest = "e" * 64 if adds == OTHER_VERSION else DIGEST
        if adds == OTHER_SHAPE:
            y = y[:1]
        elif isinstance(adds, float):
            y = y + np.float32(adds)
        return SimpleNamespace(digest=digest), {"y": y}


def cluster_of(*adds, serving=None):
    """A cluster whose worker-0 is new and adds `adds[0]`; the others serve already."""
    book = SlotBook()
    for n in range(len(adds)):
        one = slot(f"worker-{n}", state="syncing" if n == 0 else "healthy")
        one.handle = object()
        one.note_served("serve0", DIGEST)
        book.add(one)
    for name, digest in (serving or {}).items():
        book[name].note_served("serve0", digest)
    calls = Calls({f"worker-{n}": add for n, add in enumerate(adds)})
    plan = SimpleNamespace(input=InputSpec(vector_length=0, n_scalars=3), n_outputs=1)
    network = SimpleNamespace(plan=plan, digest=DIGEST, version=4)
    committed = SimpleNamespace(
        bundle=SimpleNamespace(parity=0), loaded_into=lambda name: network if name else None
    )
    return SimpleNamespace(
        committed=committed,
        slots=book,
        spec=SimpleNamespace(seed=1),
        calls=lambda category: calls,
        asked=calls,
    )


STANDS = {
    "it answers as all do": (0.0, 0.0, 0.0, 0.0),
    "it differs by the order of a sum": (1e-7, 0.0),
    "one of two lies": (0.0, 0.25, 0.0),
    "one of three lies": (0.0, 0.25, 0.0, 0.0),
    "a witness does not answer": (0.25, SILENT),
    "a witness has another version by now": (0.25, OTHER_VERSION),
    "nobody else serves": (0.25,),
}
FAILS = {
    "the only witness differs": (0.25, 0.0),
    "two of three differ": (0.25, 0.25, 0.0, 0.0),
    "it answers in another form": (OTHER_SHAPE, 0.0),
    "it answers with other weights": (OTHER_VERSION, 0.0),
    "the witness that answers differs": (0.25, SILENT, 0.0),
}


@pytest.mark.parametrize("how", STANDS)
async def test_it_stands_the_probe_where(how):
    cluster = cluster_of(*STANDS[how])
    await probe(cluster, cluster.slots["worker-0"])


@pytest.mark.parametrize("how", FAILS)
async def test_it_does_not_stand_the_probe_where(how):
    cluster = cluster_of(*FAILS[how])
    with pytest.raises(SyncMismatch, match="worker-0"):
        await probe(cluster, cluster.slots["worker-0"])


async def test_a_node_that_fails_at_it_has_failed():
    cluster = cluster_of(SILENT, 0.0)
    with pytest.raises(NodeTimeout):
        await probe(cluster, cluster.slots["worker-0"])


async def test_three_witnesses_are_asked_the_same_sixteen_rows_and_other_ones_of_an_incarnation():
    cluster = cluster_of(0.0, 0.0, 0.0, 0.0, 0.0)
    new = cluster.slots["worker-0"]
    await probe(cluster, new)
    assert sorted(cluster.asked.asked) == ["worker-0", "worker-1", "worker-2", "worker-3"]
    (first, *others) = cluster.asked.rows
    assert (first.shape, first.dtype) == ((ROWS, 3), np.float32)
    assert all(np.array_equal(first, rows) for rows in others)
    new.incarnation += 1
    await probe(cluster, new)
    assert not np.array_equal(first, cluster.asked.rows[-1])


@pytest.mark.parametrize("without", ["worker-0", "worker-1"])
async def test_nobody_is_compared_who_does_not_hold_the_weights(without):
    cluster = cluster_of(0.25, 0.0, serving={without: "e" * 64})
    await probe(cluster, cluster.slots["worker-0"])
    assert cluster.asked.asked == []


async def test_nothing_is_asked_where_nothing_is_committed():
    cluster = cluster_of(0.25, 0.0)
    cluster.committed = None
    await probe(cluster, cluster.slots["worker-0"])
    assert cluster.asked.asked == []
