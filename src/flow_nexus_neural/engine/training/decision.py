"""What classes count in a training, and from which probability on the positive one is decided."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import JsonValue

from flow_nexus_neural.data.class_names import MAX_SHOWN_CHARS, class_index, told_classes
from flow_nexus_neural.data.prepare import PreparedData
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.kernels.class_weight import balanced_weights, threshold_of
from flow_nexus_neural.kernels.decision import MOST_PROBABLE, DecisionRule
from flow_nexus_neural.vocabulary import BALANCED, CLASS_WEIGHT, Label

_FORMS = '"balanced", or an object of label -> weight such as {"yes": 5, "no": 1}'


@dataclass(frozen=True)
class Decision:
    """The effective class_weight, threshold and positive_class of a training.

    Attributes:
        class_weight: By label, all classes; None if they count alike.
        threshold: Of two classes; None for other tasks.
        positive_class: Class 1 of two.
        warnings: What the caller may not expect of them.
    """

    rule: DecisionRule = MOST_PROBABLE
    class_weight: dict[str, float] | None = None
    threshold: float | None = None
    positive_class: Label | None = None
    warnings: list[str] = field(default_factory=list)


def check_class_weight(request: TrainRequest) -> None:
    """Refuse weights that no data could make right.

    Raises:
        InvalidArguments: They are another word, no object, or a weight is out of range.
    """
    _read(request.class_weight)


def decide_how(request: TrainRequest, data: PreparedData) -> Decision:
    """The rule of a training's models, from its arguments and the training rows of the whole data set.

    Raises:
        InvalidArguments: The task has no such classes, or a class is not one of them.
    """
    schema = data.schema
    if schema.task != "binary" and request.threshold is not None:
        raise InvalidArguments(
            f"threshold={request.threshold:g} decides between two classes, and target"
            f" '{schema.target}' has {_kind(schema)}",
            hint="leave threshold out",
        )
    weights = _weights(request, data)
    by_label = dict(zip(map(str, schema.classes or ()), weights, strict=True)) if weights else None
    if schema.task != "binary" or schema.classes is None:
        rule = DecisionRule(class_weight=weights)
        return Decision(rule, by_label, warnings=_warnings(schema, rule, given=None))
    implied = threshold_of(weights)
    rule = DecisionRule(request.threshold if request.threshold is not None else implied, weights)
    return Decision(
        rule,
        by_label,
        rule.threshold,
        schema.classes[1],
        _warnings(schema, rule, given=request.threshold),
    )


def _read(given: str | Mapping[str, JsonValue] | None) -> str | dict[str, float] | None:
    """The word `balanced`, or weights by label, also from JSON text. Raises `InvalidArguments`."""
    if given is None or (isinstance(given, str) and given.strip().lower() == BALANCED):
        return None if given is None else BALANCED
    try:
        read = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, Mapping) or not read:
        what = given.strip()[:MAX_SHOWN_CHARS] if isinstance(given, str) else "empty"
        raise InvalidArguments(f"class_weight is {what!r}", hint=f"give {_FORMS}")
    return {label: _weight(label, weight) for label, weight in read.items()}


def _weight(label: str, given: JsonValue) -> float:
    """One weight, also from text. Raises `InvalidArguments`."""
    try:
        weight = math.nan if isinstance(given, bool) else float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if CLASS_WEIGHT.low <= weight <= CLASS_WEIGHT.high:
        return weight
    found = f"{label[:MAX_SHOWN_CHARS]!r} is {str(given)[:MAX_SHOWN_CHARS]}"
    raise InvalidArguments(
        f"class_weight of {found}; a weight is a number from"
        f" {CLASS_WEIGHT.low:g} to {CLASS_WEIGHT.high:g}",
        hint="a class is left out by leaving its rows out of the data, not by a weight of 0",
    )


def _weights(request: TrainRequest, data: PreparedData) -> tuple[float, ...]:
    """Weights by class index; empty if none were asked for."""
    asked, classes = _read(request.class_weight), data.schema.classes
    if asked is None:
        return ()
    if classes is None:
        raise InvalidArguments(
            f"class_weight weighs classes, and target '{data.schema.target}' has numbers",
            hint="leave it out, or pass task: classification if its values are classes",
        )
    if isinstance(asked, str):
        labels = data.parts["train"].y.astype(np.int64)
        return balanced_weights(np.bincount(labels, minlength=len(classes)))
    return _by_index(asked, classes, data.schema.target)


def _by_index(
    asked: Mapping[str, float], classes: Sequence[Label], target: str
) -> tuple[float, ...]:
    """Weights in the order of the classes, 1 for a class that is not named."""
    found: dict[int, float] = {}
    for label, weight in asked.items():
        index = class_index(classes, label)
        if index is None or index in found:
            named = f"class_weight: {label[:MAX_SHOWN_CHARS]!r}"
            raise InvalidArguments(
                f"{named} is no class of target '{target}'"
                if index is None
                else f"{named} names a class of target '{target}' a second time",
                hint=told_classes(classes),
            )
        found[index] = weight
    return tuple(found.get(index, 1.0) for index in range(len(classes)))


def _kind(schema: DataSchema) -> str:
    return f"{len(schema.classes)} classes" if schema.classes else "numbers"


def _warnings(schema: DataSchema, rule: DecisionRule, *, given: float | None) -> list[str]:
    """What class weights change, and what they do not."""
    if not rule.class_weight:
        return []
    told = (
        "class_weight: train_loss is the mean over rows of weight x loss; probabilities, confidence, val_loss"
        " and log_loss stay those of the data as they are, the weights taken out by formula"
    )
    if schema.task != "binary" or schema.classes is None:
        return [told + "; the class with the largest weight x probability is decided"]
    positive, own = schema.classes[1], threshold_of(rule.class_weight)
    if given is None:
        return [told + f"; {positive!r} is decided from P({positive}) >= {own:.4g} on"]
    return [
        told + f"; threshold {given:g} replaces {own:.4g}, from which on they would decide"
        f" {positive!r}, so they shape the training only"
    ]
