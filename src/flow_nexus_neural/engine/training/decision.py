"""What classes count in a training, and from which probability on the positive one is decided."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flow_nexus_neural.data.class_names import class_index
from flow_nexus_neural.data.prepare import PreparedData
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.kernels.class_weight import balanced_weights, threshold_of
from flow_nexus_neural.kernels.decision import MOST_PROBABLE, DecisionRule
from flow_nexus_neural.vocabulary import BALANCED, CLASS_WEIGHT, Label

_FORMS = 'give "balanced", or an object of label -> weight such as {"yes": 5, "no": 1}'


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
    weights = _read(request.class_weight)
    if not isinstance(weights, Mapping):
        return
    for label, weight in weights.items():
        if not (math.isfinite(weight) and CLASS_WEIGHT.low <= weight <= CLASS_WEIGHT.high):
            raise InvalidArguments(
                f"class_weight of {label!r} is {weight:g}, and a weight is a number from"
                f" {CLASS_WEIGHT.low:g} to {CLASS_WEIGHT.high:g}",
                hint="give weights above 0; to leave a class out, leave its rows out of the data",
            )


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


def _read(given: str | Mapping[str, float] | None) -> str | Mapping[str, float] | None:
    """The word `balanced`, or weights by label, also from JSON text. Raises `InvalidArguments`."""
    if not isinstance(given, str):
        if given is not None and not given:
            raise InvalidArguments("class_weight names no class", hint=_FORMS)
        return given
    word = given.strip()
    if word.lower() == BALANCED:
        return BALANCED
    try:
        read = json.loads(word)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict) or not read or not all(map(_is_number, read.values())):
        raise InvalidArguments(f"class_weight is {word[:40]!r}", hint=_FORMS)
    return {label: float(weight) for label, weight in read.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
            wrong = "is no class" if index is None else "names a class a second time:"
            raise InvalidArguments(
                f"class_weight: {label[:40]!r} {wrong} of target '{target}'",
                hint="its classes are " + ", ".join(repr(one) for one in classes),
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
