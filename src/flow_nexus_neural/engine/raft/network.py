"""Network, clock and disk of a cluster's voters.

A round lets every voter that can be reached do one step. What the steps changed is written in one
transaction; only then the messages that they left are put on their way, and what they say is committed may be
believed.

Time is the engine's to tell: it passes only while voters are driven, and as fast as they answer. A cluster in
which nothing is to be decided costs nothing, and nobody waits for a timeout in real time.
"""

from collections.abc import Callable, Iterable, Mapping

import anyio

from flow_nexus_neural.coordination.consensus.raft.electorate import ROLES, Candidate
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.raft.orders import NOTHING, Order, Orders
from flow_nexus_neural.engine.raft.seat import Seat
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import NodeError, NodeTimeout
from flow_nexus_neural.protocol.messages import RaftStep, RaftStepped
from flow_nexus_neural.protocol.raft_records import LogChange, Message, Records
from flow_nexus_neural.vocabulary import SEED_LIMIT

TICK_MS = 50
GONE = frozenset({"retired", "quarantined", "failed_permanently"})
"""States of a slot whose process does not come back by itself or by a plain deploy."""


def everything(_message: Message) -> bool:
    """A network that loses nothing by itself."""
    return True


class VoterNetwork:
    """The voters of one cluster and the messages between them.

    Attributes:
        seats: By name; also of voters that have left, whose term and vote still count should they come back.
        ordered: What may stand in their logs.
        passes: Which messages arrive; tests let others be lost.
    """

    def __init__(self, cluster: LiveCluster) -> None:
        self.cluster = cluster
        self.seats: dict[str, Seat] = {}
        self.passes: Callable[[Message], bool] = everything
        self.ordered = Orders()

    def slot(self, name: str) -> Slot | None:
        """The slot of a voter, if its process can be asked."""
        if name not in self.cluster.slots.names():
            return None
        slot, seat = self.cluster.slots[name], self.seats.get(name)
        if not slot.healthy or (seat is not None and seat.is_silent(slot.node_id, slot.heard_at_s)):
            return None
        return slot

    def leader(self) -> Seat | None:
        """Who leads the latest term, as far as its process is known to live."""
        leading = [
            seat
            for seat in self.seats.values()
            if seat.leads
            and (slot := self.slot(seat.name)) is not None
            and seat.in_step_with == slot.node_id
        ]
        return max(leading, key=lambda seat: seat.records.hard.term, default=None)

    def voters(self) -> tuple[str, ...]:
        """The configuration of the leader; without one, of the log that is furthest."""
        best = self.leader() or max(self.seats.values(), key=lambda s: s.rank, default=None)
        return best.voters if best is not None else ()

    def living(self) -> list[str]:
        """Voters whose processes can be asked."""
        return [name for name in self.voters() if self.slot(name) is not None]

    def reachable(self, names: Iterable[str]) -> list[tuple[Seat, Slot]]:
        """Those of these voters, all with a seat, whose processes can be asked."""
        found = [(self.seats[name], self.slot(name)) for name in names]
        return [(seat, slot) for seat, slot in found if slot is not None]

    def candidates(self) -> list[Candidate]:
        """Who may vote."""
        voters = self.voters()
        return [
            Candidate(
                slot.name, slot.spec.role, slot.healthy or (slot.arriving and slot.name in voters)
            )
            for slot in self.cluster.slots
            if slot.state not in GONE
        ]

    def prefers_another_to(self, leader: Seat) -> bool:
        """Whether a voter lives whose role should rather lead."""
        preferred = self._preferred()
        return bool(preferred) and leader.name not in preferred

    @property
    def is_quiet(self) -> bool:
        """Whether no message is on its way to a voter that can be reached."""
        return not any(self.seats[name].inbox for name in self._members())

    async def open_seat(self, name: str, records: Records) -> None:
        """A voter that was none before. Raises `StoreUnavailable`."""
        if name not in self.seats:
            store, cluster_id = self.cluster.context.store, self.cluster.cluster_id
            await store.write_voters(cluster_id, {name: (records, None)})
            self.seats[name] = Seat(name, records)

    async def begin(self, records: Mapping[str, Records]) -> None:
        """Voters begin with these records, all or none, whatever they had. Raises `StoreUnavailable`.

        Processes of other voters begin again from their records: none of them leads any more.
        """
        store, cluster_id = self.cluster.context.store, self.cluster.cluster_id
        changed = {name: (one, LogChange(one.snapshot.index)) for name, one in records.items()}
        await store.write_voters(cluster_id, changed)
        for name, one in records.items():
            self.seats.setdefault(name, Seat(name, one)).records = one
        for seat in self.seats.values():
            seat.lose()

    async def round(self, elapsed_ms: int, orders: Mapping[str, Order] | None = None) -> None:
        """Let every voter that can be reached do one step. Not interrupted by cancellation.

        Raises:
            StoreUnavailable: What changed could not be made durable; no message of this round is sent, and
                every voter begins again from what is durable.
        """
        orders = orders or {}
        answers: dict[str, RaftStepped] = {}
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for name in self._members():
                    order = orders.get(name, NOTHING)
                    group.start_soon(self._step, self.seats[name], elapsed_ms, order, answers)
            await self._make_durable(answers, orders)
        for name in sorted(answers):
            for message in answers[name].outbox:
                self._deliver(message)

    async def _step(
        self, seat: Seat, elapsed_ms: int, order: Order, answers: dict[str, RaftStepped]
    ) -> None:
        slot = self.slot(seat.name)
        if slot is None:
            seat.lose()
            return
        goes_on = seat.in_step_with == slot.node_id
        if not goes_on:
            seat.lose()
        request = RaftStep(
            voter=seat.name,
            seed=self.cluster.spec.seed % SEED_LIMIT,
            elapsed_ms=elapsed_ms,
            inbox=seat.take_inbox(),
            preferred=self._preferred(),
            restore=None if goes_on else seat.records,
            propose=order.propose,
            change=order.change,
            compact=order.compact,
        )
        node_id, seat.in_step_with = slot.node_id, None
        try:
            calls, patience = self.cluster.calls("consensus"), self.cluster.context.patience
            report, _ = await calls.ask(slot, request, patience.raft)
        except NodeTimeout:
            seat.fall_silent(node_id, self.cluster.clock())
            return
        except NodeError as failure:
            seat.lose()
            slot.note_error(str(failure))
            return
        seat.in_step_with = node_id
        answers[seat.name] = report

    async def _make_durable(
        self, answers: dict[str, RaftStepped], orders: Mapping[str, Order]
    ) -> None:
        """Write what changed, all of it or nothing.

        A step that does not continue the voter's records, or adds what nobody ordered, is left out.
        """
        changed = {}
        durable = {name: seat.records for name, seat in self.seats.items()}
        for name, report in list(answers.items()):
            seat = self.seats[name]
            try:
                self.ordered.check(name, orders.get(name, NOTHING), report, durable)
                change = seat.changed(report)
            except ValueError as fault:
                self.cluster.slots[name].note_error(f"protocol_violation: raft: {fault}")
                seat.lose()
                del answers[name]
                continue
            if change is not None:
                changed[name] = change
        if changed:
            try:
                await self.cluster.context.store.write_voters(self.cluster.cluster_id, changed)
            except BaseException:  # also cancelled: what is not durable must not be answered
                for name in answers:
                    self.seats[name].lose()
                raise
        for name, (records, _) in changed.items():
            self.seats[name].records = records
        for name, report in answers.items():
            self.seats[name].report = report
            self.ordered.note(report)

    def _deliver(self, message: Message) -> None:
        seat = self.seats.get(message.to)
        if seat is not None and self.slot(message.to) is not None and self.passes(message):
            seat.inbox.append(message)

    def _members(self) -> list[str]:
        """Voters to drive: the leader's configuration, or all that any log names where nobody leads."""
        leader = self.leader()
        if leader is not None:
            named = {*leader.voters, leader.name}
        else:
            named = {name for seat in self.seats.values() for name in seat.voters}
        return [name for name in sorted(named & self.seats.keys()) if self.slot(name) is not None]

    def _preferred(self) -> tuple[str, ...]:
        """Voters of the role that should rather lead."""
        slots = [self.slot(name) for name in self.voters()]
        return tuple(s.name for s in slots if s is not None and s.spec.role == ROLES[0])
