"""Orders that the engine gave together wait here for each other, but never long."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from flow_nexus_neural.protocol.messages import Together, Train

if TYPE_CHECKING:
    from flow_nexus_neural.node.hosting import Member

PATIENCE_S: Final = 1.0
"""How long the first order waits for the last: each is sent when its node has been granted its base."""


class Gathering:
    """How many orders of each round have come, and since when the first waits."""

    def __init__(self) -> None:
        self._came: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._since_s: dict[int, float] = {}

    def arrived(self, together: Together) -> None:
        """An order has come; one that is cancelled later has come nevertheless."""
        self._came[together.round] = self._came.get(together.round, 0) + 1
        self._sizes[together.round] = together.size
        self._since_s.setdefault(together.round, time.monotonic())

    def holds(self, member: "Member") -> bool:
        """Whether the order that a member waits with is gathered here."""
        return _round_of(member) in self._came

    def due(self, members: Sequence["Member"]) -> list["Member"]:
        """The members whose orders wait no longer, by their places; empty if none are due."""
        for number in list(self._came):
            waiting = [one for one in members if _round_of(one) == number]
            if self._is_due(number, all_wait=len(waiting) == len(members)):
                self._forget(number)
                if waiting:  # else all were cancelled or have left
                    return sorted(waiting, key=_place_of)
        return []

    def left_ms(self) -> float | None:
        """How long to wait at most for further orders; None when nothing waits."""
        if not self._since_s:
            return None
        return max(min(self._since_s.values()) + PATIENCE_S - time.monotonic(), 0.0) * 1e3

    def _is_due(self, number: int, *, all_wait: bool) -> bool:
        late = time.monotonic() >= self._since_s[number] + PATIENCE_S
        return all_wait or late or self._came[number] >= self._sizes[number]

    def _forget(self, number: int) -> None:
        for table in (self._came, self._sizes, self._since_s):
            table.pop(number, None)


def _together(member: "Member") -> Together | None:
    message = None if member.waiting is None else member.waiting.message
    return message.together if isinstance(message, Train) else None


def _round_of(member: "Member") -> int | None:
    together = _together(member)
    return None if together is None else together.round


def _place_of(member: "Member") -> int:
    together = _together(member)
    return 0 if together is None else together.place
