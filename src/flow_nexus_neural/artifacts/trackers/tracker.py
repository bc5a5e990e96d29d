"""What every tracker is given, and what it must do with that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

METRICS = ("train_loss", "val_loss", "accuracy", "bytes", "seconds")
"""Of a round, in this order in tables."""


@dataclass(frozen=True)
class TrackedRound:
    """One committed round; None where something was not measured."""

    number: int
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class TrackedTraining:
    """A training as it is durable now.

    Attributes:
        config: Its arguments as they took effect.
        rounds: Every committed one, from the first.
        status: `running`, or how it ended.
        privacy: What it has cost in privacy until now, and how that is counted.
    """

    cluster_id: str
    cluster_name: str
    training_id: str
    config: Mapping[str, str | int | float | bool | None]
    rounds: tuple[TrackedRound, ...]
    status: str
    privacy: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """Keeps a record of trainings somewhere.

    `track` brings the record of a training up to date with what is durable of it: it finds out itself which
    rounds the record has, so that neither a killed server nor a resumed training leaves one out or has one
    twice. Blocking; called by one thread at a time. Whatever it raises costs a warning and nothing else.
    """

    name: str

    def track(self, training: TrackedTraining) -> None:
        """Write the rounds that the record lacks."""
        ...
