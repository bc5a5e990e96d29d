"""Who executes a challenged segment again: validators, else idle members, else a process of the engine's own.

Never the worker itself nor another one: two cheats would vouch for each other.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import anyio

from flow_nexus_neural.coordination.consensus.proof_of_learning import Repeated
from flow_nexus_neural.engine.calls.deadlines import BUILD, INFER
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.spare import start_spare, stop_spare
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import NodeError
from flow_nexus_neural.protocol.messages import Build, Reexecute, Train
from flow_nexus_neural.runtime.base import Region

ENGINE = "engine"
"""Name under which the engine's own process is reported."""
RELEASE_S = 2.0
"""A node that takes longer to forget is left to supervision."""
MOST_HELD = 24
"""Regions of workers that one verifier is granted at one time; more would not fit beside its links."""
NETWORKS = 2
"""Networks that a verifier keeps for this; further ones replace them and are built again when needed."""


@dataclass(frozen=True)
class Verification:
    """One segment, executed again.

    Attributes:
        verifier: Slot that did it, or `ENGINE`.
        cpu_s: CPU seconds that it says it took.
    """

    verifier: str
    repeated: Repeated
    cpu_s: float


@dataclass(frozen=True)
class Segment:
    """What a verifier is asked.

    Attributes:
        work: The assignment as the worker got it.
        shard: The engine's rows of that worker.
        state: The state before the segment.
        besides: The engine's own regions that the method of the training needs as well.
    """

    network: NetworkGroup
    work: Train
    number: int
    shard: Region
    state: Region
    besides: tuple[Region, ...] = ()


@dataclass
class Verifiers:
    """The verifiers of one course of rounds; `close` ends what was started for it."""

    cluster: LiveCluster
    _spare: Slot | None = None
    _starting: anyio.Lock = field(default_factory=anyio.Lock)
    _busy: dict[str, anyio.Lock] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _held: dict[str, dict[str, Region]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._calls = self.cluster.calls("consensus")

    @property
    def count(self) -> int:
        """How many there are; the engine's own process counts where there is no other."""
        return max(1, len(self.cluster.slots.verifiers()))

    async def repeat(
        self, segment: Segment, number: int, used: Collection[str]
    ) -> Verification | None:
        """Let one of them execute a segment again; members first, then the engine's own; None after that.

        Args:
            segment: What to execute.
            number: Of the case, by which the work is spread over them.
            used: Those that have said already what they found.

        Raises:
            NodeError: None of them could.
        """
        failure: NodeError | None = None
        tried = set(used)
        while (slot := await self._next(number, tried)) is not None:
            name = self._name_of(slot)
            tried.add(name)
            try:
                # A node has one long request at a time.
                async with self._busy.setdefault(name, anyio.Lock()):
                    return await self._ask(slot, name, segment)
            except NodeError as error:
                slot.note_error(str(error))
                failure = error
                if slot is self._spare:
                    await self._close_own()  # the next segment gets a new process
        if failure is not None:
            raise failure
        return None

    async def close(self) -> None:
        """Let members forget the rows and states of workers, and end the engine's own process."""
        with anyio.move_on_after(RELEASE_S):
            async with anyio.create_task_group() as group:
                for slot in self.cluster.slots:
                    keys = self._held.get(slot.node_id, {})
                    group.start_soon(self._calls.revoke, slot, *keys)
        self._held.clear()
        await self._close_own()

    async def _close_own(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            await stop_spare(spare)

    async def _next(self, number: int, tried: Collection[str]) -> Slot | None:
        members = self.cluster.slots.verifiers()
        first = number % max(1, len(members))
        for slot in members[first:] + members[:first]:
            if slot.name not in tried:
                return slot
        return None if ENGINE in tried else await self._own()

    def _name_of(self, slot: Slot) -> str:
        return ENGINE if slot is self._spare else slot.name

    async def _own(self) -> Slot:
        async with self._starting:
            if self._spare is None or self._spare.handle is None:
                self._spare = await start_spare(self.cluster, "verifier-0")
            return self._spare

    async def _ask(self, slot: Slot, name: str, segment: Segment) -> Verification:
        network = await self._built(slot, segment.network)
        await self._grant(slot, (segment.shard, segment.state, *segment.besides))
        turn = await self.cluster.context.turns.take()
        try:
            work = segment.work.model_copy(update={"network": network})
            request = Reexecute(work=work, segment=segment.number, state=segment.state.key)
            reply, _ = await self._calls.ask(slot, request, INFER)
        finally:
            turn.give_back()
        self._calls.pulled(segment.state.nbytes)
        repeated = Repeated(segment.number, reply.before, reply.after)
        return Verification(name, repeated, reply.cpu_s)

    async def _grant(self, slot: Slot, regions: Sequence[Region]) -> None:
        """Grant what the process does not hold; the oldest goes where it would hold too much."""
        held = self._held.setdefault(slot.node_id, {})
        for region in regions:
            if held.get(region.key) is region:
                continue
            await self._calls.grant(slot, region)
            held.pop(region.key, None)
            held[region.key] = region
        old = [*held][: max(0, len(held) - MOST_HELD)]
        if old:
            await self._calls.revoke(slot, *old)
            for key in old:
                del held[key]

    async def _built(self, slot: Slot, network: NetworkGroup) -> str:
        name = self._names.setdefault(network.key, f"verify{len(self._names) % NETWORKS}")
        if slot.built.get(name) != network.plan_digest:
            await self._calls.ask(slot, Build(network=name, plan=network.plan, seed=0), BUILD)
            slot.note_built(name, network.plan_digest)
        return name
