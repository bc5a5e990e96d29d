"""Whose turn it is to train: as many nodes at one time as the runtime has places.

More would only take the caches from each other, and one that waits for its turn answers predictions at once.
"""

from collections.abc import Sequence
from statistics import median

import anyio

FIRST_PATIENCE_S = 5.0
MIN_PATIENCE_S = 2.0


class Turn:
    """A place that is held until it is given back; giving it back twice changes nothing."""

    def __init__(self, places: anyio.CapacityLimiter) -> None:
        self._places = places
        self._held = True

    def give_back(self) -> None:
        """Let the next in line train."""
        if self._held:
            self._held = False
            self._places.release_on_behalf_of(self)

    async def give_back_after(self, patience_s: float) -> None:
        """Give the place back in time: whoever needs longer goes on without one."""
        await anyio.sleep(patience_s)
        self.give_back()


class TrainingTurns:
    """A number of places, handed out in the order of asking.

    Args:
        n_places: Nodes that may train at one time.
    """

    def __init__(self, n_places: int) -> None:
        self._places = anyio.CapacityLimiter(n_places)

    async def take(self) -> Turn:
        """Wait for a place. The caller gives it back, whatever happens."""
        turn = Turn(self._places)
        await self._places.acquire_on_behalf_of(turn)
        return turn


def patience(expected_s: Sequence[float]) -> float:
    """How long a node keeps its place: three times what the past predicts; 5 s without a past.

    A frozen node must not keep the others waiting.
    """
    if not expected_s:
        return FIRST_PATIENCE_S
    return max(MIN_PATIENCE_S, 3 * median(expected_s))
