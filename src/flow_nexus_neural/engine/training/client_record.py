"""What became of each client of a round, where clients of the data train by themselves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.engine.reports import ClientFault, ClientsReport
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.protocol.digest import json_digest

NAMED = 20
"""Clients that are named in a report; their number is told in any case."""


@dataclass
class _OfNode:
    """What one node made of its clients."""

    update: Update
    digests: list[str]
    loss_rows: float = 0.0
    rows_with_loss: int = 0
    finite: bool = True


@dataclass
class ClientRecord:
    """Filled as a round goes on.

    Attributes:
        total: Clients of the data.
        asked: Those of the round.
    """

    total: int
    asked: Sequence[str]
    n_trained: int = 0
    _nodes: dict[str, _OfNode] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _moved: list[ClientFault] = field(default_factory=list)
    _missed: list[ClientFault] = field(default_factory=list)

    def trained(self, client: str, update: Update, failed: Mapping[str, str]) -> None:
        """A client's update counts.

        Args:
            client: Its name.
            update: Of the node that trained it.
            failed: Why other nodes did not, in the order in which they were asked.
        """
        self.n_trained += 1
        self._counts[update.slot] += 1
        if failed:
            self._moved.append(_fault(client, failed, update.slot))
        bare = replace(update, state=None, commitment=None)
        own = self._nodes.get(update.slot)
        if own is None:
            own = self._nodes[update.slot] = _OfNode(bare, [])
        else:
            own.update = _added(own.update, bare)
        own.digests.append(update.digest)
        if update.steps:
            own.finite = own.finite and update.loss is not None
            own.loss_rows += (update.loss or 0.0) * update.rows
            own.rows_with_loss += update.rows

    def missed(self, client: str, failed: Mapping[str, str]) -> None:
        """Nobody trained a client: why, by node."""
        self._missed.append(_fault(client, failed))

    @property
    def per_node(self) -> dict[str, int]:
        """Clients that each node trained, in slot order."""
        return {slot: self._counts[slot] for slot in sorted(self._counts, key=slot_order)}

    @property
    def why_missed(self) -> str:
        """Of the first clients without an update."""
        return "; ".join(f"client {one.client[:40]}: {one.reason}" for one in self._missed[:4])

    @property
    def updates(self) -> list[Update]:
        """What each node made of all its clients, in slot order: without weights, which are of clients."""
        made = []
        for slot in self.per_node:
            own = self._nodes[slot]
            known = own.finite and own.rows_with_loss > 0
            loss = own.loss_rows / own.rows_with_loss if known else None
            digest = own.digests[0] if len(own.digests) == 1 else json_digest([*own.digests])
            made.append(replace(own.update, loss=loss, digest=digest))
        return made

    def report(self, number: int) -> ClientsReport:
        """For status."""
        return ClientsReport(
            round=number,
            total=self.total,
            asked=len(self.asked),
            trained=self.n_trained,
            per_node=self.per_node,
            n_moved=len(self._moved),
            moved=self._moved[:NAMED],
            n_missed=len(self._missed),
            missed=self._missed[:NAMED],
        )

    def evidence(self, number: int) -> JsonValue:
        """The same for the ledger."""
        return self.report(number).model_dump(mode="json", exclude={"round"})


def _fault(client: str, failed: Mapping[str, str], then: str | None = None) -> ClientFault:
    reason = "; ".join(f"{slot}: {why}" for slot, why in failed.items())
    nodes = [*failed, *([then] if then is not None else [])]
    return ClientFault(client=client, reason=reason or "nobody could be asked", nodes=nodes)


def _added(one: Update, other: Update) -> Update:
    """Two clients of one node."""
    return replace(
        other,
        rows=one.rows + other.rows,
        steps=one.steps + other.steps,
        cpu_s=one.cpu_s + other.cpu_s,
        stacked=max(one.stacked or 0, other.stacked or 0) or None,
    )
