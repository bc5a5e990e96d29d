"""Stored shapes of outcomes and of what was learnt from them."""

from flow_nexus_neural.engine.storage.persisted.base import Label, Stored


class StoredHedge(Stored):
    """What the slots of one version have lost."""

    rounds: int = 0
    losses: dict[str, float] = {}
    mixture: float = 0.0


class StoredLevel(Stored):
    """Where sets and intervals of one aggregation are cut."""

    steps: int
    answers: int = 0
    covered: int = 0


class StoredWindow(Stored):
    """A window over errors."""

    counts: tuple[int, ...] = ()
    sums: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    seen: int = 0
    drifts: int = 0
    drifted_at: int | None = None


class StoredFeedback(Stored):
    """What a cluster has learnt from outcomes."""

    recorded: int = 0
    version: int | None = None
    hedge: StoredHedge = StoredHedge()
    levels: dict[str, StoredLevel] = {}
    errors: StoredWindow = StoredWindow()
    drifted: bool = False


class StoredAnswer(Stored):
    """What the caller was told of a record."""

    prediction: Label | None = None
    confidence: float | None = None
    low: float | None = None
    high: float | None = None


class StoredOutcome(Stored):
    """One outcome; `x` is base64 of little-endian float32 in the order of the rows."""

    prediction_id: str
    row: int
    version: int
    schema_digest: str
    symbol: str | None = None
    outcome: float
    logits: dict[str, tuple[float, ...]]
    shape: tuple[int, ...]
    x: str
    at: str
    answer: StoredAnswer | None = None
