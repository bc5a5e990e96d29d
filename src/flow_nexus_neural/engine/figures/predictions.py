"""What was predicted beside what came of it, in the order in which outcomes arrived."""

from flow_nexus_neural.artifacts.plots.figure import Axis, Chart, Figure, Series, Tone
from flow_nexus_neural.engine.figures.seen import Seen, SeenOutcome
from flow_nexus_neural.errors import NotAvailable
from flow_nexus_neural.vocabulary import Label

SHOWN = 200
ORDER = Axis("recorded outcomes, oldest first", whole=True)


def predictions(seen: Seen) -> Figure:
    """The newest outcomes with their predictions: values with intervals, probabilities, or classes.

    Raises:
        NotAvailable: No outcome with its prediction is stored.
    """
    outcomes, schema = seen.outcomes[-SHOWN:], seen.schema
    if not outcomes or schema is None:
        more = seen.outcomes_without_answer
        of_them = f" ({more} are stored without what was predicted)" if more else ""
        raise NotAvailable(
            f"no outcome of a prediction of cluster {seen.status.cluster_id} is recorded{of_them}",
            hint="tell outcomes: expectedOutcome in the records of neural_predict_distributed, or later its"
            " argument outcomes, by prediction_id",
        )
    if schema.task == "regression":
        panel, notes = _values(outcomes, schema.target), _of_values(outcomes)
    elif schema.task == "binary":
        positive = schema.classes[1] if schema.classes else 1
        panel, notes = _probabilities(outcomes, positive), _of_probabilities(outcomes, positive)
    else:
        panel, notes = _classes(outcomes), _of_classes(outcomes)
    notes.append(f"{outcomes[0].at} to {outcomes[-1].at}, as predicted at the time.")
    if len(outcomes) < len(seen.outcomes):
        notes.append(f"The newest {len(outcomes)} of {len(seen.outcomes)} that are stored.")
    return Figure(f"Predictions and outcomes of {seen.subject}", (panel,), tuple(notes))


def _places(outcomes: tuple[SeenOutcome, ...]) -> tuple[float, ...]:
    return tuple(float(index + 1) for index in range(len(outcomes)))


def _number(value: Label) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _values(outcomes: tuple[SeenOutcome, ...], target: str) -> Chart:
    x = _places(outcomes)
    known = all(one.low is not None and one.high is not None for one in outcomes)
    predicted = Series(
        "prediction (90 % interval)" if known else "prediction",
        x,
        tuple(_number(one.prediction) for one in outcomes),
        low=tuple(one.low or 0.0 for one in outcomes) if known else (),
        high=tuple(one.high or 0.0 for one in outcomes) if known else (),
    )
    truth = Series("outcome", x, tuple(_number(one.outcome) for one in outcomes), "dots", "truth")
    return Chart(ORDER, Axis(f"{target} (its own unit)"), (predicted, truth))


def _of_values(outcomes: tuple[SeenOutcome, ...]) -> list[str]:
    pairs = [(_number(one.prediction), _number(one.outcome)) for one in outcomes]
    errors = [abs(p - y) for p, y in pairs if p is not None and y is not None]
    notes = [f"Mean absolute error {sum(errors) / len(errors):.4g} over {len(errors)} outcomes."]
    held = [
        one.low <= y <= one.high
        for one, (_, y) in zip(outcomes, pairs, strict=True)
        if one.low is not None and one.high is not None and y is not None
    ]
    if held:
        notes.append(f"{sum(held)} of {len(held)} outcomes lie in their 90 % interval.")
    return notes


def _probabilities(outcomes: tuple[SeenOutcome, ...], positive: Label) -> Chart:
    x = _places(outcomes)
    predicted = Series(
        f"predicted P({positive})", x, tuple(_number(one.prediction) for one in outcomes), "dots"
    )
    happened = tuple(float(one.outcome == positive) for one in outcomes)
    truth = Series(f"outcome: 1 if {positive}", x, happened, "dots", "truth")
    return Chart(ORDER, Axis(f"P({positive})", low=-0.05, high=1.05), (predicted, truth))


def _of_probabilities(outcomes: tuple[SeenOutcome, ...], positive: Label) -> list[str]:
    pairs = [(_number(one.prediction), float(one.outcome == positive)) for one in outcomes]
    squares = [(p - y) ** 2 for p, y in pairs if p is not None]
    return [f"Brier score {sum(squares) / len(squares):.4g} over {len(squares)} outcomes."]


def _classes(outcomes: tuple[SeenOutcome, ...]) -> Chart:
    """Confidence of each decision, right ones apart from wrong ones."""
    x = _places(outcomes)
    right = [one.prediction == one.outcome for one in outcomes]
    parts: tuple[tuple[str, bool, Tone], ...] = (
        ("right", True, "first"),
        ("wrong", False, "second"),
    )
    confident = [one.confidence for one in outcomes]
    return Chart(
        ORDER,
        Axis("confidence of the decision", low=0, high=1.05),
        tuple(
            Series(
                name,
                tuple(place for place, hit in zip(x, right, strict=True) if hit is wanted),
                tuple(c for c, hit in zip(confident, right, strict=True) if hit is wanted),
                "dots",
                tone,
            )
            for name, wanted, tone in parts
        ),
    )


def _of_classes(outcomes: tuple[SeenOutcome, ...]) -> list[str]:
    right = sum(one.prediction == one.outcome for one in outcomes)
    return [f"{right} of {len(outcomes)} decisions were right."]
