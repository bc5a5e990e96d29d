"""Bounds and kinds of values in messages."""

from typing import Annotated

from pydantic import Field

from flow_nexus_neural.vocabulary import CLASS_WEIGHT, PROXIMAL_MU, SEED_LIMIT, Bounds

MAX_LOSS = 3.5e38
"""Above the largest float32: the mean of float32 losses cannot exceed it."""
MAX_ROUNDING = 1e-3
"""Every training loss is >= 0, except for rounding errors of this size."""
MAX_CPU_S = 1e9
TEMPERATURE = Bounds(1, 100)
NODE_LEARNING_RATE = Bounds(1e-7, 10)
NODE_BATCH_SIZE = Bounds(1, 4096)
"""Limits of a node, wider than those of a caller: a schedule may go beyond the caller's limits."""

UNTOLD = "0" * 64
"""In place of a digest that would tell something of what must not be told."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
ClassWeight = Annotated[float, Field(ge=CLASS_WEIGHT.low, le=CLASS_WEIGHT.high)]
Temperature = Annotated[float, Field(ge=TEMPERATURE.low, le=TEMPERATURE.high)]
ProximalMu = Annotated[float, Field(ge=PROXIMAL_MU.low, le=PROXIMAL_MU.high)]
