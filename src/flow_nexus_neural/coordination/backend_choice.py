"""Which back end answers, decided from measured times alone.

WebAssembly is used for a batch size only where it was measured to be faster; larger batches than the first at
which it was not are not tried, since the advantage only shrinks with the batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal

Backend = Literal["wasm", "torch"]
BUCKETS: Final = (1, 8, 32, 100)
"""Batch sizes that are measured. A batch belongs to the smallest that holds it; larger ones go to torch."""
LEAST_SPEEDUP: Final = 1.1
LONGEST_MS: Final = 5.0
"""A run holds up everything else that the server does, so a longer one is left to the node's process."""
FAR_TOO_LONG_MS: Final = 4 * LONGEST_MS
"""A run of this length is not even repeated to be measured."""
TOO_LONG: Final = f"one run takes more than {LONGEST_MS:g} ms, which would hold up the server"


@dataclass(frozen=True)
class Choice:
    """What was measured for one node, and what follows.

    Attributes:
        backend: By bucket, of all buckets.
        speedup: By measured bucket, how many times faster WebAssembly was, the round trip to the process
            included.
        reason: Why WebAssembly answers no bucket; None where it answers one.
    """

    backend: Mapping[int, Backend] = field(default_factory=lambda: dict.fromkeys(BUCKETS, "torch"))
    speedup: Mapping[int, float] = field(default_factory=dict)
    reason: str | None = None

    @property
    def active(self) -> bool:
        """Whether WebAssembly answers some batches."""
        return "wasm" in self.backend.values()

    def uses_wasm(self, rows: int) -> bool:
        """Whether it answers a batch of this size."""
        bucket = bucket_of(rows)
        return bucket is not None and self.backend[bucket] == "wasm"


@dataclass(frozen=True)
class Timing:
    """Seconds of single calls of one batch size."""

    torch_s: Sequence[float]
    wasm_s: Sequence[float]

    @property
    def speedup(self) -> float | None:
        """Ratio of the medians; None where the clock did not move."""
        slow, fast = median(self.torch_s), median(self.wasm_s)
        return slow / fast if slow > 0 and fast > 0 else None

    @property
    def wins(self) -> bool:
        """Whether WebAssembly is to answer such batches."""
        speedup = self.speedup
        short = median(self.wasm_s) * 1e3 <= LONGEST_MS
        return speedup is not None and speedup >= LEAST_SPEEDUP and short


def bucket_of(rows: int) -> int | None:
    """The bucket of a batch; None for one that is larger than all, and for none."""
    return next((bucket for bucket in BUCKETS if 1 <= rows <= bucket), None)


def choose(timings: Mapping[int, Timing]) -> Choice:
    """The choice for a node.

    Args:
        timings: By bucket, from the smallest on, up to the first that was lost.
    """
    backend: dict[int, Backend] = dict.fromkeys(BUCKETS, "torch")
    speedup: dict[int, float] = {}
    for bucket in sorted(timings):
        timing = timings[bucket]
        if timing.speedup is not None:
            speedup[bucket] = timing.speedup
        if not timing.wins:
            break
        backend[bucket] = "wasm"
    won = "wasm" in backend.values()
    return Choice(backend, speedup, None if won else _why_not(timings))


def _why_not(timings: Mapping[int, Timing]) -> str:
    first = timings[min(timings)]
    if first.speedup is None:
        return "the times could not be measured"
    if first.speedup < LEAST_SPEEDUP:
        measured = f"it was {first.speedup:.2f} times as fast as the node for one record"
        return f"{measured}; {LEAST_SPEEDUP} is wanted"
    return TOO_LONG
