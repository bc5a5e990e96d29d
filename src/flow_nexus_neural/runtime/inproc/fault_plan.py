"""Says which request to which slot goes wrong, and how. For simulation: one plan always gives one course."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal, Self

Fault = Literal["kill", "lose", "freeze", "ignore", "garbage", "slow"]


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One thing that goes wrong; `delay_s` is for `slow` only."""

    fault: Fault
    delay_s: float = 0.0


class FaultPlan:
    """Faults by slot, kind of request and how many of that kind the slot has been sent before.

    Requests are counted per slot over all its incarnations, from 1: `kill("worker-1", "train", nth=3)` hits
    the third training request that worker-1 is ever sent.
    """

    def __init__(self) -> None:
        self._planned: dict[tuple[str, str, int], PlannedFault] = {}
        self._seen: Counter[tuple[str, str]] = Counter()

    def kill(self, slot: str, kind: str, *, nth: int = 1) -> Self:
        """The node dies on this request, before it does any of it."""
        return self._plan(slot, kind, nth, PlannedFault("kill"))

    def lose(self, slot: str, kind: str, *, nth: int = 1) -> Self:
        """The node ends on this request because its runtime does, through no fault of its own."""
        return self._plan(slot, kind, nth, PlannedFault("lose"))

    def freeze(self, slot: str, kind: str, *, nth: int = 1) -> Self:
        """The node stops for ever on this request: no answer to this one or any later, until it is killed."""
        return self._plan(slot, kind, nth, PlannedFault("freeze"))

    def ignore(self, slot: str, kind: str, *, nth: int = 1) -> Self:
        """The node never answers this request, and answers all others."""
        return self._plan(slot, kind, nth, PlannedFault("ignore"))

    def garbage(self, slot: str, kind: str, *, nth: int = 1) -> Self:
        """The node answers with bytes that are no frame."""
        return self._plan(slot, kind, nth, PlannedFault("garbage"))

    def slow(self, slot: str, kind: str, *, delay_s: float, nth: int = 1) -> Self:
        """The node begins with this request only after a delay."""
        return self._plan(slot, kind, nth, PlannedFault("slow", delay_s))

    def met(self, slot: str, kind: str) -> int:
        """How many requests of this kind the slot has been sent."""
        return self._seen[slot, kind]

    def meet(self, slot: str, kind: str) -> PlannedFault | None:
        """Count a request; what goes wrong with it, if anything."""
        self._seen[slot, kind] += 1
        return self._planned.get((slot, kind, self._seen[slot, kind]))

    def _plan(self, slot: str, kind: str, nth: int, planned: PlannedFault) -> Self:
        self._planned[slot, kind, nth] = planned
        return self
