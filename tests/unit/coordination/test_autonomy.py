import pytest

from flow_nexus_neural.coordination.autonomy import (
    LEVELS,
    Observation,
    SlotObservation,
    effective_level,
    gain,
    plan,
)


def observe(*slots, at_s=1000.0, daa_enabled=True, **fields):
    return Observation(at_s=at_s, daa_enabled=daa_enabled, slots=slots, **fields)


def healthy(n=0, autonomy=0.8):
    return SlotObservation(f"worker-{n}", "healthy", autonomy)


def dead(n=0, since_s=990.0, autonomy=0.8):
    return SlotObservation(f"worker-{n}", "failed", autonomy, failed_since_s=since_s)


def kinds(observation):
    return [action.kind for action in plan(observation, {})[0]]


def test_a_healthy_cluster_needs_nothing():
    assert kinds(observe(healthy(0), healthy(1), select_losses=[1.0, 0.8, 0.7])) == []


def test_a_dead_slot_should_be_restarted():
    (action,), _ = plan(observe(healthy(0), dead(1, autonomy=0.3)), {})
    assert (action.kind, action.scope, action.target) == ("restart_node", "node", "worker-1")
    assert (action.level_required, action.level_effective) == (0.2, 0.3)
    assert action.decision == "recommended"
    assert action.evidence == {"failed_for_s": 10.0}


@pytest.mark.parametrize(("since_s", "expected"), [(940.0, False), (939.9, True)])
def test_shards_are_worth_moving_after_a_minute(since_s, expected):
    assert ("rebalance_shards" in kinds(observe(dead(0, since_s)))) is expected


def test_weights_that_differ_from_the_committed_ones_are_worth_a_resync():
    stale = SlotObservation("worker-0", "healthy", 0.8, digest_matches=False)
    unknown = SlotObservation("worker-1", "healthy", 0.8, digest_matches=None)
    assert kinds(observe(stale, unknown)) == ["resync_node"]


def test_a_refused_update_is_worth_a_quarantine():
    bad = SlotObservation("worker-0", "healthy", 0.8, refused_updates=1)
    assert kinds(observe(bad)) == ["quarantine_node"]


@pytest.mark.parametrize(("alive", "expected"), [(1, ["pause_training"]), (2, [])])
def test_training_should_pause_below_its_minimum(alive, expected):
    assert kinds(observe(min_workers=2, healthy_workers=alive)) == expected


def test_ten_rounds_without_gain_are_enough():
    flat = [1.0] + [0.9995] * 10
    assert kinds(observe(select_losses=flat)) == ["early_stop", "adapt_learning_rate"]
    assert "early_stop" not in kinds(observe(select_losses=flat[:-1]))
    assert "early_stop" not in kinds(observe(select_losses=[1.0] + [0.999 - 1e-9] * 10))


def test_five_rounds_without_gain_are_worth_a_smaller_step():
    (action,), _ = plan(observe(select_losses=[1.0, 0.5] + [0.5] * 5), {})
    assert action.kind == "adapt_learning_rate"
    assert action.evidence["factor"] == 0.5


def test_a_loss_three_times_the_best_is_divergence():
    (action,), _ = plan(observe(select_losses=[1.0, 0.5, 1.6]), {})
    assert (action.kind, action.evidence["factor"]) == ("adapt_learning_rate", 0.3)
    assert kinds(observe(select_losses=[1.0, 0.5, 1.5])) == []


def test_losses_that_were_not_measured_are_no_evidence():
    assert gain([None] * 50, 5) is None
    assert gain([1.0, None, 0.4, None], 1) == pytest.approx(0.6)
    assert kinds(observe(select_losses=[1.0] + [None] * 30)) == []


def test_the_cluster_acts_at_the_median_autonomy_of_its_healthy_slots():
    slots = [healthy(0, 0.2), healthy(1, 0.9), healthy(2, 0.5), dead(3, autonomy=1.0)]
    assert effective_level(observe(*slots)) == 0.5
    assert effective_level(observe(dead(0))) is None


def test_autonomy_that_is_off_is_level_zero_and_still_recommends():
    (action,), _ = plan(observe(dead(0), daa_enabled=False), {})
    assert action.level_effective == 0.0
    assert effective_level(observe(healthy(0), daa_enabled=False)) == 0.0


def test_a_lasting_condition_is_reported_once():
    memory, seen = {}, []
    for second in range(50):
        actions, memory = plan(observe(dead(0, since_s=1000.0), at_s=1000.0 + second), memory)
        seen += actions
    assert [action.kind for action in seen] == ["restart_node"]


def test_a_flickering_condition_is_reported_once_a_minute():
    memory, seen = {}, []
    for second in range(180):
        slot = dead(0, since_s=1000.0 + second) if second % 2 else healthy(0)
        actions, memory = plan(observe(slot, at_s=1000.0 + second), memory)
        seen += [1000 + second for _ in actions]
    assert seen == [1001, 1061, 1121]


def test_a_condition_that_returns_after_a_quiet_minute_is_reported_again():
    _, memory = plan(observe(dead(0), at_s=1000.0), {})
    _, memory = plan(observe(healthy(0), at_s=1100.0), memory)
    assert memory == {}
    actions, _ = plan(observe(dead(0, since_s=1100.5), at_s=1101.0), memory)
    assert [action.kind for action in actions] == ["restart_node"]


def test_slots_are_remembered_apart():
    _, memory = plan(observe(dead(0)), {})
    actions, _ = plan(observe(dead(0), dead(1)), memory)
    assert [action.target for action in actions] == ["worker-1"]


def test_the_memory_that_was_passed_in_is_not_changed():
    memory: dict = {}
    plan(observe(dead(0)), memory)
    assert memory == {}


def test_levels_rise_with_what_an_action_can_break():
    assert LEVELS == {
        "restart_node": 0.2,
        "resync_node": 0.3,
        "quarantine_node": 0.4,
        "pause_training": 0.4,
        "rebalance_shards": 0.5,
        "early_stop": 0.6,
        "adapt_learning_rate": 0.7,
    }
