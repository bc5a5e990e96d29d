"""Trains without a central average: workers mix with their neighbours and go on from what they hold.

Between barriers the engine says who reads whom and sees no weight. At a barrier, the end of a round, it reads
the state of every worker and makes their exact mean, which is measured and committed. The workers keep their
own states. A worker without one (new, returned, late, or after a change of the links, for which all buffers
are replaced) starts from the committed mean.

Every worker has two buffers. It trains from its state and publishes an update; mixing steps go from the one
buffer to the other, so that nobody reads what another writes in the same step, and a step in which a member
is lost can be made again over the others. After the last step all hold their states in the state buffer, and
what they start from stays untouched until they mix again.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flow_nexus_neural.coordination.collectives import (
    Collective,
    Folding,
    Held,
    Plane,
)
from flow_nexus_neural.coordination.consensus.gossip import (
    GossipPolicy,
    Mixing,
    carried,
    consensus_distance,
    evidence_of,
    next_steps,
    plan_mixing,
    too_heavy,
)
from flow_nexus_neural.coordination.consensus.registry import find_policy
from flow_nexus_neural.engine.links.report import vertex_of
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.guarantees import mixing_obstacle
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup, Vector
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.collectives import (
    Attempt,
    MembersLost,
    exchange_report,
)
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.versions.aggregate import Aggregated
from flow_nexus_neural.errors import (
    InvalidTopology,
    NotAvailable,
    RoundFailed,
    UnsupportedCombination,
)
from flow_nexus_neural.kernels.averaging import averaged_step
from flow_nexus_neural.kernels.folding import FLOAT_BYTES
from flow_nexus_neural.protocol.digest import vectors_digest
from flow_nexus_neural.protocol.model_state import MOMENTS

Arrays = dict[str, Vector]


@dataclass(frozen=True)
class _Mixed:
    """What the members of a network group hold since they mixed.

    Attributes:
        token: Stands for the states that only the nodes have: who holds it may go on.
        digests: Of each member's state, as it said.
        steps: Mixing steps that were made.
    """

    mixing: Mixing
    token: ModelState
    digests: Mapping[str, str]
    steps: int


@dataclass
class Gossip:
    """The mixing of one course of rounds; stands where `delivery.Delivery` does for central averages.

    Attributes:
        audited: Whether the engine looks at every update before it is mixed: in the try that follows one
            whose states were not finite, to leave out who is the cause.
        steps: Mixing steps of the next barrier, by network group; 1 where none is said.
        held: By network group, what each worker holds since the last barrier.
    """

    cluster: LiveCluster
    exchange: Exchange
    policy: GossipPolicy
    left_out: LeftOut
    audited: bool = False
    steps: dict[str, int] = field(default_factory=dict)
    held: dict[str, Mapping[str, ModelState]] = field(default_factory=dict)
    _mixed: dict[str, _Mixed] = field(default_factory=dict)

    def detour(self, _network: NetworkGroup) -> str | None:
        """Why updates go through the engine: they never do."""
        return None

    def go_on_from(
        self,
        networks: Mapping[str, NetworkGroup],
        steps: Mapping[str, int],
        own_states: Mapping[str, Mapping[str, ModelState]],
    ) -> None:
        """Continue from the last barrier of a former server: each worker starts from what it held then."""
        self.steps = dict(steps)
        for key, states in own_states.items():
            common = networks[key].state
            if common is not None:
                self.exchange.own_states.give_back(common, states)

    async def combine(
        self, network: NetworkGroup, updates: Sequence[Update], excluded: Collection[str]
    ) -> Aggregated:
        """Let the workers of a group mix what they hold.

        Those that did not train in this exchange mix the state that they have.

        Args:
            network: With the state, or what stands for it, from which the updates started.
            updates: In slot order.
            excluded: Slots that the round has left out.

        Returns:
            Not an average: a state that stands for what the workers hold now. `barrier` makes the average.

        Raises:
            RoundFailed: Nobody is left.
        """
        if network.state is None:
            raise RoundFailed("there is no state to mix", hint="see neural_cluster_status")
        began_s, views = self.cluster.clock(), self.exchange.links.views
        trained = {update.slot: update for update in updates}
        members = {
            slot.name: slot
            for slot in self.exchange.able(network, self.left_out, excluded)
            if slot.name in trained or views.holder_of(slot, network.state) is not None
        }
        idle = [name for name in members if name not in trained]
        steps = self.steps.get(network.key, 1)
        course = _Course(self, network, members)
        if idle:
            await course.perform(_carrying(idle, "state", "update"))
        old: Held = "update"
        for number in range(steps):
            new: Held = "state" if old == "update" else "update"
            await course.mix(old, new, hashed=new == "state" and number == steps - 1)
            old = new
        if old == "update":
            await course.perform(_carrying([*members], "update", "state"), hashed=True)
        counters = [
            trained[name].opt_step if name in trained else network.state.opt_step
            for name in members
        ]
        token = replace(network.state, opt_step=averaged_step(counters, [1] * len(counters)))
        views.now_hold(network, members, token)
        mixing = course.planned()
        self._mixed[network.key] = _Mixed(mixing, token, dict(course.digests), steps)
        ms = (self.cluster.clock() - began_s) * 1e3
        contributors = sum(name in members for name in trained)
        report = exchange_report(course.total(mixing), contributors, course.length, ms)
        self.cluster.metrics.note_exchange(report.model_copy(update={"steps": steps}))
        return Aggregated(token, None, course.lost, {})

    async def barrier(self, network: NetworkGroup, token: ModelState) -> Aggregated:
        """The exact mean of what the workers of a group hold; they keep their own states.

        Args:
            network: As it was before the round.
            token: What `combine` returned last for it.

        Raises:
            RoundFailed: A state is not finite, or none can be read.
        """
        mixed = self._mixed[network.key]
        states: dict[str, Arrays] = {}
        wrong: dict[str, str] = {}
        for name, digest in mixed.digests.items():
            arrays = await self._read(network, name)
            if await self.cluster.context.offload(vectors_digest, arrays.values()) == digest:
                states[name] = arrays
            else:
                wrong[name] = "it does not hold what it said it holds after mixing"
                self.left_out.add(self.cluster.slots[name], wrong[name])
        if not states:
            raise RoundFailed(
                "no worker holds what it said it holds", hint="see neural_cluster_status"
            )
        moments = tuple(token.moments)
        held = {name: _state_of(arrays, moments, token) for name, arrays in states.items()}
        await self._refuse_flawed(held)
        average = await self.cluster.context.offload(self._mean, held, token)
        distance = await self.cluster.context.offload(
            consensus_distance, [state.params for state in held.values()], average.params
        )
        self.steps[network.key] = next_steps(mixed.steps, distance)
        self.held[network.key] = held
        self.exchange.links.views.now_hold(network, held, average)
        self.audited = False
        evidence = evidence_of(mixed.mixing, len(held), mixed.steps, distance)
        weights = {name: 1 / len(held) for name in held}
        return Aggregated(average, weights, wrong, evidence)

    async def _read(self, network: NetworkGroup, name: str) -> Arrays:
        buffer = self.exchange.links.views.state_buffer(network, name)
        arrays = await self.cluster.context.offload(buffer.copy)
        self.cluster.metrics.count_payload("sync", sum(array.nbytes for array in arrays.values()))
        return arrays

    async def _refuse_flawed(self, held: Mapping[str, ModelState]) -> None:
        """What is not finite has spread by mixing: all start anew from the mean, and updates are audited."""
        for name, state in held.items():
            flaw = await self.cluster.context.offload(lambda state=state: state.flaw)
            if flaw is not None:
                self.audited = True
                raise RoundFailed(
                    f"after mixing the state of {name} {flaw}",
                    hint="lower learning_rate; a version that was committed before stays in force",
                )

    def _mean(self, held: Mapping[str, ModelState], token: ModelState) -> ModelState:
        vectors = [state.arrays for state in held.values()]
        combined = self.policy.combine(vectors[0], vectors, [1] * len(vectors)).vectors
        return _state_of(combined, tuple(token.moments), token)


def check_mixing(cluster: LiveCluster, method: str, networks: Collection[NetworkGroup]) -> None:
    """Refuse a training under gossip whose workers cannot mix as they should.

    Args:
        cluster: Of all of them.
        method: Name of the training's aggregation policy.
        networks: That would be trained.

    Raises:
        NotAvailable: Nodes cannot read each other with this server's runtime.
        UnsupportedCombination: Push-sum in another topology than a ring.
        InvalidTopology: A mesh in which mixing moves too much.
    """
    policy = find_policy(method)
    if not isinstance(policy, GossipPolicy):
        return
    obstacle = mixing_obstacle(cluster)
    if obstacle is not None:
        raise NotAvailable(
            obstacle, hint="choose another consensus with neural_cluster_init, such as byzantine"
        )
    links = cluster.state.links
    topology = links.topology if links else cluster.spec.topology
    if policy.push_sum and topology != "ring":
        raise UnsupportedCombination(
            f"aggregation_method {policy.name!r} mixes along a directed ring, and the topology is {topology}",
            hint="connect as ring with neural_cluster_connect, or leave aggregation_method out",
        )
    for network in networks:
        arrays = 1 + len(MOMENTS[network.optimizer])
        state_bytes = FLOAT_BYTES * (network.plan.n_params * arrays + network.plan.n_buffers)
        heavy = too_heavy(topology, len(network.slots), state_bytes)
        if heavy is not None:
            raise InvalidTopology(
                heavy, hint="connect as ring, star or hierarchical with neural_cluster_connect"
            )


class _Course:
    """The steps of one mixing; members that fail are lost, and the step is made again by the others.

    Args:
        gossip: To which it belongs.
        network: Of all members.
        members: By name; those that are lost are removed.
    """

    def __init__(self, gossip: Gossip, network: NetworkGroup, members: dict[str, Slot]) -> None:
        self._gossip, self._network, self._members = gossip, network, members
        arrays = network.state.arrays if network.state else {}
        self.length = sum(array.size for array in arrays.values())
        self.digests: dict[str, str] = {}
        self.lost: dict[str, str] = {}
        self._read: Counter[str] = Counter()

    def planned(self) -> Mixing:
        """How those that are left mix.

        Raises:
            RoundFailed: Nobody is.
        """
        if not self._members:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.lost.items())
            raise RoundFailed(
                f"nobody was left to mix ({reasons})", hint="see neural_cluster_status"
            )
        cluster = self._gossip.cluster
        links = cluster.state.links
        return plan_mixing(
            links.topology if links else cluster.spec.topology,
            [vertex_of(slot) for slot in self._members.values()],
            push_sum=self._gossip.policy.push_sum,
        )

    async def mix(self, old: Held, new: Held, *, hashed: bool) -> None:
        """One mixing step of all members."""
        await self.perform(lambda mixing, length: mixing.step(old, new, length), hashed=hashed)

    async def perform(
        self, make: Callable[[Mixing, int], Sequence[Folding]], *, hashed: bool = False
    ) -> None:
        """One step; what it reads is not overwritten in it, so that it can be made again.

        Raises:
            RoundFailed: Nobody is left.
        """
        links, cluster = self._gossip.exchange.links, self._gossip.cluster
        while True:
            mixing = self.planned()
            foldings = tuple(f for f in make(mixing, self.length) if f.member in self._members)
            attempt = Attempt(Collective(_plane(mixing), (foldings,)), self._network)
            try:
                await links.carry_out(attempt, hashed=hashed)
            except MembersLost as failure:
                for name, why in failure.reasons.items():
                    self.lost[name] = why
                    self._members.pop(name, None)
                    self._gossip.left_out.add(cluster.slots[name], why)
            else:
                self.digests = attempt.digests
                return
            finally:
                self._read.update(attempt.read)

    def total(self, mixing: Mixing) -> Attempt:
        """All steps together, for the report."""
        return Attempt(Collective(_plane(mixing), ()), self._network, self._read)


def _carrying(
    names: Sequence[str], old: Held, new: Held
) -> Callable[[Mixing, int], Sequence[Folding]]:
    return lambda _mixing, length: carried(names, old, new, length)


def _plane(mixing: Mixing) -> Plane:
    graph = mixing.graph
    return Plane(graph.topology, graph.vertices, graph.vertices, graph.edges, graph.hub, {})


def _state_of(
    arrays: Mapping[str, Vector], moments: Sequence[str], token: ModelState
) -> ModelState:
    return ModelState(
        arrays["params"],
        arrays["buffers"],
        {name: arrays[name] for name in moments},
        token.opt_step,
    )
