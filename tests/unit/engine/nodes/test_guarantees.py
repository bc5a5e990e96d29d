"""What a mode promises rests on the nodes that live now and on the rule of the latest training."""

import pytest

from flow_nexus_neural.engine.nodes.guarantees import guarantees
from tests.unit.engine.building import cluster_state, live, slot, training


def cluster(*names, healthy=True, **init):
    made = cluster_state(**init)
    for name in names:
        made.slots.add(slot(name, state="healthy" if healthy else "failed", handle=object()))
    return live(made)


def test_only_workers_that_live_count():
    made = cluster("worker-0", "worker-1", "worker-2", "aggregator-0", "parameter_server-0")
    assert guarantees(made).n == 3
    made.slots["worker-1"].fail("dead")
    assert guarantees(made).n == 2


@pytest.mark.parametrize("mode", ["proof-of-learning", "byzantine", "raft", "gossip"])
def test_no_mode_claims_to_hold_before_it_is_built(mode):
    found = guarantees(cluster(*(f"worker-{n}" for n in range(7)), consensus=mode))
    assert (found.mode, found.holds, found.f_tolerated) == (mode, False, 0)
    assert found.condition


def test_who_sees_the_held_out_rows_is_named_a_validator_where_there_is_one():
    assert guarantees(cluster()).trusted == ["engine"]
    assert guarantees(cluster("worker-1", "worker-0")).trusted == ["engine", "worker-0"]
    made = cluster("worker-0", "validator-0", "validator-1")
    assert guarantees(made).trusted == ["engine", "validator-0"]
    made.slots["validator-0"].fail("dead")
    assert guarantees(made).trusted == ["engine", "validator-1"]
    assert any("validator-1 receives the held-out rows" in note for note in guarantees(made).notes)


def test_nobody_is_trusted_who_is_dead():
    found = guarantees(cluster("worker-0", "validator-0", healthy=False))
    assert (found.n, found.trusted) == (0, ["engine"])


def test_the_rule_is_that_of_the_latest_training():
    made = cluster("worker-0")
    assert any("row-weighted average" in note for note in guarantees(made).notes)
    assert any("one lying worker can still spoil" in note for note in guarantees(made).notes)
    robust = training()
    robust.config = robust.config.model_copy(update={"aggregation_method": "coordinate_median"})
    made.state.add_training(robust, new_networks=1)
    notes = guarantees(made).notes
    assert any("coordinate_median" in note for note in notes)
    assert not any("spoil" in note for note in notes)
