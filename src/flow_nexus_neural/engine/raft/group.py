"""The voters of a cluster: a version is agreed on when its record is committed.

Nothing runs between two questions. Whether the leader still lives shows when something is to be decided, at
the latest; an election then takes as long as the voters need to answer some dozens of steps.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import anyio

from flow_nexus_neural.coordination.consensus.raft.applied import Applied, apply, body_digest
from flow_nexus_neural.coordination.consensus.raft.beginning import beginning, is_abandoned
from flow_nexus_neural.coordination.consensus.raft.committed import committed_up_to
from flow_nexus_neural.coordination.consensus.raft.electorate import (
    Candidate,
    next_configuration,
    voters_of,
)
from flow_nexus_neural.coordination.consensus.raft.quorum import majority
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.raft.network import TICK_MS, VoterNetwork
from flow_nexus_neural.engine.raft.orders import Order
from flow_nexus_neural.engine.raft.seat import Seat
from flow_nexus_neural.engine.raft.weights import ask_again, digests_of, hand_out, take_back
from flow_nexus_neural.engine.state.advice import next_step, what_is_missing
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import (
    ConsensusUnavailable,
    StoreCorrupt,
    StoreUnavailable,
    UpdateRejected,
)
from flow_nexus_neural.protocol.messages.raft import Compacted, Proposed
from flow_nexus_neural.protocol.raft_records import LogEntry, Records, Snapshot

MAX_LOG_ENTRIES = 64
MAX_LOG_CHARACTERS = 1 << 17
"""A longer log is compacted: the records of a voter travel to its next process in one frame."""
PATIENT_ROUNDS = 120
"""After so many rounds without a result it is waited between two, for nothing may come of it soon."""
PAUSE_S = 0.05
LOOK_S = 0.25
"""How often it is looked whether a majority is back, if nothing tells sooner."""
SETTLING_ROUNDS = 40
CHANGING_S = 3.0
"""How long it is tried to change who votes between two records; the next record waits meanwhile."""


class VoterGroup:
    """The voters of one cluster.

    Attributes:
        network: The voters themselves.
        applied: What their log has come to, as far as this engine knows.
        elections: Elections won since the engine started.
        commit_ms: How long the last record took to be committed; None before the first.
    """

    def __init__(self, cluster: LiveCluster) -> None:
        self.cluster = cluster
        self.network = VoterNetwork(cluster)
        self.applied = Applied()
        self.elections = 0
        self.commit_ms: float | None = None
        self._damage: str | None = None
        self._unread: str | None = None
        self._refused: str | None = None
        self._loaded = False
        self._loading = anyio.Lock()
        self._networks: Mapping[str, NetworkGroup] = {}
        self._wanted: Mapping[str, NetworkGroup] = {}
        self._configuration: tuple[str, ...] = ()
        self._led: tuple[int, str] | None = None
        self._turn = anyio.Lock()

    async def load(self) -> None:
        """Read what is durable of the voters, once; what cannot be read is why they are not available.

        Raises:
            StoreUnavailable: It could not be read this time; the next call tries again. Nobody votes until
                then, for new records would take the place of those that are there.
        """
        async with self._loading:
            if self._loaded:
                return
            try:
                stored = await self.cluster.context.store.voters(self.cluster.cluster_id)
            except StoreCorrupt as failure:
                self._damage = failure.message
            except StoreUnavailable as failure:
                self._unread = f"what is durable of the voters was not read: {failure.message}"
                raise
            else:
                try:
                    self._adopt(records.snapshot for records in stored.values())
                    self.network.seats = {name: Seat(name, kept) for name, kept in stored.items()}
                except ValueError as failure:
                    self._damage = f"the snapshot of the voters cannot be read: {failure}"
            self._unread = None
            self._loaded = True

    @property
    def voters(self) -> tuple[str, ...]:
        """Who votes, or who would if something were to be decided now."""
        present = self.network.voters()
        return voters_of(self.network.candidates()) if not present or self._abandoned() else present

    @property
    def missing(self) -> str | None:
        """Why nothing can be decided now; None where it can."""
        if self._damage is not None or self._unread is not None:
            return self._damage or self._unread
        if self.cluster.state.terminated_at is not None:
            return "the cluster has ended"
        voters = self.voters
        slots = self.cluster.slots
        if not voters:
            possible = [slots[one.slot] for one in self.network.candidates()]
            return (
                f"no node can vote: {next_step(possible, 'deploy nodes with neural_node_deploy')}"
            )
        away = [name for name in voters if self.network.slot(name) is None]
        alive = len(voters) - len(away)
        if alive >= majority(voters):
            return None
        told = f"{alive} of {len(voters)} voters are alive and {majority(voters)} are needed"
        return told + what_is_missing(slots, away)

    async def wait(self) -> None:
        """Wait for a majority of living voters, for a limited time.

        Raises:
            ConsensusUnavailable: There is none in time.
            StoreUnavailable: What is durable of the voters could not be read.
        """
        await self.load()
        patience_s = self.cluster.context.patience.majority_s
        began_s = self.cluster.clock()
        while self.missing is not None:
            waited_s = self.cluster.clock() - began_s
            if waited_s >= patience_s or self._damage is not None:
                raise self._unavailable(waited_s)
            await self._wait_a_little(LOOK_S)

    async def commit(self, body: str, networks: Mapping[str, NetworkGroup]) -> None:
        """Return when a record is committed by a majority that holds the weights of its version.

        Raises:
            ConsensusUnavailable: Not in time. Should it happen later, the record is not served, and the next
                one takes its place.
            StoreUnavailable: What voters have to remember could not be written.
            UpdateRejected: The record does not follow what the log has come to.
        """
        await self.load()
        if self._damage is not None:
            raise self._unavailable(0.0)
        began_s = self.cluster.clock()
        async with self._turn:  # what follows the record before may still be at work
            for seat in self.network.seats.values():
                seat.failed_to_hold = None
            await self._begin()
            # What was granted for a version that was given up is not asked for any more.
            await self._take_back(digests_of(networks))
            wanted = body_digest(body)
            proposed = Proposed(body=body, needs=tuple(sorted(digests_of(networks))))

            def orders(leader: Seat) -> Order | None:
                return None if self._pending(leader, body) else Order(propose=proposed)

            self._refused, self._wanted = None, networks
            await self._drive(
                lambda: wanted in (self.applied.digest, self._refused), orders, began_s, networks
            )
            if self._refused == wanted:
                raise UpdateRejected(
                    f"the voters' log is at version {self.applied.version}, which this one does not follow",
                    hint="start the training again: it goes on from the version in force",
                )
            self.commit_ms = (self.cluster.clock() - began_s) * 1e3
            self._networks = networks

    async def settle(self) -> None:
        """What follows a record and nobody has to wait for: who votes on the next one, messages on their way.

        What cannot be done now is done after the next record.
        """
        async with self._turn:
            with suppress(ConsensusUnavailable, StoreUnavailable):
                with anyio.move_on_after(CHANGING_S):
                    await self._reconfigure(self.network.candidates(), self._networks)
                await self._settle()
                await self._take_back(frozenset())
        self.cluster.changed()

    async def _take_back(self, further: frozenset[str]) -> None:
        """Make voters forget weights other than these, those last agreed on, and those in force."""
        committed = self.cluster.committed
        kept = digests_of(self._networks) | digests_of(committed.networks if committed else {})
        reachable = self.network.reachable(self.network.seats)  # also former voters
        await take_back(self.cluster, reachable, kept | further)

    async def leave(self, slot: Slot) -> None:
        """Let the others go on without a slot that is about to be removed.

        Where no majority can come back without it, the next record begins with new voters.

        Raises:
            ConsensusUnavailable, StoreUnavailable: As `commit`.
        """
        await self.load()
        if slot.name in self.network.voters() and not self._abandoned():
            if self.missing is not None:
                if self._abandoned(without=slot.name):
                    return
                raise self._unavailable(0.0)
            async with self._turn:
                rest = [one for one in self.network.candidates() if one.slot != slot.name]
                committed = self.cluster.committed
                if rest:
                    await self._reconfigure(rest, committed.networks if committed else {})

    async def _begin(self) -> None:
        """Choose the voters of a cluster that has none, or whose voters were removed for good."""
        if self.network.seats and not self._abandoned():
            return
        names = voters_of(self.network.candidates())
        if not names:
            raise self._unavailable(0.0)
        committed = self.cluster.committed
        is_served = self.applied.version == (committed.version if committed else 0)
        former = {name: seat.records for name, seat in self.network.seats.items()}
        # What the log came to is not known up to its end after a restart: then any version may follow.
        state = self.applied.to_text() if former and is_served else ""
        begun = beginning(names, former, state)
        await self.network.begin(begun)
        self._adopt(records.snapshot for records in begun.values())

    def _abandoned(self, without: str = "") -> bool:
        left = [name for name in self.cluster.slots.names() if name != without]
        return is_abandoned(self.network.voters(), left)

    async def _reconfigure(
        self, candidates: list[Candidate], networks: Mapping[str, NetworkGroup]
    ) -> None:
        """Bring the voters to those that should vote, one at a time.

        Args:
            candidates: Who may vote.
            networks: Of the version in force, whose weights a new voter must hold to acknowledge it.

        Raises:
            ConsensusUnavailable: Not in time; who votes has changed as far as it came.
        """
        began_s = self.cluster.clock()
        while True:
            present = self.network.voters()
            wanted = voters_of(candidates, present) or present
            following = next_configuration(present, wanted, self.network.living())
            if following is None:
                return
            for name in following:
                await self.network.open_seat(name, Records())
            await self._change(following, networks, began_s)

    async def _change(
        self, following: tuple[str, ...], networks: Mapping[str, NetworkGroup], began_s: float
    ) -> None:
        def orders(leader: Seat) -> Order | None:
            return None if leader.voters == following else Order(change=following)

        def is_done() -> bool:
            leader = self.network.leader()
            return leader is not None and leader.voters == self._configuration == following

        await self._drive(is_done, orders, began_s, networks)

    async def _drive(
        self,
        is_done: Callable[[], bool],
        orders: Callable[[Seat], Order | None],
        began_s: float,
        networks: Mapping[str, NetworkGroup],
    ) -> None:
        """Let voters work until something is decided, for a limited time."""
        patience_s = self.cluster.context.patience.majority_s
        n_rounds = 0
        while not is_done():
            if self.cluster.clock() - began_s >= patience_s:
                raise self._unavailable(patience_s)
            if self.missing is not None:
                await self._wait_a_little(LOOK_S)
                continue
            leader = self.network.leader()
            if leader is not None:
                # Only to those that answered the round before: nobody waits for one that is frozen.
                late = await hand_out(self.cluster, self._answering(), networks)
                ask_again(late, self._present(), majority(self.voters), digests_of(networks))
            order = orders(leader) if leader is not None else None
            await self._round({leader.name: order} if leader is not None and order else {})
            n_rounds += 1
            if n_rounds > PATIENT_ROUNDS:
                await self._wait_a_little(PAUSE_S)

    async def _round(self, orders: Mapping[str, Order]) -> None:
        """One round; time passes where no message is on its way."""
        await self.network.round(TICK_MS if self.network.is_quiet else 0, orders)
        leader = self.network.leader()
        if leader is not None and leader.report is not None:
            led = (leader.report.term, leader.name)
            self.elections += led != self._led
            self._led = led
        for seat in self.network.seats.values():
            self._apply(seat)

    async def _settle(self) -> None:
        """Let messages on their way arrive, and a preferred voter take over; then compact long logs."""
        for _ in range(SETTLING_ROUNDS):
            leader = self.network.leader()  # None while one hands over to another
            settled = leader is not None and not self.network.prefers_another_to(leader)
            if settled and self.network.is_quiet:
                break
            await self._round({})
        state = Compacted(index=self.applied.index, state=self.applied.to_text())
        long = {
            seat.name: Order(compact=state)
            for seat in self.network.seats.values()
            if _is_long(seat.records)
            and seat.report is not None
            and seat.report.commit >= state.index
        }
        if long:
            await self._round(long)

    def _apply(self, seat: Seat) -> None:
        """Apply what a voter says is committed, as far as the durable logs of a majority show it."""
        if seat.report is None:
            return
        last = committed_up_to(
            seat.records,
            seat.report.commit,
            self.applied.index,
            self._configuration,
            {name: one.records for name, one in self.network.seats.items()},
            self._holds,
        )
        for index in range(self.applied.index + 1, last + 1):
            entry = seat.records.entry(index)
            if entry is None:
                return
            self.applied, verdict = apply(self.applied, entry)
            self.network.ordered.note_committed(entry)
            if entry.kind == "voters":
                self._configuration = entry.voters
            if verdict == "refused":
                self._refused = body_digest(entry.body)

    def _holds(self, name: str, entry: LogEntry) -> bool:
        """Whether a voter was seen to hold the weights that are being agreed on; of others nobody asks."""
        needed = set(entry.needs) & digests_of(self._wanted)
        return needed <= self.network.seats[name].held.keys()

    def _adopt(self, snapshots: Iterable[Snapshot]) -> None:
        """Begin from the latest of the snapshots; only such were made durable as the engine had ordered."""
        latest = max(snapshots, key=lambda one: (one.index, bool(one.voters)), default=None)
        if latest is not None:
            self.applied = Applied.of_text(latest.state, latest.index)
            self._configuration = latest.voters

    def _pending(self, leader: Seat, body: str) -> bool:
        """Whether a leader's log has a record that is not applied yet."""
        return any(
            entry.body == body and entry.index > self.applied.index
            for entry in leader.records.entries
        )

    def _present(self) -> list[tuple[Seat, Slot]]:
        """Voters that can be reached."""
        return self.network.reachable(self.network.living())

    def _answering(self) -> list[tuple[Seat, Slot]]:
        """Voters that answered the last round."""
        return [(seat, slot) for seat, slot in self._present() if seat.in_step_with == slot.node_id]

    async def _wait_a_little(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self.cluster.changes.wait_beyond(self.cluster.changes.count)

    def _unavailable(self, waited_s: float) -> ConsensusUnavailable:
        why = self.missing or "no majority of the voters acknowledged it"
        return ConsensusUnavailable(
            f"raft cannot commit: {why} (waited {waited_s:.0f} s)",
            hint="the last committed version answers on; call neural_cluster_status to see the voters",
        )


def _is_long(records: Records) -> bool:
    text = sum(len(entry.body) for entry in records.entries)
    return len(records.entries) > MAX_LOG_ENTRIES or text > MAX_LOG_CHARACTERS
