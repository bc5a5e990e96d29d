"""Slots and their incarnations: the stable names of a cluster and the processes behind them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from pydantic import JsonValue

from flow_nexus_neural.coordination.membership import (
    SlotState,
    advance,
    after_restart,
    slot_order,
)
from flow_nexus_neural.engine.requests import ModelSize, Role
from flow_nexus_neural.engine.storage.rows import SlotRow
from flow_nexus_neural.errors import NodeNotFound
from flow_nexus_neural.runtime.base import NodeHandle

Source = str
REPLACEABLE: frozenset[SlotState] = frozenset({"failed", "recovering", "failed_permanently"})
DEDUPLICATION_S = 10.0


@dataclass(frozen=True)
class SlotSpec:
    """What a slot was declared to be; survives its incarnations.

    Attributes:
        layers: Canonical layer list.
        layers_source: given, peer or default; a replacement keeps its slot's spec.
    """

    role: Role
    node_type: str
    model: ModelSize
    capabilities: tuple[str, ...]
    autonomy: float
    template: str
    layers: tuple[Mapping[str, JsonValue], ...]
    layers_source: Source

    @property
    def kind(self) -> tuple[str, str, frozenset[str]]:
        """What makes two slots interchangeable for a replacement."""
        return (self.role, self.model, frozenset(self.capabilities))

    def to_json(self) -> dict[str, JsonValue]:
        """All fields as JSON."""
        return {
            "role": self.role,
            "node_type": self.node_type,
            "model": self.model,
            "capabilities": list(self.capabilities),
            "autonomy": self.autonomy,
            "template": self.template,
            "layers": [dict(layer) for layer in self.layers],
            "layers_source": self.layers_source,
        }


@dataclass
class Slot:
    """One stable place in a cluster.

    Attributes:
        name: Role and number, for example `worker-0`; never reused.
        node_id: Of the current incarnation.
        handle: None while no process lives.
        built: Networks that the living process has, by name, with their plan digests.
        served: Weights digest of each serving copy in the living process.
        deployed_at: When the current incarnation became healthy.
        recovered_at_s: Monotonic time of the last replacement; None before the first.
        heard_at_s: Monotonic time of the last reply.
        calls: Requests that it has been sent and not answered yet.
        returning: It lost its process without any fault of its own and is being started again.
    """

    name: str
    spec: SlotSpec
    node_id: str
    incarnation: int = 1
    state: SlotState = "declared"
    handle: NodeHandle | None = None
    built: dict[str, str] = field(default_factory=dict)
    served: dict[str, str] = field(default_factory=dict)
    deployed_at: str = ""
    recovered_at_s: float | None = None
    heard_at_s: float = 0.0
    calls: int = 0
    returning: bool = False
    parameters: int | None = None
    implied_head: bool | None = None
    rounds_done: int = 0
    loss: float | None = None
    rows: int | None = None
    last_error: str | None = None
    restarting: anyio.Lock = field(default_factory=anyio.Lock)

    @property
    def healthy(self) -> bool:
        """Whether it can be asked."""
        return self.state == "healthy" and self.handle is not None

    def move(self, state: SlotState) -> None:
        """Change state.

        Raises:
            InvalidState: If the state may not follow; that is a bug of the engine.
        """
        self.state = advance(self.name, self.state, state)

    def attach(self, handle: NodeHandle) -> None:
        """A new process is this slot's incarnation; it holds no network yet."""
        self.handle, self.built, self.served = handle, {}, {}

    def detach(self) -> None:
        """The process is gone."""
        self.handle, self.built, self.served = None, {}, {}

    def to_row(self, cluster_id: str) -> SlotRow:
        """The durable part."""
        return SlotRow(
            cluster_id=cluster_id,
            slot=self.name,
            node_id=self.node_id,
            incarnation=self.incarnation,
            pid=self.handle.pid if self.handle else None,
            state=self.state,
            spec={
                **self.spec.to_json(),
                "parameters": self.parameters,
                "implied_head": self.implied_head,
                "rounds_done": self.rounds_done,
                "rows": self.rows,
                "deployed_at": self.deployed_at,
                "last_error": self.last_error,
            },
        )

    @classmethod
    def from_row(cls, row: SlotRow) -> "Slot":
        """A slot as it was stored; its process is gone with the server that ran it."""
        spec: dict[str, Any] = dict(row.spec)
        own = {
            name: spec.pop(name)
            for name in (
                "parameters",
                "implied_head",
                "rounds_done",
                "rows",
                "deployed_at",
                "last_error",
            )
        }
        spec["capabilities"] = tuple(spec["capabilities"])
        spec["layers"] = tuple(spec["layers"])
        return cls(
            name=row.slot,
            spec=SlotSpec(**spec),
            node_id=row.node_id,
            incarnation=row.incarnation,
            state=after_restart(row.state),  # type: ignore[arg-type]  # stored states are legal
            **own,
        )


class SlotBook:
    """The slots of one cluster, in deploy order."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}
        self._numbers: dict[str, int] = {}

    def __iter__(self) -> Iterator[Slot]:
        """All slots that are not retired, in the order of roles and numbers as deployed."""
        return (slot for slot in self._slots.values() if slot.state != "retired")

    def __len__(self) -> int:
        """Slots that are not retired."""
        return sum(1 for _ in self)

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


def vertex_order(slot: Slot) -> tuple[int, int, str]:
    """Roles in vertex order, then by number: the order in which everything is folded."""
    return slot_order(slot.name)
