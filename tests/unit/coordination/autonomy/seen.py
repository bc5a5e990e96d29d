"""Observations by hand, one for each action."""

from dataclasses import replace

from flow_nexus_neural.coordination.autonomy.observation import (
    Observation,
    SlotObservation,
    TrainingObservation,
)

NOW_S = 1000.0
WELL = TrainingObservation(
    select_losses=(1.0, 0.8, 0.6), learning_rate=0.1, min_workers=1, healthy_workers=2
)


def healthy(n=0, autonomy=0.8, **more):
    return SlotObservation(f"worker-{n}", "healthy", autonomy, **more)


def dead(n=0, since_s=990.0, autonomy=0.8, **more):
    return SlotObservation(f"worker-{n}", "failed", autonomy, failed_since_s=since_s, **more)


def observe(*slots, at_s=NOW_S, daa_enabled=True, **more):
    return Observation(at_s, daa_enabled, slots, **{"max_nodes": 32, **more})


def training(**more):
    return replace(WELL, **more)


def _with_training(level, **more):
    return observe(healthy(0, level), healthy(1, level), training=training(**more))


def _slot(level, **more):
    return observe(healthy(0, level, **more), healthy(1, level))


def _lost(level, state):
    return observe(SlotObservation("worker-0", state, level), healthy(1, level))


RESTARTED_5_TIMES = tuple(NOW_S - 20.0 * n for n in range(6, 1, -1))

SITUATIONS = {
    "restart_node": lambda level: observe(dead(0, autonomy=level), healthy(1, level)),
    "give_up_node": lambda level: observe(dead(0, autonomy=level), healthy(1, level)),
    "resync_node": lambda level: _slot(level, digest_matches=False),
    "quarantine_node": lambda level: _slot(level, accused="segment 3 does not re-execute"),
    "pause_training": lambda level: _with_training(level, min_workers=3, possible_workers=3),
    "resume_training": lambda level: _with_training(level, paused=True),
    "rebalance_shards": lambda level: observe(
        dead(0, since_s=900.0, autonomy=0.0),
        healthy(1, level),
        training=training(dead_owners=("worker-0",)),
    ),
    "early_stop": lambda level: _with_training(level, select_losses=[1.0] + [0.9995] * 10),
    "adapt_learning_rate": lambda level: _with_training(level, select_losses=[1.0, 0.5, 1.6]),
    "restore_learning_rate": lambda level: _with_training(
        level, select_losses=[0.5] + [0.7] * 5, adapted_at=1, rate_before=0.2
    ),
    "learn_from_feedback": lambda level: observe(healthy(0, level), drift={"psi": 0.4}),
    "deploy_spare": lambda level: _lost(level, "failed_permanently"),
    "raise_clients": lambda level: _with_training(level, delivered=(2,) * 5, clients=(4, 8)),
}
"""A situation for each kind of action, in a cluster of which every slot has the same autonomy."""
