"""Planned faults for simulation: which request to which slot fails, and how. Deterministic."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal, Self

Fault = Literal["kill", "lose", "freeze", "ignore", "garbage", "slow", "drag"]


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault; `delay_s` is for `slow` and `drag` only."""

    fault: Fault
    delay_s: float = 0.0


class FaultPlan:
    """Faults by slot, kind of request, and number of the request among those of its kind.

    Requests are counted per slot over all its incarnations, from 1: `kill("worker-1", "train", nth=3)` kills
    worker-1 on the third training request that it is ever sent.
    """

    def __init__(self) -> None:
        self._planned: dict[tuple[str, str, int], PlannedFault] = {}
        self._seen: Counter[tuple[str, str]] = Counter()

    def kill(self, slot: str, kind: str, *, nth: int = 1) -> Self:
        """The node dies on this request, before it starts on it."""
        return self._plan(slot, kind, nth, PlannedFault("kill"))

    def lose(self, slot: str, kind: str, *, nth: int = 1) -> Self:
        """The node ends on this request because its runtime is lost; not counted as the node's failure."""
        return self._plan(slot, kind, nth, PlannedFault("lose"))

    def freeze(self, slot: str, kind: str, *, nth: int = 1) -> Self:
        """The node stops for ever on this request: no answer to this one or any later, until it is killed."""
        return self._plan(slot, kind, nth, PlannedFault("freeze"))

    def ignore(self, slot: str, kind: str, *, nth: int = 1) -> Self:
        """The node never answers this request, and answers all others."""
        return self._plan(slot, kind, nth, PlannedFault("ignore"))

    def garbage(self, slot: str, kind: str, *, nth: int = 1) -> Self:
        """The node answers with bytes that are not a frame."""
        return self._plan(slot, kind, nth, PlannedFault("garbage"))

    def slow(self, slot: str, kind: str, *, delay_s: float, nth: int = 1) -> Self:
        """The node starts on this request only after a delay."""
        return self._plan(slot, kind, nth, PlannedFault("slow", delay_s))

    def drag(self, slot: str, kind: str, *, delay_s: float, nth: int = 1) -> Self:
        """The node takes so long for this request, and answers others meanwhile, as between slow steps."""
        return self._plan(slot, kind, nth, PlannedFault("drag", delay_s))

    def met(self, slot: str, kind: str) -> int:
        """Number of requests of this kind sent to the slot so far."""
        return self._seen[slot, kind]

    def meet(self, slot: str, kind: str) -> PlannedFault | None:
        """Count a request and return its fault, if one is planned."""
        self._seen[slot, kind] += 1
        return self._planned.get((slot, kind, self._seen[slot, kind]))

    def _plan(self, slot: str, kind: str, nth: int, planned: PlannedFault) -> Self:
        self._planned[slot, kind, nth] = planned
        return self
