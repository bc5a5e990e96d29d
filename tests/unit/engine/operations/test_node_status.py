from flow_nexus_neural.engine.operations.node_status import RETIRED_SHOWN, retired
from tests.unit.engine.building import cluster_state, live, slot

DEATHS, SLOTS = 7, 5


def test_nodes_that_are_gone_are_told_by_slot_oldest_first_and_only_the_last_of_them():
    cluster = live(cluster_state())
    assert retired(cluster) == []
    for name in range(SLOTS):
        one = slot(f"worker-{name}", state="healthy", handle=object())
        cluster.slots.add(one)
        for number in range(DEATHS):
            one.fail(f"death {number} of {name}")
            one.begin_incarnation(f"node_{name}_{number}")
    every = [f"death {number} of {name}" for name in range(SLOTS) for number in range(DEATHS)]
    assert len(every) > RETIRED_SHOWN
    assert [node.reason for node in retired(cluster)] == every[-RETIRED_SHOWN:]
