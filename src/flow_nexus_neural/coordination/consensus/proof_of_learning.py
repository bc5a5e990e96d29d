"""Proof-of-learning: a worker commits to its course of training, then a part of it is executed again.

What a valid proof says: this update is what the prescribed steps on the prescribed rows give. It says nothing
about who computed it, nor about the quality of the rows.

The engine prescribes rows, order, hyper-parameters, start and number of steps, and compares bit for bit, so
that none of the freedom is left which the published attacks use. No randomness here: the beacon is an
argument, and whoever draws it must do so after the last commitment is there.

Source: Jia et al., "Proof-of-Learning: Definitions and Practice", IEEE S&P 2021. Departures: the tolerance is
zero (one kind of machine, one thread); the checkpoints are committed to in a hash chain before the challenge,
instead of being published; the challenged segments are drawn, instead of those with the largest change.
Attacks on the original: Zhang et al., IEEE S&P 2022; Fang et al., IEEE EuroS&P 2023.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import Literal

from flow_nexus_neural.protocol.messages import Commitment, Pass

MOST_SEGMENTS = 16
"""Of a training; each costs a digest of the whole state and memory for a copy of it."""
LEAST_SEGMENT_STEPS = 4
"""Steps of a segment: hashing after fewer would cost as much as the steps of a small network."""
SNAPSHOT_BYTES = 128 << 20
"""Most bytes of kept states in one node; larger states are kept less often."""
COST_SHARE = 0.15
"""Of a round's training time that proofs may cost before fewer segments are challenged."""
MOST_UNAVAILABLE = 3
"""Consecutive updates whose proof was not available that end a worker's membership."""

VerdictKind = Literal["valid", "invalid", "unavailable"]

_LINK = b"fnn-pol-1\0"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the engine knows of an update without believing its worker.

    Attributes:
        context: Digest of the whole assignment, with which the chain begins.
        base: Training digest of the committed base.
        n_steps: Optimiser steps that the assignment prescribes.
        segment_steps: Of a segment; the last one may be shorter.
    """

    context: str
    base: str
    n_steps: int
    segment_steps: int

    @property
    def n_segments(self) -> int:
        """Segments that the steps are cut into."""
        return max(1, -(-self.n_steps // self.segment_steps))


@dataclass(frozen=True, slots=True)
class Repeated:
    """Digests of a segment's executed repetition: of the state before it, as revealed, and after it."""

    segment: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one update's proof.

    Attributes:
        reason: Why it is not valid; None if it is.
    """

    kind: VerdictKind
    reason: str | None = None


VALID = Verdict("valid")


def prescribed_steps(passes: Sequence[Pass], n_rows: int, batch_size: int, smallest: int) -> int:
    """Optimiser steps that passes over a shard have, without a last batch that is too small.

    Args:
        passes: Parts of passes over the rows.
        n_rows: Rows of the shard.
        batch_size: Rows of a batch; the last one of a pass may have fewer.
        smallest: Fewest rows of a batch on which the network can learn.
    """
    available = -(-n_rows // batch_size)
    short = available > 0 and n_rows - (available - 1) * batch_size < smallest
    total = 0
    for part in passes:
        stop = available if part.stop is None else min(part.stop, available)
        total += max(0, stop - part.start) - (short and part.start < available == stop)
    return total


def chain(context: str, states: Sequence[str]) -> str:
    """Head of the hash chain: c_0 = H(context, d_0), c_i = H(c_(i-1), d_i); all digests in hex."""
    link = bytes.fromhex(context)
    for state in states:
        link = hashlib.sha256(_LINK + link + bytes.fromhex(state)).digest()
    return link.hex()


def challenge(beacon: str, head: str, n_segments: int, k: int) -> tuple[int, ...]:
    """The k distinct segments that are executed again, in ascending order; all of them if k is larger.

    A function of the beacon and the commitment alone, so that anybody can repeat the draw. Uniform: numbers
    of 64 bits that would favour low segments are skipped.

    Args:
        beacon: Hex digits, drawn after every commitment of the round was there.
        head: Of the worker's chain.
        n_segments: At least 1.
        k: Segments to draw.
    """
    left, counter = list(range(n_segments)), 0
    drawn: list[int] = []
    while left and len(drawn) < k:
        key = f"{beacon}:{head}:{counter}".encode()
        number = int.from_bytes(hashlib.sha256(b"fnn-pol-draw-1\0" + key).digest()[:8], "little")
        counter += 1
        if number < (1 << 64) - (1 << 64) % len(left):
            drawn.append(left.pop(number % len(left)))
    return tuple(sorted(drawn))


def check_commitment(commitment: Commitment, steps: int, asked: Assignment) -> str | None:
    """What is wrong with a commitment itself; None if nothing is.

    Args:
        commitment: As the worker sent it, before the challenge.
        steps: Optimiser steps that the worker says it did.
        asked: What it was to do.
    """
    if chain(asked.context, commitment.states) != commitment.head:
        return "the chain does not follow from its states and this assignment"
    if commitment.states[0] != asked.base:
        return "the chain does not begin with the committed base"
    if steps != asked.n_steps or len(commitment.states) != asked.n_segments + 1:
        return (
            f"{steps} steps in {len(commitment.states) - 1} segments were committed, prescribed are"
            f" {asked.n_steps} in {asked.n_segments}"
        )
    return None


def check_repeated(commitment: Commitment, repeated: Repeated) -> str | None:
    """How a segment's repetition contradicts the commitment; None if it does not."""
    which = f"segment {repeated.segment} of {len(commitment.states) - 1}"
    if repeated.before != commitment.states[repeated.segment]:
        return f"the revealed state before {which} is not the committed one"
    if repeated.after != commitment.states[repeated.segment + 1]:
        return f"{which} gives another state when it is executed again"
    return None


def check_delivered(commitment: Commitment, delivered: str) -> str | None:
    """Whether the update, as whoever folds it read it, is the last committed state; None if it is."""
    if delivered != commitment.states[-1]:
        return "the delivered update is not the last state of the chain"
    return None


def majority(verdicts: Sequence[Verdict], n_verifiers: int) -> Verdict | None:
    """The verdict of ceil((V+1)/2) of V verifiers; None as long as neither kind has so many."""
    needed = n_verifiers // 2 + 1
    for kind in ("valid", "invalid"):
        same = [verdict for verdict in verdicts if verdict.kind == kind]
        if len(same) >= needed:
            return same[0]
    return None


def least_contributors(n_asked: int) -> int:
    """Fewest admitted updates of a round, of so many workers asked: a third of them."""
    return max(1, -(-n_asked // 3))


def detection_probability(n_segments: int, faked: int, k: int) -> float:
    """Probability that k challenged of n segments hit at least one of the faked: 1 - C(n-c, k) / C(n, k)."""
    k = min(k, n_segments)
    return 1.0 - comb(n_segments - faked, k) / comb(n_segments, k)


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds of proofs so far.

    Attributes:
        training_s: Of the optimiser steps that were proved.
        committing_s: Of hashing and keeping states, for every update.
        repeating_s: Of revealing and executing again, for the challenged segments.
        challenged: How many these were.
        updates: How many updates were proved.
        steps: Optimiser steps of these.
        states: Digests that were committed to for them.
    """

    training_s: float = 0.0
    committing_s: float = 0.0
    repeating_s: float = 0.0
    challenged: int = 0
    updates: int = 0
    steps: int = 0
    states: int = 0

    @property
    def proofs_s(self) -> float:
        """All that proofs cost."""
        return self.committing_s + self.repeating_s

    @property
    def share(self) -> float | None:
        """Cost of proofs, as a share of the training that they prove; None before the first."""
        return self.proofs_s / self.training_s if self.training_s > 0 else None

    def __add__(self, other: "Cost") -> "Cost":
        """Both together."""
        return Cost(
            self.training_s + other.training_s,
            self.committing_s + other.committing_s,
            self.repeating_s + other.repeating_s,
            self.challenged + other.challenged,
            self.updates + other.updates,
            self.steps + other.steps,
            self.states + other.states,
        )


def segment_steps(n_steps: int, state_bytes: int, cost: Cost) -> int:
    """Steps of a segment, so that there are at most 16 segments, and none of fewer than 4 steps at first.

    Afterwards it is known what a step and a digest cost. With S segments of which one is challenged, proofs
    cost S digests and 1/S of the steps: least at S = sqrt(steps * cost of a step / cost of a digest).

    Args:
        n_steps: Of the whole training; fewer than 4 are one segment.
        state_bytes: Of one state; the states between segments must fit `SNAPSHOT_BYTES`.
        cost: Of earlier proofs of the same network.
    """
    most = min(MOST_SEGMENTS, 1 + SNAPSHOT_BYTES // max(1, state_bytes))
    fewest = -(-n_steps // most)
    if n_steps < LEAST_SEGMENT_STEPS or cost.training_s <= 0 or cost.committing_s <= 0:
        return max(LEAST_SEGMENT_STEPS, fewest)
    ratio = (cost.training_s / cost.steps) / (cost.committing_s / cost.states)
    return max(fewest, -(-n_steps // max(1, int(sqrt(n_steps * ratio)))))


def challenges_per_update(n_segments: int, cost: Cost) -> int:
    """How many segments of an update to challenge: as many as `COST_SHARE` pays for, and at least one.

    Never fewer: an update of which nothing was executed again would be admitted on trust.

    Args:
        n_segments: Of the update.
        cost: Of the training's earlier proofs; with none the answer is 1.
    """
    if not cost.updates or not cost.challenged or cost.repeating_s <= 0:
        return 1
    left_s = COST_SHARE * cost.training_s - cost.committing_s
    affordable = left_s / cost.updates / (cost.repeating_s / cost.challenged)
    return min(n_segments, max(1, int(affordable)))


@dataclass(frozen=True, slots=True)
class Standing:
    """What the proofs of one worker's updates were, over a training.

    Attributes:
        segments: Segments committed to.
        challenged: Of them, executed again or to be.
        verified: Of them, found as committed.
        failed: Updates whose proof was invalid.
        unavailable: Updates whose proof was not available.
        strikes: Consecutive ones of these.
        last_reason: Of the last proof that was not valid.
    """

    segments: int = 0
    challenged: int = 0
    verified: int = 0
    failed: int = 0
    unavailable: int = 0
    strikes: int = 0
    last_reason: str | None = None

    def after(
        self, verdict: Verdict, n_segments: int, challenged: int, verified: int
    ) -> "Standing":
        """One update further."""
        away = verdict.kind == "unavailable"
        return Standing(
            segments=self.segments + n_segments,
            challenged=self.challenged + challenged,
            verified=self.verified + verified,
            failed=self.failed + (verdict.kind == "invalid"),
            unavailable=self.unavailable + away,
            strikes=self.strikes + 1 if away else 0,
            last_reason=verdict.reason or self.last_reason,
        )


def is_to_be_quarantined(verdict: Verdict, standing: Standing) -> bool:
    """Whether a worker has to go: one invalid proof, or three in a row that were not available."""
    return verdict.kind == "invalid" or standing.strikes >= MOST_UNAVAILABLE


def proofs_root(heads: Mapping[str, str]) -> str:
    """One digest of all commitments of an exchange, by slot; in the order of names."""
    digest = hashlib.sha256(b"fnn-pol-root-1\0")
    for slot in sorted(heads):
        digest.update(f"{slot}\0{heads[slot]}\0".encode())
    return digest.hexdigest()
