"""The record of a training: what was asked, how far it is, and what it measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from pydantic import JsonValue

from flow_nexus_neural.coordination.early_stop import rounds_without_gain
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent
from flow_nexus_neural.coordination.proof_record import ProvedExchange
from flow_nexus_neural.engine.reports import (
    ClientsReport,
    DatasetShort,
    Division,
    Evaluation,
    Evidence,
    FoldScore,
    HistoryPoint,
    LearningReport,
    Personalisation,
    Phase,
    PrivacyReport,
    Refit,
    TrainingConfig,
    TrainingProgress,
    TrainingSession,
)
from flow_nexus_neural.engine.state.advance import Advance
from flow_nexus_neural.engine.state.continuation import Resumptions, told_of_interruption
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.privacy_report import privacy_report
from flow_nexus_neural.engine.state.steering import Steering
from flow_nexus_neural.vocabulary import EACH_CLIENT, ENDED_WELL, TrainingStatus


@dataclass(frozen=True)
class Result:
    """The model that a training left in force, and what was measured of it on test rows.

    Attributes:
        model_version: Version of the cluster.
        served_round: Round whose weights it has.
        digest: Of its weights.
    """

    model_version: int
    served_round: int
    digest: str
    accuracy: float | None
    loss: float | None
    evaluation: Evaluation | None
    dataset: DatasetShort


@dataclass(frozen=True)
class PreparedDataRef:
    """Where the prepared rows of a training are: a checkpoint file, by its sha256."""

    sha256: str
    nbytes: int


@dataclass
class Training:
    """One training of a cluster, running or past.

    Attributes:
        ordinal: 0 for the cluster's first training; part of every seed.
        config: Every argument as it takes effect.
        request: The arguments as they were given, without inline data; None where it was not stored.
        data: The rows it trains on, as prepared; None where they were not stored.
        starts: Its network groups before the first round, without their weights; those that were trained
            before name the files.
        error, unrecorded: Why it failed or was stopped; what is to be said of an end that is not durable.
        result: Its final model; None until it has one.
        division: How the rows of a federated training are divided now; None for another one.
        clients: Who of the data's clients took part in the latest round; of this server's life only.
        history: One point per committed round; its seconds end before the version is made durable.
        round_s: Whole rounds, until the version answers predictions; of this server's life only.
        folds: Scores of the folds of a walk-forward split that are done.
        learning: Of a training on outcomes: what came of it; None for any other.
        personalisation: Whether slots got weights of their own; None before that is known.
        refit: The training on every row after the rounds; None if there is none.
        phase: What runs now, or ran last.
        later_planned: Rounds of folds and refit, which follow the rounds proper.
        later_done: How many of these are done; a refit of fewer rounds counts as all of them.
        steering: How autonomy has changed its course.
        resumptions: How often it went on after its server had ended.
    """

    training_id: str
    ordinal: int
    config: TrainingConfig
    started_at: str
    request: Mapping[str, JsonValue] | None = None
    data: PreparedDataRef | None = None
    status: TrainingStatus = "running"
    ended_at: str | None = None
    error: str | None = None
    unrecorded: str | None = None
    result: Result | None = None
    advance: Advance = field(default_factory=Advance)
    division: Division | None = None
    clients: ClientsReport | None = None
    history: list[HistoryPoint] = field(default_factory=list)
    round_s: list[float] = field(default_factory=list)
    personalisation: Personalisation | None = None
    folds: list[FoldScore] = field(default_factory=list)
    refit: Refit | None = None
    learning: LearningReport | None = None
    phase: Phase = "rounds"
    later_planned: int = 0
    later_done: float = 0.0
    steering: Steering = field(default_factory=Steering)
    starts: Mapping[str, NetworkGroup] = field(default_factory=dict)
    resumptions: Resumptions = field(default_factory=Resumptions)

    def steer(self, **changes: float | str | None) -> None:
        """Change its course from the next boundary between two rounds on; see `Steering`."""
        self.steering = replace(self.steering, **changes)  # type: ignore[arg-type]  # its own fields

    def fix_rate_of(self, number: int) -> None:
        """The round of this number trains with the learning rate in force, and so does its repetition."""
        self.steering = self.steering.with_rate_from(number)

    @property
    def learning_rate(self) -> float:
        """The learning rate in force."""
        steered = self.steering.learning_rate
        return self.config.learning_rate if steered is None else steered

    def begin_from(self, digest: str) -> None:
        """The first round starts from weights with this digest."""
        self.advance = replace(self.advance, digest_before=self.advance.digest_before or digest)

    def files_with(self, advance: Advance) -> frozenset[str]:
        """Files that it needs if it is this far: its rows, and as long as it runs, all that it goes on from.

        Args:
            advance: Its own, or that of a round that is about to be committed.
        """
        own = frozenset() if self.data is None else frozenset({self.data.sha256})
        return own | (self._to_go_on(advance) if self.status == "running" else frozenset())

    @property
    def files(self) -> frozenset[str]:
        """Files that it needs now."""
        return self.files_with(self.advance)

    @property
    def passing_files(self) -> frozenset[str]:
        """Files that it needs as long as it runs."""
        return self._to_go_on(self.advance)

    def _to_go_on(self, advance: Advance) -> frozenset[str]:
        starts = [
            name
            for network in self.starts.values()
            for name in (network.blob, network.moments_blob, network.server_blob)
            if name is not None
        ]
        return frozenset((*starts, *advance.continuation.files))

    @property
    def can_resume(self) -> bool:
        """Whether all that it goes on from was stored; a row of an older version lacks some of it."""
        return bool(self.data is not None and self.request is not None and self.starts)

    def resume(self) -> None:
        """Its server ended while it ran, and it goes on."""
        self.resumptions = self.resumptions.once_more(self.advance.rounds_done)

    def go_back_to(self, stored: "Training") -> None:
        """Forget what was not made durable; its course stays as it was steered, and its tries count.

        Args:
            stored: What its rows say.
        """
        for one in fields(self):
            if one.name not in ("steering", "resumptions", "round_s"):
                setattr(self, one.name, getattr(stored, one.name))

    def resume_in_vain(self, before: Resumptions) -> None:
        """It could not even be recorded that it goes on; `before` is what there was before that try."""
        self.resumptions = before.in_vain_again()

    def note_progress(self) -> None:
        """Something of it became durable since it last went on."""
        self.resumptions = self.resumptions.with_progress()

    def suspend(self) -> bool:
        """Its server stops in order; False where its row says so already."""
        before, self.resumptions = self.resumptions, self.resumptions.suspended()
        return before != self.resumptions

    def note_division(self, division: Division) -> None:
        """From the next round on the rows are divided like this."""
        self.division = division

    def note_clients(self, clients: ClientsReport | None) -> None:
        """These of the data's clients took part in the latest round; None where workers have shards."""
        self.clients = clients

    def commit_round(self, advance: Advance, point: HistoryPoint, seconds: float) -> None:
        """A round is durable and its version answers predictions after this many seconds."""
        self.advance = advance
        self.note_progress()
        self.history.append(point)
        self.round_s.append(seconds)

    def count_proofs(self, exchanges: Sequence[ProvedExchange], *, committed: bool) -> None:
        """Updates were proved in a round that commits no version, or in tries of which nothing came."""
        self.advance = self.advance.with_proofs(exchanges, committed=committed)

    def note_privacy(self, spent: PrivacySpent) -> None:
        """So much of the privacy budget is spent, durably."""
        self.advance = replace(self.advance, privacy=spent)

    def note_result(self, result: Result) -> None:
        """Its final model is in force."""
        self.result = result
        self.advance = replace(self.advance, digest_after=result.digest)

    def note_personalisation(self, found: Personalisation) -> None:
        """Slots got weights of their own after the rounds, or did not."""
        self.personalisation = found

    def plan_later(self, n_folds: int, refit: Refit | None) -> None:
        """So many folds and this refit follow the rounds."""
        self.refit = refit
        self.later_planned = self.config.rounds * (n_folds + (refit is not None))

    def enter(self, phase: Phase) -> None:
        """The rounds proper are done and this follows."""
        self.phase = phase

    def advance_later(self, rounds: float) -> None:
        """So many of the later rounds are done."""
        self.later_done = rounds

    def add_fold(self, score: FoldScore) -> None:
        """A fold is done."""
        self.folds.append(score)

    def note_refit(self, **changes: str | int | None) -> None:
        """The refit is further, or has ended."""
        if self.refit is not None:
            self.refit = Refit.model_validate({**self.refit.model_dump(), **changes})

    def note_learning(self, learning: LearningReport) -> None:
        """It learns from outcomes, or its model was admitted or refused."""
        self.learning = learning

    def end(self, status: TrainingStatus, error: str | None, at: str) -> None:
        """It has ended, and with it a refit that is not done."""
        if self.refit is not None and self.refit.state in ("waiting", "running"):
            self.note_refit(state="failed", error=f"the training was {status} before it was done")
        self.status, self.error, self.ended_at = status, error, at

    def interrupt(self, at: str, serving: int | None, *, waits: bool = False) -> None:
        """The server ended while it ran and `serving` was in force; with `waits` it goes on when it may."""
        self.end("stopped", self.interruption(serving, waits=waits), at)

    def note_unrecorded_end(self, reason: str | None) -> None:
        """Its end could not be made durable (None: it is so now); an error that it already has says more."""
        own = None if self.error == self.unrecorded else self.error
        self.unrecorded = reason and f"its end is not recorded: {reason}"
        self.error = own or self.unrecorded

    @property
    def percent(self) -> float:
        """Rounds done of rounds planned, those of folds and refit included; 100 only when it ended well."""
        if self.status in ENDED_WELL:
            return 100.0
        done = self.advance.rounds_done if self.phase == "rounds" else self.config.rounds
        planned = self.config.rounds + self.later_planned
        return min(99.99, 100.0 * (done + self.later_done) / planned)

    @property
    def stops_early(self) -> bool:
        """Whether its patience or privacy budget is exhausted before its last round, or autonomy ends it."""
        if self.advance.privacy.exhausted:
            return True
        patience, planned = self.config.patience, self.config.rounds
        if self.advance.rounds_done >= planned:
            return False
        if self.steering.stop_reason is not None:
            return True
        if not patience:
            return False
        return rounds_without_gain([point.val_loss for point in self.history]) >= patience

    @property
    def needs_rounds(self) -> bool:
        """Whether a further round follows; none does where its patience is exhausted."""
        left = self.config.rounds - self.advance.rounds_done
        return self.phase == "rounds" and left > 0 and not self.stops_early

    def _clients(self) -> dict[str, JsonValue]:
        """Of the data's clients, the latest round; nothing where workers have shards."""
        if self.config.partition != EACH_CLIENT:
            return {}
        return {"clients": None if self.clients is None else self.clients.model_dump(mode="json")}

    @property
    def seconds_per_round(self) -> float | None:
        """Median of the last nine rounds."""
        recent = sorted(self.round_s[-9:] or (point.seconds for point in self.history[-9:]))
        return recent[len(recent) // 2] if recent else None

    def progress(
        self, *, full: bool = False, lacks: str | None = None, serving: str | None = None
    ) -> TrainingProgress:
        """As status reports it, with the workers that it lacks; `serving` is the digest that answers now."""
        per_round, done = self.seconds_per_round, self.advance.rounds_done
        division, running = self.division, self.status == "running"
        early = self.config.rounds - done if self.phase == "rounds" else 0
        left = self.later_planned - self.later_done + early
        return TrainingProgress(
            training_id=self.training_id,
            current_round=done,
            total_rounds=self.config.rounds,
            current_epoch=done * self.config.local_epochs,
            total_epochs=self.config.rounds * self.config.local_epochs,
            strategy=self.config.strategy,
            strategy_reason=self.config.strategy_reason,
            aggregation={
                "method": self.config.aggregation_method,
                **self.config.method_options,
                **self._clients(),
            },
            heterogeneity=division.heterogeneity if division else None,
            shards=division.shards if division and full else None,
            train_loss=self.advance.train_loss,
            val_loss=self.advance.val_loss,
            best_round=self.advance.best_round,
            served_round=self._served_round if serving == self.advance.digest_after else None,
            seconds_per_round=per_round,
            eta_seconds=per_round * left if running and per_round is not None else None,
            phase=self.phase if running else None,
            lacks=lacks if running else None,
            personalisation=self._personalisation(full=full),
            folds=list(self.folds) or None,
            refit=self.refit,
            learning=self.learning,
            resumed=self.resumptions.report(),
            privacy=self.privacy(full=full),
            evidence=Evidence(
                steps=self.advance.steps,
                weights_digest_before=self.advance.digest_before,
                weights_digest_after=self.advance.digest_after,
            ),
        )

    def _personalisation(self, *, full: bool) -> Personalisation | None:
        found = self.personalisation
        return found if found is None or full else found.model_copy(update={"slots": None})

    def privacy(self, *, full: bool = False) -> PrivacyReport | None:
        """What it has cost in privacy; None without `privacy`. What is outside of that only in full."""
        return privacy_report(self.config.privacy, self.advance.privacy, full=full)

    @property
    def _served_round(self) -> int | None:
        """The round that answers after the end; a stopped or failed training did not go back to the best."""
        if self.result is not None:
            return self.result.served_round
        return None if self.status == "running" else self.advance.rounds_done or None

    def interruption(self, serving: int | None, *, waits: bool = False) -> str:
        """What to say when the server ended while this ran; arguments as `interrupt`."""
        phase = None if self.phase == "rounds" else self.phase
        done, planned = self.advance.rounds_done, self.config.rounds
        return told_of_interruption(phase, (done, planned), serving, waits=waits)

    def entry(self, event: str) -> dict[str, JsonValue]:
        """What the ledger says of its start or its end."""
        return {
            "kind": "control",
            "event": event,
            "training_id": self.training_id,
            "status": self.status,
        }

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
