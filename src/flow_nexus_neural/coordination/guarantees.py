"""Computes what a consensus mode guarantees for the present number of workers."""

from dataclasses import dataclass

from flow_nexus_neural.coordination.consensus.registry import AVERAGING
from flow_nexus_neural.vocabulary import Consensus

_CONDITIONS: dict[Consensus, str] = {
    "proof-of-learning": "every admitted update has been re-executed to the same digest",
    "byzantine": "n >= 3f+1 with f >= 1 under a robust rule",
    "raft": "more than half of the voters are alive",
    "gossip": "the graph of live nodes is connected and no node lies",
}


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The guarantee of a consensus mode at present.

    Attributes:
        n: Workers whose updates are averaged.
        f_tolerated: Number of Byzantine (arbitrarily faulty) workers that cannot corrupt a version.
        condition: The condition under which the guarantee holds.
        holds: Whether it holds now.
        trusted: Components whose results are not checked.
        notes: The aggregation rule in use, and the faults against which it does not protect.
    """

    mode: Consensus
    n: int
    f_tolerated: int
    condition: str
    holds: bool
    trusted: tuple[str, ...]
    notes: tuple[str, ...]


def guarantees(
    consensus: Consensus,
    n_workers: int,
    evaluator: str | None = None,
    rule: str = AVERAGING.name,
) -> Guarantee:
    """Compute the guarantee. No mode is implemented yet: each training chooses its aggregation rule.

    Args:
        consensus: The declared mode.
        n_workers: Live workers.
        evaluator: The slot that computes a model's outputs on held-out rows; None if there is none.
        rule: Name of the aggregation policy of the latest training.
    """
    plain = rule == AVERAGING.name
    rule_name = "row-weighted average" if plain else rule
    notes = [
        f"rule in force: {rule_name}; {consensus} admission is not part of this version",
        "updates that are not finite or have the wrong shape are refused"
        + ("; one lying worker can still spoil a version" if plain else ""),
        "a worker that dies or is late is left out of the round and listed",
        "data locality: a worker receives no training rows but its own shard and sends only updates",
    ]
    if evaluator is not None:
        notes.append(
            f"{evaluator} receives the held-out rows; the engine computes loss and accuracy from its outputs,"
            " which nobody checks"
        )
    if consensus == "raft":
        notes.append("durability: one disk")
    return Guarantee(
        mode=consensus,
        n=n_workers,
        f_tolerated=0,
        condition=_CONDITIONS[consensus],
        holds=False,
        trusted=("engine",) if evaluator is None else ("engine", evaluator),
        notes=tuple(notes),
    )
