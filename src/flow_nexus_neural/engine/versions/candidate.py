"""What a round made, before it is measured and committed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from flow_nexus_neural.coordination.proof_record import ProvedExchange
from flow_nexus_neural.engine.reports import HistoryPoint
from flow_nexus_neural.engine.state.advance import Advance
from flow_nexus_neural.engine.state.continuation import Continuation
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.state.version import model_digest


@dataclass(frozen=True)
class Candidate:
    """The result of a round before it is evaluated and committed.

    Attributes:
        networks: All network groups of the training, with new weights if the round produced them.
        renewed: Keys of the groups with new weights.
        excluded: Slots left out, with reasons.
        rule: Name of the aggregation policy.
        evidence: Numbers that explain the aggregation, by network group.
        began_s: Start of the round.
        bytes_before: Communication counted before the round.
        proofs: Of the updates, under proof-of-learning; those of failed tries of the round come first.
        continuation: What the next round rests on besides this one's version; `best` is that of the rounds
            before.
        files: (sha, bytes, kind) of the durable files that it names.
    """

    number: int
    networks: Mapping[str, NetworkGroup]
    renewed: frozenset[str]
    updates: Sequence[Update]
    excluded: Mapping[str, str]
    rule: str
    evidence: Mapping[str, Mapping[str, JsonValue]]
    train_loss: float | None
    began_s: float
    bytes_before: int
    proofs: Sequence[ProvedExchange] = ()
    continuation: Continuation = field(default_factory=Continuation)
    files: Sequence[tuple[str, int, str]] = ()

    def advanced(
        self, advance: Advance, point: HistoryPoint, networks: Mapping[str, NetworkGroup]
    ) -> Advance:
        """How far the training is with this round, and what its rule and its proofs have seen by then.

        Args:
            advance: Before the round.
            point: What was measured of it.
            networks: The candidate's, as they were stored.
        """
        digest = model_digest({key: network.digest or "" for key, network in networks.items()})
        steps = sum(update.steps for update in self.updates)
        advance = advance.after(point, steps, digest)
        advance = advance.with_scrutiny(self.evidence, self.excluded.keys())
        advance = advance.with_proofs(self.proofs, committed=True)
        return advance.going_on_from(self.continuation)
