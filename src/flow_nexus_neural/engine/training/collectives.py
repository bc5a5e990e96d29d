"""Averages the updates of a network group over the links of its cluster: nodes read each other's memory.

The engine says who reads what, step by step, and copies the result once. It sees no single update, unless
something is wrong with the result: then it copies all of them, leaves out what is wrong, and says so.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import anyio

from flow_nexus_neural.coordination.collectives import (
    Collective,
    Folding,
    Plane,
    plan_average,
    plan_plane,
)
from flow_nexus_neural.coordination.topology import ENGINE
from flow_nexus_neural.engine.calls.deadlines import CANCEL
from flow_nexus_neural.engine.links.report import vertex_of
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import ExchangeReport
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.state_views import StateViews
from flow_nexus_neural.errors import InternalError, NeuralError, NodeError, UpdateRejected
from flow_nexus_neural.kernels.averaging import averaged_step
from flow_nexus_neural.kernels.folding import FLOAT_BYTES
from flow_nexus_neural.protocol.digest import vectors_digest
from flow_nexus_neural.protocol.messages import Cancel, Fold, FoldPart, FoldSource
from flow_nexus_neural.runtime.base import Buffer

SLOWEST_BYTES_PER_S = 1e7
"""A member that sums more slowly than this is left out of its round."""


CANCEL_S = 1.0
"""An exchange waits no longer until lost members have heard that they are out."""


ENGINE_IS_ROOT = "without a parameter server the root of a hierarchy is the engine"


class MembersLost(Exception):
    """Members of an exchange failed in it, each with its reason; the others can go on without them."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__(str(dict(reasons)))
        self.reasons = dict(reasons)


@dataclass(frozen=True)
class Averaged:
    """What the members of an exchange hold now.

    Attributes:
        state: A copy, with the shapes of the network; not yet known to be finite.
        contributors: Workers whose updates are in it, in slot order.
        lost: Who failed on the way, each with its reason.
        report: What the exchange cost.
    """

    state: ModelState
    contributors: tuple[str, ...]
    lost: Mapping[str, str]
    report: ExchangeReport


@dataclass
class Attempt:
    """One carried-out plan: what readers counted, and the digests of their states."""

    collective: Collective
    network: NetworkGroup
    read: Counter[str] = field(default_factory=Counter)
    digests: dict[str, str] = field(default_factory=dict)


class LinkExchange:
    """The exchanges of one training.

    Args:
        cluster: Whose links are used.
        update_of: The buffer into which a worker writes its updates.
    """

    def __init__(self, cluster: LiveCluster, update_of: Callable[[str], Buffer | None]) -> None:
        self._cluster = cluster
        self._context = cluster.context
        self._calls = cluster.calls("train")
        self._views = StateViews(cluster, update_of)

    def plane(
        self, network: NetworkGroup, workers: Sequence[Slot], without: Collection[str] = ()
    ) -> Plane | None:
        """Who takes part in the exchange of a network group; None where links carry nothing.

        Args:
            network: Of the workers.
            workers: Those that can take part.
            without: Members that failed in this exchange, whatever their role, the engine among them.
        """
        links = self._cluster.state.links
        if links is None or not self._context.runtime.capabilities.peer_views:
            return None
        helpers = self._cluster.slots.healthy("parameter_server", "aggregator")
        own = [slot for slot in workers if slot.name in network.slots]
        members = [slot for slot in (*own, *helpers) if slot.name not in without]
        plane = plan_plane(links.topology, [vertex_of(slot) for slot in members])
        return None if plane is None or set(plane.members) & set(without) else plane

    @property
    def views(self) -> StateViews:
        """The buffers, and who holds what."""
        return self._views

    def held_by(self, slot: Slot, state: ModelState | None) -> Buffer | None:
        """The worker's own buffer, if it holds this state since an exchange."""
        return self._views.holder_of(slot, state)

    async def average(
        self, network: NetworkGroup, updates: Sequence[Update], workers: Sequence[Slot]
    ) -> Averaged | None:
        """Let the members average these updates by rows; None where no plan is left to try.

        Members that fail on the way are left out, with their updates, and the rest is planned anew: what a
        worker trained stays in its buffer until all is done.

        Args:
            network: Of all of them.
            updates: In slot order.
            workers: Those that can take part, contributors or not.
        """
        began_s = self._cluster.clock()
        out: dict[str, str] = {}
        while True:
            plane = self.plane(network, workers, out)
            rows = {u.slot: u.rows for u in updates if plane and u.slot in plane.workers}
            if plane is None or not rows or network.state is None:
                return None
            length = sum(array.size for array in network.state.arrays.values())
            attempt = Attempt(plan_average(plane, rows, length), network)
            try:
                await self.carry_out(attempt)
                state = await self._copied(attempt, updates)
            except MembersLost as failure:
                out |= failure.reasons
            else:
                ms = (self._cluster.clock() - began_s) * 1e3
                return Averaged(
                    state, tuple(rows), out, exchange_report(attempt, len(rows), length, ms)
                )

    async def release(self) -> None:
        """Make nodes forget what they may read of each other."""
        await self._views.release()

    def close(self) -> None:
        """Give up every buffer."""
        self._views.close()

    async def carry_out(self, attempt: Attempt, *, hashed: bool = True) -> None:
        """Every step, one after the other; what was read is counted also when one fails.

        Args:
            attempt: Gets what readers counted, and the digests of what members hold in the end.
            hashed: Whether the digests are wanted.

        Raises:
            MembersLost: Who failed in the first step in which somebody did.
        """
        self._views.begin(attempt.collective.plane)
        try:
            await self._steps(attempt, hashed=hashed)
        except MembersLost as failure:
            await self._cancel(failure.reasons)
            raise
        finally:
            self._cluster.metrics.count_payload("links", attempt.read.total())

    async def _steps(self, attempt: Attempt, *, hashed: bool) -> None:
        last = {f.member: n for n, step in enumerate(attempt.collective.steps) for f in step}
        for number, step in enumerate(attempt.collective.steps):
            lost: dict[str, str] = {}

            async def perform(
                folding: Folding, number: int = number, lost: dict[str, str] = lost
            ) -> None:
                try:
                    await self._perform(
                        attempt, folding, hashed=hashed and last[folding.member] == number
                    )
                except NeuralError as failure:
                    lost[folding.member] = f"{failure.code}: {failure.message}"
                except OSError as failure:  # no descriptor or memory is left to grant it
                    lost[folding.member] = f"it could not be equipped: {failure}"

            async with anyio.create_task_group() as group:
                for folding in step:
                    group.start_soon(perform, folding)
            if lost:
                raise MembersLost(lost)

    async def _cancel(self, members: Collection[str]) -> None:
        """End what lost members may still sum; who hears nothing is left to supervision."""
        with anyio.move_on_after(CANCEL_S):
            async with anyio.create_task_group() as group:
                for slot in self._cluster.slots.healthy():
                    if slot.name in members:
                        group.start_soon(self._cancel_one, slot)

    async def _cancel_one(self, slot: Slot) -> None:
        try:
            await self._calls.ask(slot, Cancel(), CANCEL)
        except NodeError:
            return

    async def _perform(self, attempt: Attempt, folding: Folding, *, hashed: bool) -> None:
        """One member's part of one step."""
        if folding.member == ENGINE:
            await self._context.offload(self._views.fold_here, folding, attempt.network)
            attempt.read.update(folding.bytes_from())
            return
        slot = self._cluster.slots[folding.member]
        await self._views.equip(slot, folding, attempt.network)
        request, planned = (
            self._request(attempt.network, folding, hashed=hashed),
            folding.bytes_from(),
        )
        link = self._context.patience.link
        patience = replace(link, answer_s=link.answer_s + planned.total() / SLOWEST_BYTES_PER_S)
        reply, _ = await self._calls.ask(slot, request, patience)
        if reply.bytes_read != planned.total():
            raise UpdateRejected(
                f"{slot.name} read {reply.bytes_read} bytes of its neighbours, not {planned.total()}"
            )
        attempt.read.update(planned)
        if reply.digest is not None:
            attempt.digests[slot.name] = reply.digest

    def _request(self, network: NetworkGroup, folding: Folding, *, hashed: bool) -> Fold:
        key = partial(self._views.key, network)
        return Fold(
            into=key(folding.member, folding.into),
            parts=tuple(
                FoldPart(
                    start=part.start,
                    stop=part.stop,
                    divisor=part.divisor,
                    sources=tuple(
                        FoldSource(region=key(s.member, s.held), weight=s.weight)
                        for s in part.sources
                    ),
                )
                for part in folding.parts
            ),
            hashed=hashed,
        )

    async def _copied(self, attempt: Attempt, updates: Sequence[Update]) -> ModelState:
        """The engine's copy of what most workers hold; those that hold anything else start anew next time.

        Raises:
            MembersLost: Nothing of what workers hold is what they said.
        """
        plane, network = attempt.collective.plane, attempt.network
        said = {name: attempt.digests.get(name, "") for name in plane.workers}
        common, _ = Counter(said.values()).most_common(1)[0]
        holders = [name for name in plane.workers if said[name] == common]
        wrong: dict[str, str] = {}
        for name in holders:
            arrays = await self._context.offload(self._views.state_buffer(network, name).copy)
            self._cluster.metrics.count_payload("sync", sum(a.nbytes for a in arrays.values()))
            if await self._context.offload(vectors_digest, arrays.values()) == common:
                break
            wrong[name] = "it does not hold what it said it holds after an exchange"
        else:
            raise MembersLost(wrong)
        former = network.state
        if former is None:
            raise InternalError(f"network {network.key} has no state to start from")
        inside = [u for u in updates if u.slot in plane.workers]
        state = replace(
            former,
            params=arrays["params"],
            buffers=arrays["buffers"],
            moments={name: arrays[name] for name in former.moments},
            opt_step=averaged_step([u.opt_step for u in inside], [u.rows for u in inside]),
        )
        self._views.now_hold(network, [name for name in holders if name not in wrong], state)
        return state


def exchange_report(attempt: Attempt, contributors: int, length: int, ms: float) -> ExchangeReport:
    """What a carried-out plan cost, for states of so many elements."""
    collective = attempt.collective
    return ExchangeReport(
        network=attempt.network.key,
        path="links",
        reason=ENGINE_IS_ROOT if ENGINE in collective.plane.members else None,
        topology=collective.plane.topology,
        members=len(collective.plane.members),
        contributors=contributors,
        steps=len(collective.steps),
        state_bytes=FLOAT_BYTES * length,
        bytes=attempt.read.total(),
        busiest_bytes=max(attempt.read.values(), default=0),
        ms=ms,
    )
