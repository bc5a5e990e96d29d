"""Changes that wait for the boundary between two rounds of a training, or for its end."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable

from flow_nexus_neural.engine.live import LiveCluster

Change = Callable[[], Awaitable[None]]

log = logging.getLogger(__name__)


class Boundary:
    """Changes of one training in the order in which they were asked for; none is lost.

    A training that comes back hands its own to the run that it becomes.
    """

    def __init__(self) -> None:
        self._waiting: deque[Change] = deque()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def queue(self, change: Change) -> None:
        """Let a change wait, after those that wait already."""
        self._waiting.append(change)

    async def apply(self) -> None:
        """Make every change, also those that are queued meanwhile. Raises what a change raises."""
        while self._waiting:
            # Removed only when done: if the training is stopped meanwhile, `apply_late` makes it again.
            await self._waiting[0]()
            self._waiting.popleft()

    async def apply_late(self, cluster: LiveCluster) -> None:
        """Make what still waits when no further boundary comes, so that whoever waits for it is answered.

        A change that fails, which may be for the very reason that ended the training, is logged: it must not
        keep the end from being recorded.
        """
        async with cluster.changing:
            while self._waiting:
                change = self._waiting.popleft()
                try:
                    await change()
                except (
                    Exception
                ):  # a bug in one change must not cost the training its end, nor others theirs
                    log.exception("incident %s in a change at the end", cluster.context.incident())
