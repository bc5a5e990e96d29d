"""Forward the engine's progress to the caller, not more often than a person can read."""

import time
from typing import Any

from mcp.server.mcpserver import Context

from flow_nexus_neural.engine.surface import Progress

MIN_INTERVAL_S = 0.25


def paced_progress(context: Context[Any, Any]) -> Progress:
    """A progress callback that drops what comes within 250 ms, and what does not advance.

    Progress is a courtesy: it is never relied on to keep a call alive, and a client that did not ask for
    it gets none. The protocol wants each value above the last, so a value that repeats is dropped.
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
