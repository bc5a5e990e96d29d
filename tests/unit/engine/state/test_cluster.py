"""The state of a cluster: what must hold of it whatever happens in which order."""

import pytest

from flow_nexus_neural.coordination.ledger import GENESIS
from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.engine.state.cluster import ClusterSpec
from flow_nexus_neural.errors import ClusterTerminated, TrainingNotFound
from tests.unit.engine.building import bundle, cluster_state, committed, network, slot


def serving(*names, version=3):
    weights = {name: 1 / len(names) for name in names}
    return committed([network(slots=names)], bundle(weights, version=version), version=version)


def cluster(*names):
    made = cluster_state()
    for name in names:
        made.slots.add(slot(name))
    return made


def test_a_slot_removed_while_a_version_is_installed_stays_removed():
    made = cluster("worker-0", "worker-1")
    made.commit(serving("worker-0", "worker-1"))
    made.begin_install(serving("worker-0", "worker-1", version=4))
    made.remove_slot(made.slots["worker-1"])
    made.finish_install()
    assert made.committed.version == 4
    assert made.committed.members == {"worker-0": "c0"}
    assert made.bundle.slot_weights == {"worker-0": 1.0}


def test_a_version_made_before_a_slot_was_removed_does_not_bring_it_back():
    made = cluster("worker-0", "worker-1")
    made.commit(serving("worker-0", "worker-1"))
    candidate = serving("worker-0", "worker-1", version=4)
    made.remove_slot(made.slots["worker-1"])
    assert made.begin_install(candidate).members == {"worker-0": "c0"}
    made.finish_install()
    made.commit(candidate)
    assert made.committed.members == {"worker-0": "c0"}


def test_a_slot_that_joins_while_a_version_is_installed_serves_it_too():
    made = cluster("worker-0", "worker-1")
    made.commit(serving("worker-0"))
    made.begin_install(serving("worker-0", version=4))
    made.serve("worker-1", "c0")
    assert made.durable_version.members == {"worker-0": "c0", "worker-1": "c0"}
    assert made.committed.version == 3
    made.finish_install()
    assert (made.committed.version, made.installing) == (4, None)
    assert made.committed.members == {"worker-0": "c0", "worker-1": "c0"}
    assert sum(made.bundle.slot_weights.values()) == pytest.approx(1)


def test_a_slot_that_serves_already_is_not_counted_twice():
    made = cluster("worker-0")
    made.commit(serving("worker-0"))
    made.serve("worker-0", "c0")
    assert made.committed.networks["c0"].slots == ("worker-0",)


def test_nothing_is_in_force_before_it_is_installed():
    made = cluster("worker-0")
    assert (made.durable_version, made.bundle) == (None, None)
    made.begin_install(serving("worker-0"))
    assert made.committed is None
    assert made.durable_version.version == 3


def test_preparing_and_answering_end_also_when_they_fail():
    made = cluster()

    def fail():
        with made.preparing_training(), made.answering():
            assert (made.preparing, made.predictions_waiting) == (True, 1)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert (made.preparing, made.predictions_waiting) == (False, 0)


def test_an_ended_cluster_refuses_and_keeps_the_time_of_its_first_end():
    made = cluster()
    made.refuse_ended()
    made.end("noon")
    made.end("midnight")
    with pytest.raises(ClusterTerminated, match="noon"):
        made.refuse_ended()


def test_an_unknown_training_is_answered_with_the_known_ones():
    with pytest.raises(TrainingNotFound, match="it has none"):
        cluster().training("trn_9")


def test_every_change_of_the_links_is_an_epoch_of_its_own():
    made = cluster("worker-0")
    assert made.topology == made.spec.topology
    assert made.link("star", None, ("worker-0",)) == 1
    assert made.link("ring", None, ("worker-0",)) == 2
    assert (made.topology, made.links.epoch) == ("ring", 2)


def test_a_request_is_compared_in_what_it_asks_for():
    spec = ClusterSpec.of(InitRequest(name="x", topology="ring"), 7)
    assert spec.differences(InitRequest(name="x", topology="ring", reuse=True)) == {}
    assert spec.differences(InitRequest(name="x", topology="ring", seed=7)) == {}
    other = InitRequest(name="x", topology="star", seed=8)
    assert spec.differences(other) == {"topology": ("ring", "star"), "seed": (7, 8)}


def test_the_uptime_stands_still_at_the_end_and_starts_anew_when_read_back():
    now = 5.0
    made = cluster_state(lambda: now)
    now = 12.0
    assert made.uptime_s() == 12.0
    made.restart_clock()
    now = 14.0
    assert made.uptime_s() == 2.0


def test_a_ledger_begins_at_its_genesis():
    head = cluster().ledger_head
    assert (head.prev_sha, head.next_seq, head.versions) == (GENESIS, 0, {})


def test_who_goes_through_the_slots_meets_none_that_comes_meanwhile():
    made = cluster("worker-0", "worker-1")
    seen = []
    for each in made.slots:
        seen.append(each.name)
        made.slots.add(slot(f"worker-{len(seen) + 1}"))
    assert seen == ["worker-0", "worker-1"]
