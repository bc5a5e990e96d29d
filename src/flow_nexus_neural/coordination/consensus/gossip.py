"""Gossip: workers average their states with their neighbours only, and nobody averages all of them.

In a mixing step every worker i replaces its state by sum_j W_ij x_j over itself and its neighbours. W is
doubly stochastic, so a step keeps the plain mean of the states, and on a connected graph repeated steps bring
all of them to it: the distance from the mean shrinks by at least 1 - gap each time.

The mean is plain, although shards differ in size: W keeps no other. A worker with more rows makes more steps
in its epoch and moves the mean further, so to first order the rows are weighted all the same.

Sources: Xiao and Boyd, "Fast linear iterations for distributed averaging", 2004, for W; Lian et al., "Can
decentralized algorithms outperform centralized algorithms?", NeurIPS 2017, for training in this way; Kempe,
Dobra and Gehrke, "Gossip-based computation of aggregate information", FOCS 2003, and Assran et al.,
"Stochastic gradient push", ICML 2019, for push-sum; Kong et al., "Consensus control for decentralized deep
learning", ICML 2021, for bounding the distance; Wang et al., "Tackling the objective inconsistency problem",
NeurIPS 2020, for what unequal numbers of steps do to the weights. Departures: optimiser moments and running
statistics are mixed too, and the number of steps doubles when the distance is above its target.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.coordination.collectives import Folding, Held, Part, Source
from flow_nexus_neural.coordination.consensus.policy import Combined, Vectors
from flow_nexus_neural.coordination.topology import Graph, Vertex, plan_peers
from flow_nexus_neural.kernels.averaging import federated_average
from flow_nexus_neural.vocabulary import Topology

TARGET_DISTANCE = 0.05
"""Consensus distance above which a round gets more mixing steps."""
MOST_STEPS = 8
MESH_STEP_BYTES = 1e9
MESH_MEMBERS = 11
"""A mesh of more members than these may not move more than so many bytes in a step."""
BLOCK = 1 << 16


@dataclass(frozen=True)
class GossipPolicy:
    """Mixing between neighbours. `combine` is the barrier: the plain mean of all states.

    It tolerates no faulty state: one can move the others anywhere.

    Attributes:
        push_sum: Workers of a ring read their predecessor only; see `plan_mixing`.
    """

    name: Literal["gossip", "push_sum"]
    push_sum: bool
    aliases: tuple[str, ...] = ()

    def combine(self, _base: Vectors, updates: Sequence[Vectors], _rows: Sequence[int]) -> Combined:
        """The plain mean of each array; see `policy.AggregationPolicy`."""
        if not updates:
            raise ValueError("there is no state to average")
        ones = [1] * len(updates)
        return Combined(
            vectors={
                name: federated_average([update[name] for update in updates], ones)
                for name in updates[0]
            },
            weights=tuple(1 / len(updates) for _ in updates),
        )


GOSSIP = GossipPolicy("gossip", push_sum=False, aliases=("metropolis_hastings", "mixing"))
PUSH_SUM = GossipPolicy("push_sum", push_sum=True)


@dataclass(frozen=True)
class Mixing:
    """Who mixes with whom, and with which weights.

    Attributes:
        graph: The links between the members, and nobody else.
        weights: [n, n] float64 in the order of `members`; row i is what i takes of each.
        spectral_gap: 1 - |second eigenvalue| of the weights; None for one member.
        diameter: Most steps until what one member holds has reached another.
        push_sum: Whether every link is used in one direction only.
    """

    graph: Graph
    weights: NDArray[np.float64]
    spectral_gap: float | None
    diameter: int | None
    push_sum: bool

    @property
    def members(self) -> tuple[str, ...]:
        """In canonical order."""
        return self.graph.vertices

    def step(self, old: Held, new: Held, length: int) -> tuple[Folding, ...]:
        """One mixing step: every member reads `old` values, its own and its neighbours', and writes `new`.

        Args:
            old: Of all members.
            new: Where they write; not what any of them reads in this step.
            length: Elements of a state.

        Raises:
            ValueError: `old` is `new`: then a member would read what another has mixed already.
        """
        if old == new:
            raise ValueError(f"a step cannot read and write {old!r}")
        return tuple(
            Folding(
                member,
                (
                    Part(
                        0,
                        length,
                        1.0,
                        tuple(
                            Source(other, old, float(weight))
                            for other, weight in zip(self.members, row, strict=True)
                            if weight > 0
                        ),
                    ),
                ),
                into=new,
            )
            for member, row in zip(self.members, self.weights, strict=True)
        )


def plan_mixing(topology: Topology, workers: Sequence[Vertex], *, push_sum: bool) -> Mixing:
    """How workers of one network group mix in a topology.

    With push-sum the ring is directed: each worker keeps a half and hands a half to the next. Push-sum
    divides by a mixed weight what it mixed, which undoes the bias of an irregular graph. In a ring, of which
    every member sends to one, the weights stay 1, so that nothing is left to divide by. A step reads n states
    instead of 2n and shrinks at most half as much, so the undirected ring is the default. Other topologies
    have links in both directions and are mixed by Metropolis-Hastings weights.

    Args:
        topology: Of the links.
        workers: At least one.
        push_sum: Whether a ring is directed.
    """
    graph = plan_peers(topology, workers)
    n = len(graph.vertices)
    if not (push_sum and topology == "ring" and n > 1):
        return Mixing(graph, graph.mixing, graph.spectral_gap, graph.diameter, push_sum=False)
    weights = push_weights(n, [(i, (i + 1) % n) for i in range(n)])
    return Mixing(graph, weights, spectral_gap_of(weights), n - 1, push_sum=True)


def push_weights(n: int, arcs: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Weights of push-sum on a directed graph: each vertex splits evenly among itself and its targets.

    Columns sum to 1, so that sums are kept: of x and of the weights w, which start at 1. x / w converges to
    the mean of x on every strongly connected graph.

    Args:
        n: Number of vertices.
        arcs: (from, to), without self-loops and duplicates.

    Returns:
        [n, n] float64: entry [i, j] is what i gets of j.
    """
    out = np.ones(n)
    for source, _ in arcs:
        out[source] += 1
    weights = np.diag(1 / out)
    for source, target in arcs:
        weights[target, source] = 1 / out[source]
    return weights


def spectral_gap_of(weights: NDArray[np.float64]) -> float | None:
    """1 - |second largest eigenvalue| of weights that need not be symmetric; None for one vertex."""
    if weights.shape[0] < 2:
        return None
    magnitudes = np.sort(np.abs(np.linalg.eigvals(weights)))
    return min(1.0, max(0.0, round(1.0 - float(magnitudes[-2]), 12)))


def carried(members: Sequence[str], old: Held, new: Held, length: int) -> tuple[Folding, ...]:
    """Members copy their own value from one of their buffers to the other; nothing travels."""
    return tuple(
        Folding(name, (Part(0, length, 1.0, (Source(name, old, 1.0),)),), into=new)
        for name in members
    )


def steps_to_shrink(gap: float, factor: float = 1000.0) -> int | None:
    """Mixing steps that are sure to shrink disagreement by a factor; None where none are (gap 0)."""
    if gap >= 1:
        return 1
    if gap <= 0:
        return None
    return math.ceil(math.log(factor) / -math.log1p(-gap))


def consensus_distance(
    states: Sequence[NDArray[np.float32]], mean: NDArray[np.float32]
) -> float | None:
    """How far apart workers are: sqrt(mean_i ||x_i - mean||^2) / ||mean||.

    None where the mean is zero and some state is not.

    Args:
        states: n vectors [d] float32, finite.
        mean: [d] float32.
    """
    apart = sum(_squared(state, mean) for state in states) / len(states)
    size = _squared(mean, np.zeros(1, np.float32))
    if size == 0:
        return 0.0 if apart == 0 else None
    return math.sqrt(apart / size)


def next_steps(steps: int, distance: float | None) -> int:
    """Mixing steps of the next round: twice as many, 8 at most, while the distance is above its target."""
    above = distance is None or distance > TARGET_DISTANCE
    return min(MOST_STEPS, 2 * steps) if above else steps


def advice(topology: Topology, workers: Sequence[Vertex]) -> tuple[str, ...]:
    """What a topology costs the workers that mix in it, for who connects them."""
    if len(workers) < 2:
        return ()
    gap = plan_mixing(topology, workers, push_sum=False).spectral_gap or 0.0
    needed = steps_to_shrink(gap)
    if needed is None:
        return ()
    more = "" if gap == 1 else "; in a mesh 1 does it"
    left = f"{1 - gap:.1%} of their disagreement (spectral gap {gap:.3g})"
    sentence = (
        f"under gossip a mixing step of {len(workers)} workers in a {topology} leaves at most {left},"
        f" so {needed} shrink it a thousandfold{more}"
    )
    return (sentence,)


def too_heavy(topology: Topology, n: int, state_bytes: int) -> str | None:
    """Why mixing in this topology would move too much; None if it does not."""
    moved = n * (n - 1) * state_bytes
    if topology != "mesh" or n <= MESH_MEMBERS or moved <= MESH_STEP_BYTES:
        return None
    return (
        f"a mixing step of {n} workers in a mesh would move {moved / 1e9:.1f} GB; above {MESH_MEMBERS}"
        f" workers it may move {MESH_STEP_BYTES / 1e9:.0f} GB"
    )


@dataclass(frozen=True)
class GossipSeen:
    """What the barriers of a training saw; empty before the first one.

    Of several network groups it is the one whose workers are farthest apart.

    Attributes:
        rounds: With a barrier.
        members: Workers whose states were averaged in the last one.
        mixing_steps: Of the last round, each time that workers mixed.
        consensus_distance: Of the weights at the last barrier, after mixing; None where it has no value.
        doubled: The rounds after which the number of steps was doubled.
    """

    rounds: int = 0
    network: str | None = None
    members: int = 0
    spectral_gap: float | None = None
    diameter: int | None = None
    connected: bool = False
    push_sum: bool = False
    mixing_steps: int = 1
    consensus_distance: float | None = None
    doubled: tuple[int, ...] = ()

    def after(
        self, round_number: int, evidence: Mapping[str, Mapping[str, JsonValue]]
    ) -> "GossipSeen":
        """One round further.

        Args:
            round_number: Of the round.
            evidence: Of the round, by network group, as `evidence` makes it.
        """
        found = {
            key: own for key, one in evidence.items() if isinstance(own := one.get("gossip"), dict)
        }
        if not found:
            return self
        key = max(sorted(found), key=lambda name: _number(found[name].get("consensus_distance")))
        known: dict[str, object] = {name: found[key][name] for name in _TOLD}
        doubled = any(one.get("doubled") for one in found.values())
        return replace(
            self,
            rounds=self.rounds + 1,
            network=key,
            doubled=(*self.doubled, round_number) if doubled else self.doubled,
            **known,  # type: ignore[arg-type]  # as `evidence` wrote them
        )

    def report(self) -> dict[str, JsonValue] | None:
        """As status tells it; None before the first barrier."""
        if not self.rounds:
            return None
        return {
            "network": self.network,
            **{name: getattr(self, name) for name in _TOLD},
            "target_distance": TARGET_DISTANCE,
            "steps_doubled_after_rounds": list(self.doubled),
        }


def evidence_of(
    mixing: Mixing, members: int, steps: int, distance: float | None
) -> dict[str, JsonValue]:
    """What the ledger says of a barrier: how workers had mixed, and how far apart they are."""
    return {
        "gossip": {
            "members": members,
            "spectral_gap": mixing.spectral_gap,
            "diameter": mixing.diameter,
            "connected": mixing.graph.connected,
            "push_sum": mixing.push_sum,
            "mixing_steps": steps,
            "consensus_distance": distance,
            "doubled": next_steps(steps, distance) > steps,
        }
    }


_TOLD = (
    "members",
    "spectral_gap",
    "diameter",
    "connected",
    "push_sum",
    "mixing_steps",
    "consensus_distance",
)


def _squared(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """||one - other||^2 in float64, block by block; `other` may be a single value."""
    total = 0.0
    for start in range(0, one.size, BLOCK):
        part = slice(start, start + BLOCK)
        apart = one[part].astype(np.float64) - (other if other.size == 1 else other[part])
        total += float(apart @ apart)
    return total


def _number(value: object) -> float:
    """A distance for comparison: one without a value is the largest."""
    return float(value) if isinstance(value, int | float) else math.inf
