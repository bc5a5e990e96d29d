"""A server opens its engine without being called where a training waits to go on.

Else the engine is opened at the first tool call. Looking costs a query of the journal in a thread; nothing of
the engine is imported for it.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio.to_thread

from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.settings import Settings

log = logging.getLogger(__name__)

_RUNNING = (
    "SELECT 1 FROM trainings JOIN clusters USING (cluster_id)"
    " WHERE status='running' AND terminated_at IS NULL LIMIT 1"
)


async def open_for_unfinished(host: EngineHost, settings: Settings) -> None:
    """Open the engine if a training ran when the last server ended; what keeps it closed is logged."""
    if settings.read_only:
        return
    if not await anyio.to_thread.run_sync(has_unfinished, settings.state_dir):
        return
    try:
        await host.engine()
    except NeuralError as failure:
        log.warning("the engine could not be opened for a training that waits: %s", failure)


def has_unfinished(state_dir: Path) -> bool:
    """Whether a training is stored as running and no server has the directory. Blocking; false in doubt."""
    from flow_nexus_neural.engine.storage.state_dir import holder

    journal = state_dir / "state.db"
    try:
        if not journal.is_file() or holder(state_dir) is not None:
            return False
        # Writable, for sqlite cannot read a journal without its log otherwise; nothing is written.
        uri = f"{journal.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as connection:
            connection.execute("PRAGMA query_only=ON")
            return connection.execute(_RUNNING).fetchone() is not None
    except (NeuralError, OSError, sqlite3.Error):
        return False  # the engine says what is wrong when it is opened
