"""What the proofs of a training's updates showed: of one exchange for the ledger, of all for the status."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from flow_nexus_neural.coordination.consensus.proof_of_learning import (
    Cost,
    Standing,
    Verdict,
    detection_probability,
    proofs_root,
)


@dataclass(frozen=True)
class ProvedUpdate:
    """One update's proof.

    Attributes:
        node_id: Of the incarnation that made the update.
        head: Of its chain.
        n_segments: Segments that were prescribed.
        challenged: Numbers of those that were drawn.
        verified: How many of these gave the committed state when they were executed again.
        verifiers: Who executed them; `engine` for a process of the engine's own.
    """

    slot: str
    node_id: str
    head: str
    n_segments: int
    challenged: tuple[int, ...]
    verified: int
    verdict: Verdict
    verifiers: tuple[str, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """As the ledger has it."""
        return {
            "slot": self.slot,
            "head": self.head,
            "segments": self.n_segments,
            "challenged": list(self.challenged),
            "verdict": self.verdict.kind,
            "reason": self.verdict.reason,
            "verifiers": list(self.verifiers),
        }


@dataclass(frozen=True)
class ProvedExchange:
    """All proofs of one exchange of updates.

    Attributes:
        beacon: Drawn when every commitment was there.
        updates: In slot order.
        cost: Processor seconds.
        seconds: From the beacon to the last verdict.
    """

    beacon: str
    updates: tuple[ProvedUpdate, ...]
    cost: Cost
    seconds: float

    def concerns(self, slots: Collection[str]) -> bool:
        """Whether one of its updates is of one of these slots."""
        return any(update.slot in slots for update in self.updates)

    def to_json(self, slots: Collection[str]) -> dict[str, JsonValue]:
        """As the ledger has it, for the updates of these slots."""
        own = [update for update in self.updates if update.slot in slots]
        return {
            "proofs_root": proofs_root({update.slot: update.head for update in own}),
            "beacon": self.beacon,
            "verdicts": [update.to_json() for update in own],
        }


@dataclass(frozen=True)
class ProofRecord:
    """The proofs of a training; empty under other modes.

    Attributes:
        verified_rounds: Committed rounds in which every admitted update's challenge was met.
        excluded_updates: Updates that were not admitted.
        detection: Of the last exchange, the least probability over its updates that one faked segment of one
            of them is challenged.
        cost: Processor seconds of all of them.
        seconds: From beacon to last verdict, over all exchanges.
        verifiers: Who executed segments again, and so has seen rows of workers.
        workers: By slot.
    """

    verified_rounds: int = 0
    excluded_updates: int = 0
    detection: float | None = None
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    verifiers: tuple[str, ...] = ()
    workers: Mapping[str, Standing] = field(default_factory=dict)

    def after(self, exchanges: Sequence[ProvedExchange], *, committed: bool) -> "ProofRecord":
        """With the exchanges of one round, and those of tries of it that failed.

        Args:
            exchanges: In order.
            committed: Whether a round was made of the last of them.
        """
        record = self
        for exchange in exchanges:
            record = record._after_exchange(exchange)
        rounds = record.verified_rounds + (committed and bool(exchanges))
        return replace(record, verified_rounds=rounds)

    def report(self) -> dict[str, JsonValue] | None:
        """As status tells it; None if no update was proved."""
        if not self.cost.updates:
            return None
        return {
            "verified_rounds": self.verified_rounds,
            "excluded_updates": self.excluded_updates,
            "detection_probability_per_round": self.detection,
            "verification": "bitwise",
            "verifier": ", ".join(self.verifiers) or None,
            "shard_visible_to": list(self.verifiers),
            "verification_seconds": self.cost.repeating_s,
            "commitment_seconds": self.cost.committing_s,
            "training_seconds": self.cost.training_s,
            "cost_share": self.cost.share,
            "wall_seconds": self.seconds,
        }

    def of_worker(self, slot: str) -> dict[str, JsonValue] | None:
        """One worker's part, as status tells it; None if it proved nothing."""
        standing = self.workers.get(slot)
        if standing is None:
            return None
        return {name: getattr(standing, name) for name in Standing.__dataclass_fields__}

    def _after_exchange(self, exchange: ProvedExchange) -> "ProofRecord":
        workers = dict(self.workers)
        for update in exchange.updates:
            before = workers.get(update.slot, Standing())
            workers[update.slot] = before.after(
                update.verdict, update.n_segments, len(update.challenged), update.verified
            )
        refused = [one for one in exchange.updates if one.verdict.kind != "valid"]
        seen = {name for update in exchange.updates for name in update.verifiers}
        return replace(
            self,
            excluded_updates=self.excluded_updates + len(refused),
            detection=min(
                (
                    detection_probability(one.n_segments, 1, len(one.challenged))
                    for one in exchange.updates
                    if one.challenged
                ),
                default=self.detection,
            ),
            cost=self.cost + exchange.cost,
            seconds=self.seconds + exchange.seconds,
            verifiers=tuple(sorted({*self.verifiers, *seen})),
            workers=workers,
        )
