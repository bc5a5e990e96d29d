"""What a robust rule saw of each worker, over the rounds of a training, and whom that makes suspect.

All of it is computed from the evidence that the ledger has of each round.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from pydantic import JsonValue

FAR = 2.5
"""An update this many median distances from the combined one is far off.

Of honest workers whose classes are unequal (Dirichlet 0.5) few updates are; of a flipped label, most are.
"""


@dataclass(frozen=True)
class Seen:
    """One worker.

    Attributes:
        updates: How many of its updates were compared.
        far: How many of them were far from the combined one.
        excluded: In how many rounds the rule gave it no weight.
        distance: Sum of its distances, in medians.
    """

    updates: int = 0
    far: int = 0
    excluded: int = 0
    distance: float = 0.0

    def after(self, distances: Collection[float], *, excluded: bool) -> Self:
        """One round further."""
        return type(self)(
            updates=self.updates + len(distances),
            far=self.far + sum(distance >= FAR for distance in distances),
            excluded=self.excluded + excluded,
            distance=self.distance + sum(distances),
        )


@dataclass(frozen=True)
class Scrutiny:
    """A training under a robust rule; empty under another one.

    Attributes:
        rules: In how many aggregations each kernel was used.
        rule: Used in the last one.
        updates: Combined in the last one.
        f: Lying ones tolerated in the last one.
        shortened: Updates of extreme length that were scaled down.
        workers: By slot.
        clients: By slot, the data's clients whose rows it got at the start, where they were kept apart.
    """

    rules: Mapping[str, int] = field(default_factory=dict)
    rule: str | None = None
    updates: int = 0
    f: int = 0
    shortened: int = 0
    workers: Mapping[str, Seen] = field(default_factory=dict)
    clients: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def after(
        self, evidence: Mapping[str, Mapping[str, JsonValue]], excluded: Collection[str]
    ) -> "Scrutiny":
        """One round further.

        Args:
            evidence: Of the round, by network group, as the ledger has it.
            excluded: Slots that have no part in its result.
        """
        rules, last, shortened = dict(self.rules), self.rule, self.shortened
        updates, f = self.updates, self.f
        distances: dict[str, list[float]] = {}
        for part in _aggregations(evidence):
            rule, by_slot = part.get("rule"), part.get("distance")
            if not isinstance(rule, str) or not isinstance(by_slot, dict):
                continue
            rules[rule], last = rules.get(rule, 0) + 1, rule
            updates, f = len(by_slot), int(_number(part.get("f")))
            clipped = part.get("shortened")
            shortened += len(clipped) if isinstance(clipped, list) else 0
            for slot, distance in by_slot.items():
                distances.setdefault(slot, []).append(_number(distance))
        workers = dict(self.workers)
        for slot, found in distances.items():
            before = workers.get(slot, Seen())
            workers[slot] = before.after(found, excluded=slot in excluded)
        return Scrutiny(rules, last, updates, f, shortened, workers, self.clients)

    def suspected(self) -> dict[str, Seen]:
        """Workers most of whose updates were far from the combined one, the farthest first."""
        found = {slot: seen for slot, seen in self.workers.items() if 2 * seen.far > seen.updates}
        return dict(sorted(found.items(), key=lambda item: -item[1].distance / item[1].updates))

    def report(self) -> dict[str, JsonValue] | None:
        """As status tells it; None if no robust rule was used."""
        if not self.rules:
            return None
        return {
            "n": self.updates,
            "f": self.f,
            "rule_last": self.rule,
            "rule_histogram": dict(self.rules),
            "norm_clipped": self.shortened,
            "suspected": [
                {
                    "slot": slot,
                    "clients": [*self.clients.get(slot, ())],
                    "score": seen.distance / seen.updates,
                    "updates": seen.updates,
                    "far": seen.far,
                    "rounds_excluded": seen.excluded,
                }
                for slot, seen in self.suspected().items()
            ],
        }


def _aggregations(
    evidence: Mapping[str, Mapping[str, JsonValue]],
) -> Iterator[Mapping[str, JsonValue]]:
    """Each aggregation of a round: one of a federated round, several of an epoch of local SGD."""
    for found in evidence.values():
        parts = found.get("parts")
        if isinstance(parts, list):
            yield from (part for part in parts if isinstance(part, dict))
        else:
            yield found


def _number(value: JsonValue) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
