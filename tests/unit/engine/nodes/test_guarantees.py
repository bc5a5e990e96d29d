"""What a mode promises rests on the nodes that live now and on the rule of the latest training."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from flow_nexus_neural.coordination.proof_record import ProofRecord
from flow_nexus_neural.engine.nodes.guarantees import guarantees
from tests.unit.engine.building import cluster_state, live, slot, training


def system(*, peer_views):
    """A runtime whose nodes can read each other, or not."""
    return SimpleNamespace(name="ray", capabilities=SimpleNamespace(peer_views=peer_views))


def own_process(name, shared_with=(), pid=None):
    """A handle, as far as it says which process a slot has."""
    return SimpleNamespace(
        pid=pid or hash(name), isolation=SimpleNamespace(shared_with=shared_with)
    )


def cluster(*names, healthy=True, **init):
    made = cluster_state(**init)
    for name in names:
        made.slots.add(
            slot(name, state="healthy" if healthy else "failed", handle=own_process(name))
        )
    return live(made)


def test_only_workers_that_live_count():
    made = cluster("worker-0", "worker-1", "worker-2", "aggregator-0", "parameter_server-0")
    assert guarantees(made).n == 3
    made.slots["worker-1"].fail("dead")
    assert guarantees(made).n == 2


@pytest.mark.parametrize(
    ("method", "holds"), [("gossip", True), ("push_sum", True), ("federated_averaging", False)]
)
def test_gossip_holds_where_two_can_mix_whoever_trains(method, holds):
    made = cluster("worker-0", "worker-1", "worker-2", consensus="gossip")
    made.context.runtime = system(peer_views=True)
    assert guarantees(made).holds is True
    latest = training()
    changes = {"aggregation_method": method, "clients_per_round": 1}
    latest.config = latest.config.model_copy(update=changes)
    made.state.add_training(latest, new_networks=1)
    assert guarantees(made).holds is holds
    made.context.runtime = system(peer_views=False)
    assert guarantees(made).holds is False
    if holds:
        assert "nodes of the runtime ray cannot read" in guarantees(made).reason
    for name in ("worker-0", "worker-1"):
        made.slots[name].fail("dead")
    made.context.runtime = system(peer_views=True)
    assert guarantees(made).holds is False


def test_raft_holds_while_more_than_half_of_those_that_would_vote_live():
    made = cluster("worker-0", "worker-1", "worker-2", "worker-3", consensus="raft")
    found = guarantees(made)
    assert (found.n, found.holds, found.f_tolerated) == (3, True, 1)
    made.slots["worker-1"].fail("dead")
    made.slots["worker-2"].fail("dead")
    found = guarantees(made)
    assert (found.n, found.holds, found.f_tolerated) == (1, True, 0)


def test_byzantine_holds_from_four_workers_on_and_says_what_is_missing_below():
    names = [f"worker-{n}" for n in range(7)]
    found = guarantees(cluster(*names, consensus="byzantine"))
    assert (found.holds, found.f_tolerated, found.reason) == (True, 2, None)
    made = cluster(*names[:4], consensus="byzantine")
    assert (guarantees(made).holds, guarantees(made).f_tolerated) == (True, 1)
    made.slots["worker-1"].fail("dead")
    found = guarantees(made)
    assert (found.n, found.holds, found.f_tolerated) == (3, False, 0)
    assert "4 can" in found.reason


def test_of_several_networks_the_smallest_group_counts():
    made = cluster(*(f"worker-{n}" for n in range(9)), consensus="byzantine")
    for name in ("worker-0", "worker-3", "worker-6"):
        other = replace(made.slots[name].spec, layers=({"type": "dense", "units": 2},))
        made.slots[name].spec = other
    found = guarantees(made)
    assert (found.n, found.holds) == (9, False)
    assert "3 updates" in found.reason


@pytest.mark.parametrize(
    ("changes", "holds", "f"),
    [
        ({"aggregation_method": "krum", "byzantine_f": 2}, True, 2),
        ({"aggregation_method": "krum", "byzantine_f": 3}, False, 0),
        (
            {"aggregation_method": "auto", "chosen": ["byzantine_f"], "clients_per_round": 5},
            True,
            1,
        ),
        ({"aggregation_method": "federated_averaging"}, False, 0),
    ],
)
def test_what_the_latest_training_was_asked_decides(changes, holds, f):
    made = cluster(*(f"worker-{n}" for n in range(7)), consensus="byzantine")
    latest = training()
    latest.config = latest.config.model_copy(update={"clients_per_round": 7, **changes})
    made.state.add_training(latest, new_networks=1)
    found = guarantees(made)
    assert (found.holds, found.f_tolerated) == (holds, f)


def test_who_sees_the_held_out_rows_is_named_a_validator_where_there_is_one():
    assert guarantees(cluster()).trusted == ["engine"]
    assert guarantees(cluster("worker-1", "worker-0")).trusted == ["engine", "worker-0"]
    made = cluster("worker-0", "validator-0", "validator-1", consensus="raft")
    assert guarantees(made).trusted == ["engine", "validator-0"]
    made.slots["validator-0"].fail("dead")
    assert guarantees(made).trusted == ["engine", "validator-1"]
    assert any("validator-1 receives the held-out rows" in note for note in guarantees(made).notes)


def test_under_proof_of_learning_whoever_repeats_segments_is_trusted():
    made = cluster("worker-0", "validator-0", "validator-1", "aggregator-0")
    assert guarantees(made).trusted == ["engine", "validator-0", "validator-1"]
    for name in ("validator-0", "validator-1"):
        made.slots[name].fail("dead")
    assert guarantees(made).trusted == ["engine", "aggregator-0", "worker-0"]


def test_a_training_of_a_version_without_proofs_leaves_no_guarantee():
    made = cluster("worker-0", "worker-1")
    former = training()
    former.advance = replace(former.advance, rounds_done=2)
    made.state.add_training(former, new_networks=1)
    assert "train again" in guarantees(made).reason
    proved = ProofRecord(verified_rounds=2, detection=0.25)
    former.advance = replace(former.advance, proofs=proved)
    assert guarantees(made).holds
    assert any("0.25" in note for note in guarantees(made).notes)


def test_nobody_is_trusted_who_is_dead():
    found = guarantees(cluster("worker-0", "validator-0", healthy=False))
    assert (found.n, found.trusted) == (0, ["engine"])


def test_the_rule_is_that_of_the_latest_training():
    made = cluster("worker-0", "worker-1", "worker-2", consensus="raft")
    assert any("row-weighted average" in note for note in guarantees(made).notes)
    assert any("one lying worker can still spoil" in note for note in guarantees(made).notes)
    robust = training()
    robust.config = robust.config.model_copy(
        update={"aggregation_method": "coordinate_median", "byzantine_f": 1}
    )
    made.state.add_training(robust, new_networks=1)
    notes = guarantees(made).notes
    assert any("coordinate_median" in note for note in notes)
    assert not any("spoil" in note for note in notes)


def test_voters_in_one_process_are_one_failure():
    made = cluster("worker-0", "worker-1", "worker-2", consensus="raft")
    assert guarantees(made).f_tolerated == 1
    for name, other in (("worker-0", "worker-1"), ("worker-1", "worker-0")):
        made.slots[name].handle = own_process(name, (other,), pid=7)
    found = guarantees(made)
    assert (found.n, found.holds, found.f_tolerated) == (3, True, 0)
    assert any(
        "share 2 processes (2, 1 in each): f counts processes" in note for note in found.notes
    )


def after_a_restart(*names, **init):
    made = cluster(*names, healthy=False, **init)
    for one in made.slots:
        one.move("recovering")
        one.handle = None
    return made


@pytest.mark.parametrize("consensus", ["byzantine", "raft", "proof-of-learning", "gossip"])
def test_nodes_that_are_recovering_are_not_lost_and_the_promise_is_that_of_when_they_are_up(
    consensus,
):
    names = [*(f"worker-{n}" for n in range(5)), "validator-0"]
    made, alive = after_a_restart(*names, consensus=consensus), cluster(*names, consensus=consensus)
    for one in (made, alive):
        one.context.runtime = system(peer_views=True)
    found, then = guarantees(made), guarantees(alive)
    assert (found.holds, then.holds) == (None, True)
    assert "worker-0, worker-1" in found.reason
    assert "recovering" in found.reason
    assert "deploy" not in found.reason.lower()
    assert replace_reason(found) == replace_reason(then)


def replace_reason(found):
    return found.model_copy(update={"reason": None, "holds": None})


def test_what_would_not_hold_with_every_node_up_does_not_hold():
    found = guarantees(after_a_restart("worker-0", "worker-1", consensus="byzantine"))
    assert (found.n, found.holds) == (2, False)
    assert "deploy more workers" in found.reason


def test_where_enough_are_alive_it_holds_whoever_else_is_recovering():
    made = cluster("worker-0", "worker-1", "worker-2", consensus="raft")
    made.slots["worker-1"].move("recovering")
    assert guarantees(made).holds is True


@pytest.mark.parametrize("consensus", ["proof-of-learning", "raft"])
@pytest.mark.parametrize(
    ("partition", "said"),
    [
        ("each_client", "but those of the clients that it is lent, one after the other, and sends"),
        ("iid", "but its own shard and sends"),
    ],
)
def test_whose_rows_a_worker_gets_is_said_as_it_is(consensus, partition, said):
    made = cluster("worker-0", "worker-1", consensus=consensus)
    latest = training()
    latest.config = latest.config.model_copy(update={"partition": partition})
    made.state.trainings.append(latest)
    (told,) = [note for note in guarantees(made).notes if note.startswith("data locality")]
    assert said in told
