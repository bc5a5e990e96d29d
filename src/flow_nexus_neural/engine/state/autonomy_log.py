"""What autonomy has recommended to one cluster."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy import Action, Memory

EVENTS_KEPT = 50


@dataclass
class AutonomyLog:
    """Recommendations of one cluster, and since when each slot has been failed.

    Attributes:
        memory: What the planner remembers from one look to the next.
        events: The last recommendations, oldest first.
        recommended: How many there were in all.
        failed_since_s: Monotonic time at which each failed slot was first seen failed.
    """

    memory: Memory = field(default_factory=dict)
    events: deque[dict[str, JsonValue]] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    recommended: int = 0
    failed_since_s: dict[str, float] = field(default_factory=dict)

    def see_failed(self, slots: Iterable[str], now_s: float) -> None:
        """These slots are failed now; one that no longer is loses its time."""
        self.failed_since_s = {slot: self.failed_since_s.get(slot, now_s) for slot in slots}

    def record(self, actions: Sequence[Action], memory: Memory, at: str) -> None:
        """Keep what the planner recommended at this time."""
        self.memory = memory
        for action in actions:
            self.recommended += 1
            self.events.append(
                {
                    "at": at,
                    "rule": action.kind,
                    "scope": action.scope,
                    "target": action.target,
                    "level_required": action.level_required,
                    "level_effective": action.level_effective,
                    "decision": action.decision,
                    "evidence": dict(action.evidence),
                }
            )
