"""How far a training is: what is replaced with every committed round."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from flow_nexus_neural.coordination.consensus.gossip import GossipSeen
from flow_nexus_neural.coordination.privacy.lineage import ModelPrivacy
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent
from flow_nexus_neural.coordination.proof_record import ProofRecord, ProvedExchange
from flow_nexus_neural.coordination.scrutiny import Scrutiny
from flow_nexus_neural.engine.reports import HistoryPoint
from flow_nexus_neural.engine.state.continuation import Continuation


@dataclass(frozen=True)
class Advance:
    """How far a training is; replaced as a whole with every committed round.

    Attributes:
        train_loss: Mean training loss of the last round; None when it was not finite.
        val_loss: Loss on validation rows after the last round.
        best_round: Round with the lowest validation loss so far, from 1.
        steps: Optimiser steps that committed rounds rest on.
        scrutiny: What a robust rule saw of the workers.
        proofs: What the proofs of their updates showed, under proof-of-learning.
        gossip: How far apart workers are that mix with their neighbours.
        continuation: What the next round rests on besides the version in force.
        privacy: What identifies the data set, and what noised sums have cost.
        inherited: The privacy of the weights that it started from; None where that was not recorded.
    """

    rounds_done: int = 0
    train_loss: float | None = None
    val_loss: float | None = None
    best_round: int | None = None
    best_loss: float | None = None
    steps: int = 0
    digest_before: str | None = None
    digest_after: str | None = None
    scrutiny: Scrutiny = field(default_factory=Scrutiny)
    proofs: ProofRecord = field(default_factory=ProofRecord)
    gossip: GossipSeen = field(default_factory=GossipSeen)
    continuation: Continuation = field(default_factory=Continuation)
    privacy: PrivacySpent = field(default_factory=PrivacySpent)
    inherited: ModelPrivacy | None = None

    def after(self, point: HistoryPoint, steps: int, digest: str) -> "Advance":
        """One round further."""
        better = point.val_loss is not None and (
            self.best_loss is None or point.val_loss < self.best_loss
        )
        return replace(
            self,
            rounds_done=point.round,
            train_loss=point.train_loss,
            val_loss=point.val_loss,
            best_round=point.round if better else self.best_round,
            best_loss=point.val_loss if better else self.best_loss,
            steps=self.steps + steps,
            digest_after=digest,
        )

    def with_scrutiny(
        self, evidence: Mapping[str, Mapping[str, JsonValue]], excluded: Collection[str]
    ) -> "Advance":
        """With what the rule of the latest round saw of the workers; see `Scrutiny` and `GossipSeen`."""
        return replace(
            self,
            scrutiny=self.scrutiny.after(evidence, excluded),
            gossip=self.gossip.after(self.rounds_done, evidence),
        )

    def going_on_from(self, continuation: Continuation) -> "Advance":
        """With what the round after the latest one rests on."""
        if self.best_round == self.rounds_done:
            continuation = continuation.without_best()
        return replace(self, continuation=continuation)

    def with_proofs(self, exchanges: Sequence[ProvedExchange], *, committed: bool) -> "Advance":
        """With what the proofs of a round showed; see `ProofRecord.after`."""
        return replace(self, proofs=self.proofs.after(exchanges, committed=committed))
