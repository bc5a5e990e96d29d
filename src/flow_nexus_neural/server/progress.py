"""Forwards the engine's progress to the caller, at most four times a second."""

import time
from typing import Any

from mcp.server.mcpserver import Context

from flow_nexus_neural.engine.surface import Progress

MIN_INTERVAL_S = 0.25


def paced_progress(context: Context[Any, Any]) -> Progress:
    """A progress callback that drops reports within 250 ms of the last one, and reports without an increase.

    Progress is optional: no call depends on it, and a client that did not ask for it gets none. The protocol
    demands that values increase, so a repeated value is dropped.
    """
    last_sent_s = float("-inf")
    last_done = float("-inf")

    async def report(done: float, total: float, message: str) -> None:
        nonlocal last_sent_s, last_done
        now_s = time.monotonic()
        if now_s - last_sent_s < MIN_INTERVAL_S or done <= last_done:
            return
        last_sent_s, last_done = now_s, done
        await context.report_progress(done, total, message)

    return report
