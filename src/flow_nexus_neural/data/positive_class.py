"""Makes the class that a caller calls positive class 1, whose probability is predicted."""

from dataclasses import replace

from flow_nexus_neural.data.class_names import MAX_SHOWN_CHARS, class_index, told_classes
from flow_nexus_neural.data.targets import Labels
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.vocabulary import Label


def with_positive_class(labels: Labels, wanted: Label | None) -> Labels:
    """The labels with the wanted class as class 1; unchanged if none is wanted.

    Raises:
        InvalidArguments: If there are not two classes, or none of them is called so.
    """
    if wanted is None:
        return labels
    classes, asked = labels.classes, f"positive_class={str(wanted)[:MAX_SHOWN_CHARS]!r}"
    if classes is None or labels.task != "binary":
        found = f"{len(classes)} classes" if classes else "numbers"
        raise InvalidArguments(
            f"{asked} is one of two classes, but target '{labels.name}' has {found}",
            hint="leave positive_class out",
        )
    index = class_index(classes, wanted)
    if index is None:
        raise InvalidArguments(
            f"{asked} is no class of target '{labels.name}'", hint=told_classes(classes)
        )
    if index == 1:
        return labels
    return replace(labels, classes=classes[::-1], values=1.0 - labels.values)
