"""What a cluster has been told of the outcomes of its predictions, and what it has learnt from that."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.conformal import AdaptiveLevel
from flow_nexus_neural.kernels.drift import Adwin, after_value, forgotten
from flow_nexus_neural.kernels.hedge import HedgeState
from flow_nexus_neural.vocabulary import Label

LEAST_OUTCOMES = 50
"""With fewer outcomes since errors last rose nothing is learnt from them."""
PREDICTIONS_REMEMBERED = 256
BYTES_REMEMBERED = 8 << 20


@dataclass(frozen=True)
class Feedback:
    """Counts of recorded outcomes, and what the slots of one version have lost by them.

    Attributes:
        recorded: Outcomes recorded since the cluster was created; the place of the next one.
        kept: Of them, those that are still stored: the newest.
        kept_bytes: What they take.
        version: The version of which `hedge` is; a later one begins anew.
        hedge: What its slots have lost.
        levels: Where its prediction sets and intervals are cut, by aggregation, after its outcomes.
        errors: What their weighted mean lost by each outcome, in a window that drift cuts.
        drifted: Whether drift was found while this version answered.
        damaged: What was stored could not be read; it began anew.
    """

    recorded: int = 0
    kept: int = 0
    kept_bytes: int = 0
    version: int | None = None
    hedge: HedgeState = field(default_factory=HedgeState)
    levels: Mapping[str, AdaptiveLevel] = field(default_factory=dict)
    errors: Adwin = field(default_factory=Adwin)
    drifted: bool = False
    damaged: bool = False

    def levels_of(self, version: int) -> Mapping[str, AdaptiveLevel]:
        """Where sets and intervals of a version are cut; {} where outcomes were of another one."""
        return self.levels if version == self.version else {}

    def of_version(self, version: int) -> HedgeState:
        """What the slots of a version have lost; nothing where outcomes were of another one."""
        return self.hedge if version == self.version else HedgeState()

    def with_outcome(self, version: int, hedge: HedgeState) -> Self:
        """One more outcome of this version, which `hedge` counts."""
        known = version == self.version
        error = hedge.mixture - (self.hedge.mixture if known else 0.0)
        window = self.errors if known else forgotten(self.errors)
        errors = after_value(window, min(1.0, max(0.0, error)))
        found = errors.drifts > window.drifts
        return replace(
            self,
            version=version,
            hedge=hedge,
            errors=errors,
            drifted=found or (known and self.drifted),
        )


@dataclass(frozen=True)
class InputDrift:
    """How far recent inputs are from the rows that a version was trained on.

    Attributes:
        version: Of the cluster.
        recorded: Outcomes recorded when this was computed.
        rows: Recent inputs that were compared.
        index: The largest population stability index of any input column; None where it is not measured.
        column: Its name.
        why: Why it is not measured.
    """

    version: int
    recorded: int
    rows: int
    index: float | None = None
    column: str | None = None
    why: str | None = None


@dataclass(frozen=True)
class GivenAnswer:
    """What the caller was told of one record.

    Attributes:
        prediction: Value, class, or for two classes the probability of the positive one; None where nothing
            was decided.
        confidence: P(the decision is right); None for values.
        low: Of the interval; None where there is none. So is `high`.
    """

    prediction: Label | None
    confidence: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class RecordedOutcome:
    """One outcome, with everything that a model can learn from it.

    Attributes:
        prediction_id: Of the prediction.
        row: Number of the record in it.
        version: Of the cluster, that answered.
        schema_digest: Of the schema by which `x` is scaled.
        symbol: Of the record, if it has one.
        outcome: Class index, or the standardised value.
        logits: [n_outputs] of every slot that answered.
        x: [*row_shape] float32, scaled.
        at: When it was recorded.
        answer: What was predicted; None where an older version of this server did not keep it.
    """

    prediction_id: str
    row: int
    version: int
    schema_digest: str
    symbol: str | None
    outcome: float
    logits: Mapping[str, tuple[float, ...]]
    x: NDArray[np.float32]
    at: str
    answer: GivenAnswer | None = None


@dataclass(frozen=True)
class Awaited:
    """A prediction whose outcome may still come.

    Attributes:
        logits: [rows, n_outputs] by slot.
        x: [rows, *row_shape].
        symbols: By row.
        schema_digest: Of the schema by which `x` is scaled.
        told: Rows whose outcomes are stored.
        answers: By row; empty where they are not known.
    """

    version: int
    schema_digest: str
    logits: Mapping[str, NDArray[np.float64]]
    x: NDArray[np.float32]
    symbols: tuple[str | None, ...]
    told: frozenset[int] = frozenset()
    answers: tuple[GivenAnswer, ...] = ()

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return self.x.nbytes + sum(logits.nbytes for logits in self.logits.values())


@dataclass
class RecentPredictions:
    """The last predictions, until their outcomes come: as long as the server lives, and a bounded number."""

    by_id: "OrderedDict[str, Awaited]" = field(default_factory=OrderedDict)
    nbytes: int = 0

    def remember(self, prediction_id: str, awaited: Awaited) -> None:
        """Keep one; the oldest are forgotten where there are too many."""
        self.by_id[prediction_id] = awaited
        self.nbytes += awaited.nbytes
        while self.by_id and (
            len(self.by_id) > PREDICTIONS_REMEMBERED or self.nbytes > BYTES_REMEMBERED
        ):
            _, oldest = self.by_id.popitem(last=False)
            self.nbytes -= oldest.nbytes

    def settle(self, prediction_id: str, row: int) -> None:
        """The outcome of one of its records is stored; with the last one it is forgotten."""
        awaited = self.by_id.get(prediction_id)
        if awaited is None:
            return
        told = awaited.told | {row}
        if len(told) == len(awaited.x):
            self.take(prediction_id)
        else:
            self.by_id[prediction_id] = replace(awaited, told=told)

    def take(self, prediction_id: str) -> Awaited | None:
        """One that is remembered, which is then forgotten."""
        found = self.by_id.pop(prediction_id, None)
        if found is not None:
            self.nbytes -= found.nbytes
        return found
