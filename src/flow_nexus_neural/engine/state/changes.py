"""Lets a call wait until something about a cluster changed."""

import anyio


class Changes:
    """A counter that grows with every change, and a way to wait for it to grow."""

    def __init__(self) -> None:
        self.count = 0
        self._grown = anyio.Event()

    def bump(self) -> None:
        """Something changed: wake every waiter."""
        self.count += 1
        grown, self._grown = self._grown, anyio.Event()
        grown.set()

    async def wait_beyond(self, count: int) -> None:
        """Return once the counter is greater than `count`."""
        while self.count <= count:
            await self._grown.wait()
