"""Which classes are taken for which."""

from flow_nexus_neural.artifacts.plots.figure import Figure, Matrix
from flow_nexus_neural.engine.figures.seen import Seen
from flow_nexus_neural.errors import NotAvailable


def confusion(seen: Seen) -> Figure:
    """Counts of test rows by their class and the decided one.

    Raises:
        NotTrained: Nothing was evaluated.
        NotAvailable: The task has no classes.
    """
    evaluation = seen.evaluation
    counts = evaluation.confusion
    if counts is None:
        raise NotAvailable(
            "the model predicts values, which have no classes to be confused",
            hint='use kind "predictions" or "learning_curve"',
        )
    scores = evaluation.per_class or []
    names = tuple(str(one.label) for one in scores) or tuple(map(str, range(len(counts))))
    matrix = Matrix("class", "decided", names, tuple(tuple(row) for row in counts))
    right, total = sum(row[i] for i, row in enumerate(counts)), sum(map(sum, counts))
    baseline = evaluation.baseline_accuracy
    notes = [
        f"{right} of {total} test rows are decided right; shades are shares of each row.",
        *(
            [f"Always the commonest class would be right in {baseline:.3f} of them."]
            if baseline is not None
            else []
        ),
    ]
    return Figure(f"Confusion matrix of {seen.subject}", (matrix,), tuple(notes))
