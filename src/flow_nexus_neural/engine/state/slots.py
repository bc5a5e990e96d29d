"""Slots and their incarnations: the stable names of a cluster and the processes behind them.

Only the methods here change a slot, so that what must hold of it is written in one place.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio

from flow_nexus_neural.coordination.conduct import Answer, Conduct, Verdict, after, verdict
from flow_nexus_neural.coordination.membership import SlotState, advance, slot_order
from flow_nexus_neural.engine.state.slot_spec import Former, Layers, SlotSpec, in_one_order
from flow_nexus_neural.errors import NodeNotFound
from flow_nexus_neural.networks.defaults import default_layers
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.protocol.node_words import shortened
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.runtime.base import NodeHandle
from flow_nexus_neural.vocabulary import Role

REPLACEABLE: frozenset[SlotState] = frozenset(
    {"failed", "recovering", "failed_permanently", "quarantined"}
)
MAX_ERROR_LENGTH = 400
FORMER_KEPT = 8
MAX_OFFERED = 64
"""Versions in a row; no question is open for longer."""


def _few() -> deque[str]:
    return deque(maxlen=MAX_OFFERED)


@dataclass(eq=False)
class Slot:
    """One stable place in a cluster.

    Attributes:
        name: Role and number, for example `worker-0`; never reused.
        node_id: Of the current incarnation.
        handle: None while no process lives.
        former: The last incarnations before this one.
        built: Networks that the living process has, by name, with their plan digests.
        served: Weights digest of each serving copy in the living process.
        offered: Digests of weights that a serving copy of the living process may have had, the latest ones.
        deployed_at: When the current incarnation became healthy.
        recovered_at_s: Monotonic time of the last replacement; None before the first.
        heard_at_s: Monotonic time of the last reply.
        calls: Requests sent to the process and not yet answered.
        calls_begun: Requests sent to it in all.
        durable: It joined once and has a row. One that never did is forgotten when its start fails.
        removal_recorded: That it was removed is durable.
        returning: Its process ended with the runtime, through no fault of its own, and is being restarted.
        restart_due: Autonomy is going to restart it.
        stands_in_for: Lost slot in whose place autonomy deployed this one; None where it did not.
        accused: A proof that its process cheated; None where there is none.
        rounds_done: Committed rounds that rest on an update of this slot.
        loss: Its training loss in the last of them.
        rows: Rows of its shard in the latest training.
        stacked, train_cpu_s: Clients in its stack in that round, None by itself; CPU seconds of its part.
        last_error: Why it failed, or the last error that it answered with.
        condemned: Its process is being killed, or was, for what `last_error` says.
        conduct: How the living process answers predictions.
        watched: The process of which a prediction is kept open that nobody waits for any more.
        inquired: The process that the engine is asking by itself because it is doubted.
    """

    name: str
    spec: SlotSpec
    node_id: str
    incarnation: int = 1
    state: SlotState = "declared"
    handle: NodeHandle | None = None
    former: deque[Former] = field(default_factory=lambda: deque(maxlen=FORMER_KEPT))
    built: dict[str, str] = field(default_factory=dict)
    served: dict[str, str] = field(default_factory=dict)
    offered: deque[str] = field(default_factory=_few)
    deployed_at: str = ""
    recovered_at_s: float | None = None
    heard_at_s: float = 0.0
    calls: int = 0
    calls_begun: int = 0
    durable: bool = False
    removal_recorded: bool = False
    returning: bool = False
    restart_due: bool = False
    accused: str | None = None
    stands_in_for: str | None = None
    parameters: int | None = None
    implied_head: bool | None = None
    rounds_done: int = 0
    loss: float | None = None
    rows: int | None = None
    stacked: int | None = None
    train_cpu_s: float | None = None
    last_error: str | None = None
    condemned: bool = False
    conduct: Conduct = field(default_factory=Conduct)
    watched: NodeHandle | None = None
    inquired: NodeHandle | None = None
    restarting: anyio.Lock = field(default_factory=anyio.Lock)

    @property
    def healthy(self) -> bool:
        """Whether it can be asked."""
        return self.state == "healthy" and self.handle is not None

    @property
    def arriving(self) -> bool:
        """Whether it is being started, or is doubted: what becomes of it shows without anybody's request."""
        return (
            self.coming_back
            or self.restarting.locked()
            or self.state in ("starting", "syncing", "suspect")
        )

    @property
    def coming_back(self) -> bool:
        """Whether a process will be started for it without anybody's request."""
        return self.returning or self.restart_due

    @property
    def lost(self) -> bool:
        """Whether it has no process and gets none until somebody replaces it."""
        return not self.arriving and self.state in ("failed", "failed_permanently", "quarantined")

    def layers_for(self, architecture: str, rows: InputSpec | None) -> Layers:
        """Its network for such rows, canonical: its own, else the default of its cluster's architecture.

        Without `rows`, where the data are not known yet, the default is the one for sequences.
        """
        if self.spec.layers:
            return self.spec.layers
        number = int(self.name.rsplit("-", 1)[1])
        raw = default_layers(architecture, self.spec.model, self.spec.role, number, rows)
        return in_one_order(layer.to_json() for layer in parse_layers(raw).layers)

    def move(self, state: SlotState) -> None:
        """Change state.

        Raises:
            InvalidState: If the state may not follow; that is a bug of the engine.
        """
        self.state = advance(self.name, self.state, state)

    def begin_start(self) -> None:
        """A process is about to be started for this slot."""
        if self.state != "recovering":
            self.move("starting" if self.state == "declared" else "recovering")

    def begin_incarnation(self, node_id: str) -> None:
        """The next process of this slot is a new incarnation with a node id of its own."""
        self.former.append(Former(self.node_id, self.incarnation, self.last_error))
        self.incarnation += 1
        self.node_id = node_id

    def note_former(self, one: Former) -> None:
        """An earlier incarnation that was read back; what is told of it last counts."""
        if self.former and self.former[-1].node_id == one.node_id:
            self.former.pop()
        self.former.append(one)

    def attach(self, handle: NodeHandle, at_s: float) -> None:
        """A new process is this slot's incarnation; it holds no network yet."""
        self.handle, self.built, self.served, self.offered = handle, {}, {}, _few()
        self.heard_at_s = at_s
        self.condemned, self.conduct = False, Conduct()
        self.restart_due, self.accused = False, None

    def detach(self) -> None:
        """The process is gone."""
        self.handle, self.built, self.served = None, {}, {}

    def become_healthy(self, at: str) -> None:
        """The process holds what it should and can be asked from now on."""
        self.move("healthy")
        self.deployed_at, self.last_error = at, None

    def note_durable(self) -> None:
        """That it joined is recorded."""
        self.durable = True

    def note_removal_recorded(self) -> None:
        """That it was removed is recorded."""
        self.removal_recorded = True

    def note_restart(self, at_s: float) -> None:
        """A restart succeeded at this monotonic time."""
        self.recovered_at_s = at_s

    def fail(self, reason: str) -> None:
        """The slot has no process any more, for this reason."""
        self.note_error(reason)
        if self.state not in ("failed", "retired"):
            self.move("failed")

    def accuse(self, reason: str) -> None:
        """Its process was caught cheating; what follows is for autonomy, or the caller, to decide."""
        self.accused = shortened(reason, MAX_ERROR_LENGTH)

    def quarantine(self, reason: str) -> None:
        """It was caught cheating, or proves nothing: it takes no part in anything until it is replaced."""
        self.note_error(reason)
        if self.state != "quarantined":
            self.move("quarantined")

    def condemn(self, reason: str) -> None:
        """Its process is about to be killed for this reason, which outlives the process."""
        if self.state == "healthy":
            self.move("suspect")
        self.condemned, self.last_error = True, shortened(reason, MAX_ERROR_LENGTH)

    def doubt(self, reason: str) -> None:
        """Its process may have to be ended; it is not asked until it is trusted again."""
        if self.state == "healthy":
            self.move("suspect")
        self.note_error(reason)

    def trust(self) -> bool:
        """Its process has just answered: True when that takes a doubt away."""
        if self.state != "suspect" or self.condemned or verdict(self.conduct) != "trusted":
            return False
        self.move("healthy")
        return True

    def note_answer(self, answer: Answer, *, from_caller: bool) -> Verdict:
        """Count an answer to a prediction, or that there was none; what follows is the caller's to do."""
        self.conduct = after(self.conduct, answer, from_caller=from_caller)
        return verdict(self.conduct)

    def begin_watch(self, handle: NodeHandle) -> bool:
        """Keep a prediction open that nobody waits for; False when there is one already."""
        if self.watched is handle:
            return False
        self.watched = handle
        return True

    def end_watch(self, handle: NodeHandle) -> None:
        """No such prediction of this process is open any more."""
        if self.watched is handle:
            self.watched = None

    def begin_inquiry(self, handle: NodeHandle) -> bool:
        """Ask a process without a caller; False when that is being done already."""
        if self.inquired is handle:
            return False
        self.inquired = handle
        return True

    def end_inquiry(self, handle: NodeHandle) -> None:
        """This process is not asked without a caller any more."""
        if self.inquired is handle:
            self.inquired = None

    def await_restart(self, *, expected: bool) -> None:
        """Note whether autonomy is going to restart it."""
        self.restart_due = expected

    def give_up(self, reason: str) -> None:
        """It failed too often: nothing restarts it until somebody replaces it."""
        self.note_error(reason)
        self.move("failed_permanently")

    def await_return(self, *, expected: bool) -> None:
        """Note whether a lost process is being restarted without anybody's request."""
        self.returning = expected

    def note_error(self, reason: str) -> None:
        """Keep the latest error for status; a reason that is too long is cut."""
        self.last_error = shortened(reason, MAX_ERROR_LENGTH)

    def begin_call(self) -> None:
        """A request was sent to the process."""
        self.calls += 1
        self.calls_begun += 1

    def end_call(self) -> None:
        """A request was answered or given up."""
        self.calls -= 1

    def heard(self, at_s: float) -> None:
        """The process answered something at this monotonic time."""
        self.heard_at_s = at_s

    def note_built(self, network: str, plan_digest: str) -> None:
        """The living process has built a network under this name."""
        self.built[network] = plan_digest

    def note_served(self, network: str, weights_digest: str) -> None:
        """A serving copy of the living process holds these weights."""
        self.served[network] = weights_digest

    def note_offered(self, weights_digest: str) -> None:
        """A serving copy of the living process may hold these weights from now on."""
        if weights_digest not in self.offered:
            self.offered.append(weights_digest)

    def assign_network(self, parameters: int, *, implied_head: bool) -> None:
        """The slot trains or serves a network of this size."""
        self.parameters, self.implied_head = parameters, implied_head

    def assign_rows(self, rows: int) -> None:
        """The slot has a shard of this many rows."""
        self.rows = rows

    def finish_round(
        self, loss: float | None, rows: int, cpu_s: float | None = None, stacked: int | None = None
    ) -> None:
        """A committed round rests on this slot's update."""
        self.rounds_done += 1
        self.loss, self.rows, self.train_cpu_s, self.stacked = loss, rows, cpu_s, stacked


class SlotBook:
    """The slots of one cluster, in deploy order."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}
        self._numbers: dict[str, int] = {}

    def __iter__(self) -> Iterator[Slot]:
        """All slots that are not retired, in the order of roles and numbers as deployed.

        As of now: who waits between two slots does not meet those that come meanwhile.
        """
        return iter([slot for slot in self._slots.values() if slot.state != "retired"])

    def __len__(self) -> int:
        """Slots that are not retired."""
        return sum(1 for _ in self)

    def names(self) -> frozenset[str]:
        """Names of all slots that are not retired."""
        return frozenset(slot.name for slot in self)

    def with_retired(self) -> list[Slot]:
        """All slots that ever were healthy."""
        return list(self._slots.values())

    def __getitem__(self, name: str) -> Slot:
        """The slot of this name."""
        return self._slots[name]

    def next_name(self, role: Role) -> str:
        """The name that the next slot of this role gets."""
        return f"{role}-{self._numbers.get(role, 0)}"

    def add(self, slot: Slot) -> None:
        """Enter a slot under its name."""
        self._slots[slot.name] = slot
        role, number = slot.name.rsplit("-", 1)
        self._numbers[role] = max(self._numbers.get(role, 0), int(number) + 1)

    def remove(self, slot: Slot) -> None:
        """Forget a slot that never came up; its name is not used again."""
        del self._slots[slot.name]

    def find(self, node: str) -> Slot:
        """The slot of a node id or a slot name.

        Raises:
            NodeNotFound: Neither a node id nor a slot name of this cluster.
        """
        for slot in self:
            if node in (slot.node_id, slot.name):
                return slot
        known = ", ".join(f"{slot.name} ({slot.node_id})" for slot in list(self)[:8])
        raise NodeNotFound(
            f"no node or slot {node!r} in this cluster; it has {len(self)}: {known or 'none'}",
            hint="take an id or a slot name from neural_cluster_status, or deploy with neural_node_deploy",
        )

    def of_role(self, *roles: Role) -> list[Slot]:
        """Slots of these roles, in slot order."""
        return sorted((s for s in self if s.spec.role in roles), key=vertex_order)

    def census(self) -> str:
        """Healthy of all slots, by role, for a text: `1 of 2 workers, 1 of 1 validators`."""
        counts = {
            role: (len(self.healthy(role)), len(self.of_role(role)))
            for role in ("worker", "parameter_server", "aggregator", "validator")
        }
        told = [f"{ok} of {n} {role}s" for role, (ok, n) in counts.items() if n]
        return ", ".join(told) or "no nodes"

    def healthy(self, *roles: Role) -> list[Slot]:
        """Healthy slots of these roles (all roles when none is named), in slot order."""
        chosen = [s for s in self if s.healthy and (not roles or s.spec.role in roles)]
        return sorted(chosen, key=vertex_order)

    def verifiers(self) -> list[Slot]:
        """Healthy members that may judge what workers prove: validators, else others that do not train."""
        return self.healthy("validator") or self.healthy("parameter_server", "aggregator")


def vertex_order(slot: Slot) -> tuple[int, int, str]:
    """Roles in vertex order, then by number: the order in which everything is folded."""
    return slot_order(slot.name)
