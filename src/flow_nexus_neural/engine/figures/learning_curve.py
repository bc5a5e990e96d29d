"""Losses, and the share decided right, of every committed round."""

from flow_nexus_neural.artifacts.plots.figure import Axis, Chart, Figure, Reference, Series
from flow_nexus_neural.engine.figures.seen import Seen
from flow_nexus_neural.engine.reports import StatusReport
from flow_nexus_neural.errors import NotAvailable, NotTrained


def learning_curve(seen: Seen) -> Figure:
    """Training and validation loss by round; the accuracy on validation rows beside that on test rows.

    Raises:
        NotTrained: No round is committed.
        NotAvailable: The model was imported, without its rounds.
    """
    status, history = seen.status, seen.history
    training = status.training
    if training is None and status.model_version is not None:
        raise NotAvailable(
            f"the model of cluster {status.cluster_id} was imported: its rounds were not exported",
            hint='use another kind, as "topology", or train it with neural_train_distributed',
        )
    if training is None or not history:
        raise NotTrained(
            f"cluster {status.cluster_id} has no committed round to draw",
            hint='call neural_train_distributed, then neural_cluster_status with until "change"',
        )
    rounds = Axis("round", whole=True)
    x = tuple(float(point.round) for point in history)
    best = training.best_round
    losses = Chart(
        rounds,
        Axis(f"loss ({_loss_unit(status)})"),
        (
            Series("training rows", x, tuple(p.train_loss for p in history)),
            Series("validation rows", x, tuple(p.val_loss for p in history), tone="second"),
        ),
        (Reference("best round", float(best), upright=True),) if best else (),
    )
    right = Chart(
        rounds,
        Axis(_right_label(status)),
        (
            Series("validation rows", x, tuple(p.accuracy for p in history), tone="second"),
            *_on_test_rows(status, x[-1]),
        ),
        _baseline(status),
    )
    panels = (losses, right) if any(p.accuracy is not None for p in history) else (losses,)
    return Figure(f"Learning curve of {seen.subject}", panels, tuple(_notes(seen)))


def _loss_unit(status: StatusReport) -> str:
    return "variances of the target" if _is_regression(status) else "nats"


def _is_regression(status: StatusReport) -> bool:
    return status.dataset_info is not None and status.dataset_info.task == "regression"


def _right_label(status: StatusReport) -> str:
    return "share of right directions" if _is_regression(status) else "share decided right"


def _on_test_rows(status: StatusReport, last: float) -> tuple[Series, ...]:
    """The model that answers, at its round, with the interval of its accuracy."""
    evaluation, accuracy, training = status.evaluation, status.global_accuracy, status.training
    served = training.served_round if training else None
    if evaluation is None or accuracy is None or served is None:
        return ()
    interval = evaluation.accuracy_interval
    return (
        Series(
            f"{evaluation.test_rows} test rows, the model that answers",
            (min(float(served), last),),
            (accuracy,),
            "dots",
            "third",
            (interval[0],) if interval else (),
            (interval[1],) if interval else (),
        ),
    )


def _baseline(status: StatusReport) -> tuple[Reference, ...]:
    evaluation = status.evaluation
    if evaluation is None:
        return ()
    if not _is_regression(status) and evaluation.best_baseline and evaluation.baselines:
        name = evaluation.best_baseline
        return (Reference(f"best baseline ({name}), test rows", evaluation.baselines[name]),)
    if evaluation.baseline_accuracy is None:
        return ()
    return (Reference("always the commonest, test rows", evaluation.baseline_accuracy),)


def _notes(seen: Seen) -> list[str]:
    status = seen.status
    training = status.training
    if training is None:
        return []
    done = f"{training.current_round} of {training.total_rounds} rounds"
    notes = [f"Training {training.training_id}, {status.training_status}: {done}."]
    if all(point.val_loss is None for point in seen.history):
        notes.append("No rows were kept for validation: no validation loss was measured.")
    evaluation = status.evaluation
    if (
        evaluation is not None
        and evaluation.accuracy_interval
        and status.global_accuracy is not None
    ):
        low, high = evaluation.accuracy_interval
        notes.append(
            f"{status.global_accuracy:.3f} {_right_label(status)} on {evaluation.test_rows} test rows"
            f" (95 %: {low:.3f} to {high:.3f})."
        )
    if status.dataset_info is not None and status.dataset_info.synthetic:
        notes.append("The data is synthetic.")
    return notes
