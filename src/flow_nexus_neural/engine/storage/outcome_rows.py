"""What is durable of outcomes: one row each, the oldest dropped, and a row for what was learnt of them.

These rows are no part of the ledger, which is the same for the same seed; each has a digest of its own.
"""

import base64
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from pydantic import JsonValue, ValidationError

from flow_nexus_neural.engine.state.feedback import Feedback, GivenAnswer, RecordedOutcome
from flow_nexus_neural.engine.storage.persisted import StoredFeedback, StoredOutcome
from flow_nexus_neural.engine.storage.schema import Write
from flow_nexus_neural.kernels.conformal import AdaptiveLevel
from flow_nexus_neural.kernels.drift import Adwin
from flow_nexus_neural.kernels.hedge import HedgeState
from flow_nexus_neural.protocol.digest import json_digest

MAX_ROWS = 4096
MAX_BYTES = 16 << 20
"""Of one cluster: what is older than the newest that fit is dropped."""

_TOO_OLD = """
DELETE FROM outcomes WHERE cluster_id=?1 AND place IN (
    SELECT place FROM (
        SELECT place, COUNT(*) OVER newest AS n, SUM(nbytes) OVER newest AS total FROM outcomes
        WHERE cluster_id=?1 WINDOW newest AS (ORDER BY place DESC)
    ) WHERE n > ?2 OR total > ?3
)
"""


def write_outcomes(
    cluster_id: str, outcomes: Sequence[RecordedOutcome], feedback: Feedback
) -> Write:
    """Add outcomes, drop the oldest that do not fit any more, and replace what was learnt.

    Args:
        cluster_id: Of their cluster.
        outcomes: In order; the last of them is the newest that `feedback` counts.
        feedback: With these outcomes.
    """
    first = feedback.recorded - len(outcomes)
    rows = []
    for place, outcome in enumerate(outcomes, first):
        text = _outcome_text(outcome)
        rows.append((cluster_id, place, len(text), _check(cluster_id, place, text), text))
    learnt = json.dumps(_stored(feedback), sort_keys=True)

    def write(connection: sqlite3.Connection) -> None:
        connection.executemany(
            "INSERT INTO outcomes (cluster_id, place, nbytes, digest, body) VALUES (?, ?, ?, ?, ?)",
            rows,
        )
        connection.execute(_TOO_OLD, (cluster_id, MAX_ROWS, MAX_BYTES))
        connection.execute(
            "INSERT INTO feedback (cluster_id, digest, body) VALUES (?, ?, ?)"
            " ON CONFLICT (cluster_id) DO UPDATE SET digest=excluded.digest, body=excluded.body",
            (cluster_id, _check(cluster_id, learnt), learnt),
        )

    return write


def delete_outcomes(cluster_id: str) -> Write:
    """Forget all outcomes of a cluster and what was learnt from them."""

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM outcomes WHERE cluster_id=?", (cluster_id,))
        connection.execute("DELETE FROM feedback WHERE cluster_id=?", (cluster_id,))

    return write


def kept_outcomes(connection: sqlite3.Connection, cluster_id: str) -> tuple[int, int]:
    """How many outcomes of a cluster are stored, and their bytes."""
    statement = "SELECT COUNT(*), COALESCE(SUM(nbytes), 0) FROM outcomes WHERE cluster_id=?"
    n, nbytes = connection.execute(statement, (cluster_id,)).fetchone()
    return int(n), int(nbytes)


def read_feedback(connection: sqlite3.Connection, cluster_id: str) -> Feedback:
    """What a cluster has learnt from outcomes; a damaged row says so and counts for nothing."""
    kept, kept_bytes = kept_outcomes(connection, cluster_id)
    row = connection.execute(
        "SELECT digest, body FROM feedback WHERE cluster_id=?", (cluster_id,)
    ).fetchone()
    if row is None and not kept:
        return Feedback()
    last = connection.execute(
        "SELECT COALESCE(MAX(place) + 1, 0) FROM outcomes WHERE cluster_id=?", (cluster_id,)
    ).fetchone()[0]
    anew = Feedback(recorded=last, kept=kept, kept_bytes=kept_bytes, damaged=True)
    if row is None or row[0] != _check(cluster_id, row[1]):
        return anew
    try:
        stored = StoredFeedback.model_validate_json(row[1])
    except ValidationError:
        return anew
    return Feedback(
        recorded=max(stored.recorded, last),
        kept=kept,
        kept_bytes=kept_bytes,
        version=stored.version,
        hedge=HedgeState(**stored.hedge.model_dump()),
        levels={mode: AdaptiveLevel(**own.model_dump()) for mode, own in stored.levels.items()},
        errors=Adwin(**stored.errors.model_dump()),
        drifted=stored.drifted,
    )


def read_outcomes(
    connection: sqlite3.Connection, cluster_id: str, newest: int = MAX_ROWS
) -> tuple[list[RecordedOutcome], int]:
    """The newest outcomes of a cluster, oldest first, and how many are damaged and left out."""
    found, damaged = [], 0
    rows = connection.execute(
        "SELECT place, digest, body FROM outcomes WHERE cluster_id=? ORDER BY place DESC LIMIT ?",
        (cluster_id, newest),
    ).fetchall()
    for place, digest, body in reversed(rows):
        outcome = _outcome(body) if digest == _check(cluster_id, place, body) else None
        if outcome is None:
            damaged += 1
        else:
            found.append(outcome)
    return found, damaged


def _stored(feedback: Feedback) -> dict[str, JsonValue]:
    shape = StoredFeedback.model_validate(
        {
            "recorded": feedback.recorded,
            "version": feedback.version,
            "hedge": asdict(feedback.hedge),
            "levels": {mode: asdict(level) for mode, level in feedback.levels.items()},
            "errors": asdict(feedback.errors),
            "drifted": feedback.drifted,
        }
    )
    stored: dict[str, JsonValue] = shape.model_dump(mode="json")
    return stored


def _outcome_text(outcome: RecordedOutcome) -> str:
    x = np.ascontiguousarray(outcome.x, dtype="<f4")
    own = {name: getattr(outcome, name) for name in StoredOutcome.model_fields if name != "shape"}
    own["answer"] = None if outcome.answer is None else asdict(outcome.answer)
    stored = StoredOutcome.model_validate(
        {
            **own,
            "shape": x.shape,
            "x": base64.b64encode(x.tobytes()).decode(),
        }
    )
    return json.dumps(stored.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def _outcome(body: str) -> RecordedOutcome | None:
    """One that was stored; None where it cannot be understood."""
    try:
        stored = StoredOutcome.model_validate_json(body)
        x = np.frombuffer(base64.b64decode(stored.x, validate=True), dtype="<f4")
        x = x.reshape(stored.shape).astype(np.float32)
    except ValueError:  # that of the shape's validation is one too
        return None
    answer = None if stored.answer is None else GivenAnswer(**stored.answer.model_dump())
    return RecordedOutcome(
        **stored.model_dump(exclude={"shape", "x", "answer"}), x=x, answer=answer
    )


def _check(*values: object) -> str:
    return json_digest([str(value) for value in values])
