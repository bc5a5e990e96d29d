"""Counters and windows that status reports. Nothing here is estimated."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from flow_nexus_neural.engine.reports import (
    Communication,
    ExchangeReport,
    Latency,
    RecentPrediction,
)
from flow_nexus_neural.runtime.base import NodeHandle

Category = Literal["train", "predict", "sync", "consensus", "links"]
WINDOW_S = 300.0
WINDOW_CALLS = 1000
RECENT_PREDICTIONS = 24


@dataclass
class Window:
    """Values of the last five minutes, at most the last thousand."""

    clock: Callable[[], float]
    _values: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=WINDOW_CALLS))

    def add(self, value: float) -> None:
        """Record a value now."""
        self._values.append((self.clock(), value))

    def values(self) -> list[float]:
        """The values still inside the window, oldest first."""
        oldest = self.clock() - WINDOW_S
        while self._values and self._values[0][0] < oldest:
            self._values.popleft()
        return [value for _, value in self._values]

    def mean(self) -> float | None:
        """Mean of the window; None when it is empty."""
        values = self.values()
        return math.fsum(values) / len(values) if values else None


def percentile(values: list[float], share: float) -> float | None:
    """The nearest-rank percentile: the smallest value that `share` of all do not exceed."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass
class Metrics:
    """What one cluster measured about itself.

    Attributes:
        predict_ms: End to end of predict inside the server.
        agreement: How far the nodes of a prediction agreed, of those that had an answer.
        node_calls: 0 for each node call that succeeded, 1 for each that failed.
        inter_host_bytes: Bytes to and from nodes on other machines than the server's; not a category.
        exchanges: The latest exchange of each network group since the server started.
    """

    clock: Callable[[], float]
    bytes_by_category: dict[Category, int] = field(
        default_factory=lambda: dict.fromkeys(get_args(Category), 0)
    )
    inter_host_bytes: int = 0
    exchanges: dict[str, ExchangeReport] = field(default_factory=dict)
    _attributed: dict[str, int] = field(default_factory=dict)
    _between: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.predict_ms = Window(self.clock)
        self.agreement = Window(self.clock)
        self._recent: deque[tuple[float, float, float | None]] = deque(maxlen=RECENT_PREDICTIONS)
        self.node_calls = Window(self.clock)

    def count_payload(self, category: Category, nbytes: int) -> None:
        """Count bytes that a process read from a region of another."""
        self.bytes_by_category[category] += nbytes

    def count_frames(self, category: Category, handle: NodeHandle) -> None:
        """Attribute all frame bytes of a link that no call has claimed yet. The sum is exact."""
        total = handle.bytes_sent + handle.bytes_received
        node_id = handle.spec.node_id
        self.bytes_by_category[category] += total - self._attributed.get(node_id, 0)
        self._attributed[node_id] = total
        between = handle.inter_host_bytes
        self.inter_host_bytes += between - self._between.get(node_id, 0)
        self._between[node_id] = between

    def note_prediction(self, latency_ms: float, agreement: float | None) -> None:
        """Record an answered call of predict; `agreement` is None where its nodes decided nothing."""
        self.predict_ms.add(latency_ms)
        if agreement is not None:
            self.agreement.add(agreement)
        self._recent.append((self.clock(), latency_ms, agreement))

    def recent_predictions(self) -> list[RecentPrediction]:
        """The last answered calls of predict, oldest first."""
        now_s = self.clock()
        return [
            RecentPrediction(age_s=now_s - at_s, ms=latency_ms, agreement=agreement)
            for at_s, latency_ms, agreement in self._recent
        ]

    def note_exchange(self, exchange: ExchangeReport) -> None:
        """Keep what the latest exchange of a network group cost."""
        self.exchanges[exchange.network] = exchange

    def forget_exchanges(self) -> None:
        """A training begins: what the last exchanges of the one before cost is not about it."""
        self.exchanges.clear()

    def restore(self, counted: Mapping[str, int]) -> None:
        """Go on counting from what a former server had counted."""
        for category in self.bytes_by_category:
            self.bytes_by_category[category] = counted.get(category, 0)
        self.inter_host_bytes = counted.get("inter_host_bytes", 0)

    def communication(self) -> Communication:
        """Cumulative bytes by category."""
        return Communication(**self.bytes_by_category, inter_host_bytes=self.inter_host_bytes)

    @property
    def communication_bytes(self) -> int:
        """Cumulative bytes in all categories."""
        return sum(self.bytes_by_category.values())

    def latency(self) -> Latency:
        """Percentiles of predict."""
        values = self.predict_ms.values()
        return Latency(
            p50=percentile(values, 0.50),
            p95=percentile(values, 0.95),
            p99=percentile(values, 0.99),
            n=len(values),
        )
