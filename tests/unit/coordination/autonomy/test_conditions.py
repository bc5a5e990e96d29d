"""What there is to do about a cluster, whatever its autonomy."""

import pytest

from flow_nexus_neural.coordination.autonomy.conditions import (
    conditions,
    gain,
    restart_pause_s,
)
from flow_nexus_neural.coordination.autonomy.observation import (
    SlotObservation,
    cluster_level,
    effective_level,
)
from tests.unit.coordination.autonomy.seen import NOW_S, dead, healthy, observe, training


def found(*slots, restarts=None, **more):
    return list(conditions(observe(*slots, **more), restarts or {}))


def kinds(*slots, **more):
    return [one.kind for one in found(*slots, **more)]


def of_training(**more):
    return found(healthy(0), training=training(**more))


def test_a_dead_slot_is_restarted_a_second_after_it_failed():
    (one,) = found(dead(0, since_s=990.0))
    assert (one.kind, one.scope, one.target) == ("restart_node", "node", "worker-0")
    assert (one.not_before_s, one.evidence) == (991.0, {"failed_for_s": 10.0, "restarts": 0})


def test_the_pause_counts_from_the_last_restart_and_doubles_up_to_a_minute():
    (one,) = found(dead(0, since_s=900.0), restarts={"worker-0": [980.0, 990.0]})
    assert one.not_before_s == 994.0
    assert [restart_pause_s(n) for n in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_slot_that_somebody_else_restarts_is_left_alone():
    assert kinds(dead(0, returning=True)) == []


def test_a_caught_slot_is_not_synchronised_as_well():
    assert kinds(healthy(0, digest_matches=False, accused="x")) == ["quarantine_node"]
    assert kinds(healthy(0, digest_matches=None)) == []
    assert kinds(SlotObservation("worker-0", "quarantined", 0.8, accused="x")) == ["deploy_spare"]


@pytest.mark.parametrize(("since_s", "expected"), [(940.0, False), (939.9, True)])
def test_shards_are_dealt_anew_after_a_minute(since_s, expected):
    owners = training(dead_owners=("worker-0",))
    assert ("rebalance_shards" in kinds(dead(0, since_s), training=owners)) is expected
    assert ("rebalance_shards" in kinds(dead(0, since_s), unlinked=("worker-0",))) is expected
    assert "rebalance_shards" not in kinds(dead(0, since_s), training=training())


@pytest.mark.parametrize(("alive", "expected"), [(1, ["pause_training"]), (2, [])])
def test_a_training_is_paused_below_its_minimum(alive, expected):
    short = {"min_workers": 2, "healthy_workers": alive}
    assert [c.kind for c in of_training(**short, possible_workers=2)] == expected
    assert of_training(**short, possible_workers=1) == [], "nobody is left to wait for"


@pytest.mark.parametrize(("alive", "expected"), [(1, []), (2, ["resume_training"])])
def test_a_paused_training_goes_on_when_there_are_enough(alive, expected):
    told = of_training(min_workers=2, healthy_workers=alive, paused=True)
    assert [c.kind for c in told] == expected


def test_ten_rounds_without_gain_end_a_training():
    flat = [1.0] + [0.9995] * 10
    (one,) = of_training(select_losses=flat)
    assert (one.kind, one.forbidden) == ("early_stop", None)
    assert [c.kind for c in of_training(select_losses=flat[:-1])] == ["adapt_learning_rate"]
    falling = of_training(select_losses=[1.0] + [0.999 - 1e-9] * 10)
    assert "early_stop" not in [c.kind for c in falling]
    small = [1e-6 * loss for loss in flat]
    assert [c.kind for c in of_training(select_losses=small)] == ["early_stop"]
    assert of_training(select_losses=flat, stopping=True) == []


def test_five_rounds_without_gain_halve_the_learning_rate():
    (one,) = of_training(select_losses=[1.0, 0.5] + [0.5] * 5)
    assert one.change == {"learning_rate": 0.05, "back_to_best": False}
    assert of_training(select_losses=[1.0, 0.5] + [0.5] * 5, learning_rate=1e-6) == []


def test_the_plateau_after_a_change_counts_from_the_change():
    losses = [1.0, 0.5] + [0.5] * 9
    assert of_training(select_losses=losses, adapted_at=7) == []
    (one,) = of_training(select_losses=losses, adapted_at=6)
    assert one.kind == "adapt_learning_rate"


def test_a_loss_three_times_the_best_goes_back_to_the_best_round():
    (one,) = of_training(select_losses=[1.0, 0.5, 1.6])
    assert one.change == {"learning_rate": pytest.approx(0.03), "back_to_best": True}
    assert of_training(select_losses=[1.0, 0.5, 1.5]) == []
    assert of_training(select_losses=[1.0, 0.5, 1.6], adapted_at=3) == []


def test_a_training_that_diverges_for_the_third_time_ends_at_its_best_round():
    (one,) = of_training(select_losses=[1.0, 0.5, 1.6], diverged=2)
    assert (one.kind, one.evidence["times"]) == ("early_stop", 3)


def test_a_change_that_made_it_worse_is_taken_back():
    (one,) = of_training(select_losses=[0.5] + [0.7] * 5, adapted_at=1, rate_before=0.2)
    assert (one.kind, one.change) == ("restore_learning_rate", {"learning_rate": 0.2})


def test_losses_that_were_not_measured_are_no_evidence():
    assert gain([None] * 50, 5) is None
    assert gain([1.0, None, 0.4, None], 1) == pytest.approx(0.6)
    assert of_training(select_losses=[1.0] + [None] * 30) == []


def test_clients_that_do_not_deliver_are_made_up_for_within_what_may_be_asked():
    (one,) = of_training(delivered=(4, 2, 2, 2, 2, 2), clients=(4, 5))
    assert (one.kind, one.change) == ("raise_clients", {"clients_per_round": 5})
    assert of_training(delivered=(2,) * 4, clients=(4, 8)) == []
    assert of_training(delivered=(4,) * 5, clients=(4, 8)) == []
    assert of_training(delivered=(2,) * 5, clients=(4, 4)) == []
    assert of_training(delivered=(2,) * 5, clients=None) == []


def test_drift_is_learnt_from_between_trainings_only():
    assert kinds(healthy(0), drift={"psi": 0.3}) == ["learn_from_feedback"]
    assert kinds(healthy(0), drift={"psi": 0.3}, training=training()) == []


def test_the_cluster_acts_at_the_median_autonomy_of_its_healthy_slots():
    slots = [healthy(0, 0.2), healthy(1, 0.9), healthy(2, 0.5), dead(3, autonomy=1.0)]
    assert cluster_level(observe(*slots)) == 0.5
    assert effective_level(observe(*slots), "worker-3") == 1.0
    assert cluster_level(observe(dead(0, autonomy=0.3))) == 0.3, "it has to pause its training"
    assert cluster_level(observe()) is None
    assert cluster_level(observe(healthy(0), daa_enabled=False)) == 0.0
    assert effective_level(observe(healthy(0), daa_enabled=False), "worker-0") == 0.0


def test_nothing_that_must_never_be_done_is_an_action():
    everything = found(dead(0, since_s=NOW_S - 500), healthy(1, digest_matches=False))
    words = " ".join(one.kind for one in everything)
    assert not any(word in words for word in ("consensus", "delete", "limit", "topology"))
