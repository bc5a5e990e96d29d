"""Computes what a consensus mode guarantees for the present number of workers."""

from dataclasses import dataclass

from flow_nexus_neural.coordination.consensus.gossip import GOSSIP, PUSH_SUM
from flow_nexus_neural.coordination.consensus.proof_of_learning import least_contributors
from flow_nexus_neural.coordination.consensus.registry import AVERAGING, VALIDATED
from flow_nexus_neural.coordination.consensus.tolerance import too_few
from flow_nexus_neural.vocabulary import Consensus

_CONDITIONS: dict[Consensus, str] = {
    "proof-of-learning": (
        "n - f >= n/3: workers caught by their proofs are excluded, whatever they sent, and a third of those"
        " asked is admitted"
    ),
    "byzantine": "n >= 3f+1 with f >= 1 under a robust rule",
    "raft": "more than half of the voters are alive",
    "gossip": "the graph of live nodes is connected and no node lies",
}


_MIXED = {
    GOSSIP.name: "mixing between neighbours with Metropolis-Hastings weights",
    PUSH_SUM.name: "push-sum along a directed ring",
}


@dataclass(frozen=True, slots=True)
class Vote:
    """How the updates of a round are combined.

    Attributes:
        rule: Name of the aggregation policy.
        updates: How many are combined with each other: those of the smallest group of equal networks.
        f: Lying ones among them that the rule tolerates; 0 for a rule that is not robust.
        obstacle: Why it cannot be done with these nodes at all; None if it can.
        selecting: For a rule that chooses by validation rows: whether a validator is alive to do so.
        lends: Whether workers are lent the rows of the data's clients in turn, and have no shards.
    """

    rule: str = AVERAGING.name
    updates: int = 0
    f: int = 0
    obstacle: str | None = None
    selecting: bool = True
    lends: bool = False


@dataclass(frozen=True, slots=True)
class Proving:
    """How updates are proved under proof-of-learning.

    Attributes:
        verifiers: Members that execute segments again; none for a process of the engine's own.
        unproved: The latest training has committed rounds whose updates were not proved.
        detection: Least probability in its last exchange that one faked segment is challenged; None before.
    """

    verifiers: tuple[str, ...] = ()
    unproved: bool = False
    detection: float | None = None


@dataclass(frozen=True, slots=True)
class Electorate:
    """Who decides under raft.

    Attributes:
        voters: Nodes that vote.
        alive: Those of them whose processes live.
        processes: How many of these each process holds; empty where each has its own.
    """

    voters: int
    alive: int
    processes: tuple[int, ...] = ()

    @property
    def tolerated(self) -> int:
        """Processes that may crash, whichever they are, so that a majority lives on."""
        if not any(size > 1 for size in self.processes):
            return (self.voters - 1) // 2
        left, crashed = self.alive, 0
        for size in sorted(self.processes, reverse=True):
            left -= size
            if 2 * left <= self.voters:
                break
            crashed += 1
        return crashed


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The guarantee of a consensus mode at present.

    Attributes:
        n: Workers that live; under raft, voters.
        f_tolerated: Number of Byzantine (arbitrarily faulty) workers that cannot corrupt a version; under
            raft, of voters that may crash.
        condition: The condition under which the guarantee holds.
        holds: Whether it holds now.
        reason: What is missing; None if it holds.
        trusted: Components whose results are not checked.
        notes: The aggregation rule in use, and the faults against which it does not protect.
    """

    mode: Consensus
    n: int
    f_tolerated: int
    condition: str
    holds: bool
    reason: str | None
    trusted: tuple[str, ...]
    notes: tuple[str, ...]


def guarantees(
    consensus: Consensus,
    n_workers: int,
    evaluator: str | None = None,
    vote: Vote | None = None,
    electorate: Electorate | None = None,
    proofs: Proving | None = None,
) -> Guarantee:
    """Compute the guarantee.

    Args:
        consensus: The declared mode.
        n_workers: Live workers.
        evaluator: The slot that computes a model's outputs on held-out rows; None if there is none.
        vote: How the latest training combines updates, or the next one will; None for the average.
        electorate: Who votes, or would if something were to be decided now; of raft only.
        proofs: Under proof-of-learning, how updates are proved.

    Source of f under raft: Ongaro and Ousterhout, USENIX ATC 2014: a majority of V voters is left when
    floor((V-1)/2) have crashed.
    """
    usual = GOSSIP.name if consensus == "gossip" else AVERAGING.name
    vote = vote or Vote(usual, updates=n_workers)
    if consensus == "raft":
        return _replicated(electorate or Electorate(0, 0), evaluator, vote)
    if consensus == "proof-of-learning":
        return _proved(n_workers, evaluator, vote, proofs or Proving())
    reason = _reason(consensus, vote)
    return Guarantee(
        mode=consensus,
        n=n_workers,
        f_tolerated=0 if reason else vote.f,
        condition=_CONDITIONS[consensus],
        holds=reason is None,
        reason=reason,
        trusted=("engine",) if evaluator is None else ("engine", evaluator),
        notes=_notes(consensus, evaluator, vote),
    )


def _proved(n_workers: int, evaluator: str | None, vote: Vote, proofs: Proving) -> Guarantee:
    """What proof-of-learning promises: cheats are detected and excluded, however many they are."""
    reason = None
    if n_workers == 0:
        reason = "no worker is alive: deploy some"
    elif proofs.unproved:
        reason = (
            "the model in force was trained by a version that did not prove updates: train again"
        )
    who = ", ".join(proofs.verifiers) or "a process of the engine's own"
    judges = [*proofs.verifiers, *(() if evaluator is None else (evaluator,))]
    chance = "k/S" if proofs.detection is None else f"{proofs.detection:.2g}"
    notes = [
        _rule_in_force(vote),
        f"{who} executes k of the S segments of each update again, and reads the worker's shard for that",
        f"a worker that faked all S is found in the same round, one that faked one with probability {chance}",
        "a valid proof says that the prescribed steps were made on the shard, not that its rows are right",
    ]
    return Guarantee(
        mode="proof-of-learning",
        n=n_workers,
        f_tolerated=0 if reason else max(0, n_workers - least_contributors(n_workers)),
        condition=_CONDITIONS["proof-of-learning"],
        holds=reason is None,
        reason=reason,
        trusted=("engine", *dict.fromkeys(judges)),
        notes=(*notes, *_common_notes(evaluator, lends=vote.lends)),
    )


def _replicated(electorate: Electorate, evaluator: str | None, vote: Vote) -> Guarantee:
    """What a replicated log promises: no committed version is lost while a majority lives."""
    voters, alive = electorate.voters, electorate.alive
    holds = 2 * alive > voters
    reason = f"{alive} of {voters} voters are alive" if voters else "no node can vote yet"
    return Guarantee(
        mode="raft",
        n=voters,
        f_tolerated=electorate.tolerated if holds else 0,
        condition=_CONDITIONS["raft"],
        holds=holds,
        reason=None if holds else reason,
        trusted=("engine",) if evaluator is None else ("engine", evaluator),
        notes=(
            *_notes("raft", evaluator, vote),
            *_shared(electorate),
            f"f counts voters that crash; {alive} of {voters} are alive; voters that lie: 0 are tolerated",
        ),
    )


def _shared(electorate: Electorate) -> list[str]:
    """What it means that voters share processes; nothing where each has its own."""
    sizes = electorate.processes
    if not any(size > 1 for size in sizes):
        return []
    told = f"voters share {len(sizes)} processes ({', '.join(str(size) for size in sizes)} in each)"
    return [f"{told}: f counts processes, since those in one crash together"]


def _reason(consensus: Consensus, vote: Vote) -> str | None:
    """What is missing for the mode's condition; None if it holds."""
    if vote.obstacle is not None:
        return vote.obstacle
    if consensus == "gossip":
        return _apart(vote)
    if vote.rule == AVERAGING.name:
        return (
            f"one lying worker can move {vote.rule} anywhere; aggregation_method auto withstands it"
        )
    few = too_few(vote.updates, max(vote.f, 1), per_f=3)
    if few is not None:
        return f"{few}: deploy more workers with the same network, and train"
    return f"{vote.rule} was asked to tolerate no lying worker" if vote.f == 0 else None


def _apart(vote: Vote) -> str | None:
    """Why workers cannot mix; None if they can: those that live are linked anew when one dies."""
    if vote.rule not in (GOSSIP.name, PUSH_SUM.name):
        return f"the latest training was made by {vote.rule}; the next one mixes between neighbours"
    if vote.updates < 2:
        return "mixing takes two workers with the same network: deploy more, and train"
    return None


def _notes(consensus: Consensus, evaluator: str | None, vote: Vote) -> tuple[str, ...]:
    spoils = "" if vote.f else "; one lying worker can still spoil a version"
    what = "states" if vote.rule in _MIXED else "updates"
    notes = [
        _rule_in_force(vote),
        f"{what} that are not finite or have the wrong shape are refused{spoils}",
        *_common_notes(evaluator, lends=vote.lends),
    ]
    if vote.rule == VALIDATED.name and not vote.selecting:
        notes.append(
            "validated: no validator is alive, so that auto decides in each round until one is deployed"
        )
    elif vote.rule == VALIDATED.name:
        notes.append(
            "validated: a round keeps the mean unless a robust rule is better on validation rows by two"
            " standard errors; a lie that costs these rows no loss is averaged in"
        )
    if consensus == "byzantine":
        notes.append(
            "answers to predict: f = floor((n - 1) / 3) of n serving nodes may lie, and fewer than 2f + 1"
            " answers decide nothing"
        )
    if vote.rule in _MIXED:
        notes.append(
            "crashes are tolerated as long as a worker is left: the others are linked anew in the same step"
        )
    if consensus == "raft":
        notes.append("durability: one disk")
    return tuple(notes)


def _rule_in_force(vote: Vote) -> str:
    plain = vote.rule == AVERAGING.name
    if vote.rule in _MIXED:
        return f"rule in force: {_MIXED[vote.rule]}; a version is the plain mean of the workers' states"
    rule = f"rule in force: {'row-weighted average' if plain else vote.rule}"
    return rule if plain else f"{rule}, f = {vote.f} of {vote.updates} updates"


def _common_notes(evaluator: str | None, *, lends: bool) -> list[str]:
    """What is true in every mode."""
    rows = (
        "those of the clients that it is lent, one after the other," if lends else "its own shard"
    )
    notes = [
        "a worker that dies or is late is left out of the round and listed",
        f"data locality: a worker receives no training rows but {rows} and sends only updates",
    ]
    if evaluator is not None:
        notes.append(
            f"{evaluator} receives the held-out rows; the engine computes loss and accuracy from its outputs,"
            " which nobody checks"
        )
    return notes
