"""What sqlite's errors mean to the engine: damage, a disk that refuses, or a journal that is closed."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from flow_nexus_neural.engine.storage.schema import RESTORE
from flow_nexus_neural.errors import ShuttingDown, StoreCorrupt, StoreUnavailable

START_AGAIN = "read the cluster's state with neural_cluster_status and start the operation again"

_PRIMARY = 0xFF


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn sqlite's errors into ours.

    Every statement here is fixed, so that one which sqlite does not understand speaks of a damaged file.

    Raises:
        StoreUnavailable: The disk refuses.
        StoreCorrupt: The file is damaged, or the rows contradict what is stored.
        ShuttingDown: The journal is closed.
    """
    try:
        yield
    except sqlite3.OperationalError as failure:
        code = getattr(failure, "sqlite_errorcode", None)
        if code is not None and code & _PRIMARY == sqlite3.SQLITE_ERROR:
            raise _damaged(action, failure) from failure
        raise StoreUnavailable(
            f"could not {action}: {failure}",
            hint="free disk space and check the permissions of the state directory, then try again",
        ) from failure
    except sqlite3.ProgrammingError as failure:
        raise ShuttingDown(
            f"could not {action}: {failure}", hint="start the server again"
        ) from failure
    except sqlite3.IntegrityError as failure:
        raise StoreCorrupt(
            f"could not {action}, the rows contradict what is stored: {failure}", hint=START_AGAIN
        ) from failure
    except (sqlite3.DatabaseError, UnicodeDecodeError) as failure:
        # Not even what sqlite says of a damaged file need be text.
        raise _damaged(action, failure) from failure


def _damaged(action: str, failure: Exception) -> StoreCorrupt:
    return StoreCorrupt(
        f"could not {action}, state.db or state.db-wal is damaged: {failure}", hint=RESTORE
    )
