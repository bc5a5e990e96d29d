"""The record of a training: what was asked, how far it is, and what it measured."""

from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from flow_nexus_neural.engine.reports import (
    Evidence,
    HistoryPoint,
    TrainingConfig,
    TrainingProgress,
    TrainingSession,
)
from flow_nexus_neural.engine.storage.rows import TrainingRow

TrainingStatus = Literal["running", "completed", "early_stopped", "stopped", "failed"]


@dataclass(frozen=True)
class Advance:
    """How far a training is; replaced as a whole with every committed round.

    Attributes:
        train_loss: Mean training loss of the last round; None when it was not finite.
        val_loss: Loss on validation rows after the last round.
        best_round: Round with the lowest validation loss so far, from 1.
        steps: Optimiser steps that committed rounds rest on.
    """

    rounds_done: int = 0
    train_loss: float | None = None
    val_loss: float | None = None
    best_round: int | None = None
    best_loss: float | None = None
    steps: int = 0
    digest_before: str | None = None
    digest_after: str | None = None

    def after(self, point: HistoryPoint, steps: int, digest: str) -> "Advance":
        """One round further."""
        better = point.val_loss is not None and (
            self.best_loss is None or point.val_loss < self.best_loss
        )
        return replace(
            self,
            rounds_done=point.round,
            train_loss=point.train_loss,
            val_loss=point.val_loss,
            best_round=point.round if better else self.best_round,
            best_loss=point.val_loss if better else self.best_loss,
            steps=self.steps + steps,
            digest_after=digest,
        )


@dataclass
class Training:
    """One training of a cluster, running or past.

    Attributes:
        ordinal: 0 for the cluster's first training; part of every seed.
        history: One point per committed round; its seconds end before the version is made durable.
        round_s: Whole rounds, until the version answers predictions; of this server's life only.
    """

    training_id: str
    ordinal: int
    config: TrainingConfig
    started_at: str
    status: TrainingStatus = "running"
    ended_at: str | None = None
    error: str | None = None
    advance: Advance = field(default_factory=Advance)
    history: list[HistoryPoint] = field(default_factory=list)
    round_s: list[float] = field(default_factory=list)

    @property
    def percent(self) -> float:
        """Rounds done of rounds planned; 100 only when it ended well."""
        if self.status in ("completed", "early_stopped"):
            return 100.0
        return min(99.99, 100.0 * self.advance.rounds_done / self.config.rounds)

    @property
    def seconds_per_round(self) -> float | None:
        """Median of the last nine rounds."""
        recent = sorted(self.round_s[-9:] or (point.seconds for point in self.history[-9:]))
        return recent[len(recent) // 2] if recent else None

    def progress(self) -> TrainingProgress:
        """As status reports it."""
        per_round, done = self.seconds_per_round, self.advance.rounds_done
        left = self.config.rounds - done
        running = self.status == "running"
        return TrainingProgress(
            training_id=self.training_id,
            current_round=done,
            total_rounds=self.config.rounds,
            current_epoch=done * self.config.local_epochs,
            total_epochs=self.config.rounds * self.config.local_epochs,
            strategy=self.config.strategy,
            train_loss=self.advance.train_loss,
            val_loss=self.advance.val_loss,
            best_round=self.advance.best_round,
            seconds_per_round=per_round,
            eta_seconds=per_round * left if running and per_round is not None else None,
            evidence=Evidence(
                steps=self.advance.steps,
                weights_digest_before=self.advance.digest_before,
                weights_digest_after=self.advance.digest_after,
            ),
        )

    @property
    def interruption(self) -> str:
        """What to say when the server ended while this ran."""
        return (
            f"interrupted: the server ended after round {self.advance.rounds_done} of"
            f" {self.config.rounds}; the committed version serves."
            " Call neural_train_distributed to go on from it"
        )

    def session(self) -> TrainingSession:
        """In one line."""
        return TrainingSession(
            training_id=self.training_id,
            status=self.status,
            rounds_done=self.advance.rounds_done,
            total_rounds=self.config.rounds,
            started_at=self.started_at,
            ended_at=self.ended_at,
            error=self.error,
        )

    def to_row(self, cluster_id: str, advance: Advance | None = None) -> TrainingRow:
        """The durable part, without the history, which has rows of its own.

        Args:
            cluster_id: Of its cluster.
            advance: A round that is about to be committed, in place of the committed ones.
        """
        return TrainingRow(
            training_id=self.training_id,
            cluster_id=cluster_id,
            ordinal=self.ordinal,
            status=self.status,
            spec=self.config.model_dump(mode="json"),
            progress=asdict(advance or self.advance),
            started_at=self.started_at,
            ended_at=self.ended_at,
            error=self.error,
        )

    @classmethod
    def from_row(cls, row: TrainingRow, history: list[HistoryPoint]) -> "Training":
        """A training as it was stored."""
        return cls(
            training_id=row.training_id,
            ordinal=row.ordinal,
            config=TrainingConfig.model_validate(row.spec),
            started_at=row.started_at,
            status=row.status,  # type: ignore[arg-type]  # stored statuses are legal
            ended_at=row.ended_at,
            error=row.error,
            advance=Advance(**row.progress),  # type: ignore[arg-type]  # JSON that we wrote
            history=history,
        )
