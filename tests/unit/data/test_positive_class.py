from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.data.positive_class import with_positive_class
from flow_nexus_neural.data.targets import Labels
from flow_nexus_neural.errors import InvalidArguments

LABELS = Labels(
    name="y",
    task="binary",
    classes=["no", "yes"],
    values=np.array([0.0, 1.0, np.nan, 1.0]),
    usable=np.array([True, True, False, True]),
    reach=0,
    is_return=False,
)


def test_the_class_that_is_called_positive_becomes_class_one():
    found = with_positive_class(LABELS, "no")
    assert found.classes == ["yes", "no"]
    np.testing.assert_array_equal(found.values, [1.0, 0.0, np.nan, 0.0])


@pytest.mark.parametrize("wanted", [None, "yes", "YES"])
def test_nothing_changes_where_it_is_class_one_already(wanted):
    assert with_positive_class(LABELS, wanted) is LABELS


def test_a_label_that_is_no_class_is_answered_with_both():
    with pytest.raises(InvalidArguments, match=r"'maybe' is no class of target 'y'") as refused:
        with_positive_class(LABELS, "maybe")
    assert refused.value.hint == "its classes are 'no', 'yes'"


@pytest.mark.parametrize(
    ("task", "classes", "told"),
    [("multiclass", ["a", "b", "c"], "has 3 classes"), ("regression", None, "has numbers")],
)
def test_only_one_of_two_classes_is_positive(task, classes, told):
    with pytest.raises(InvalidArguments, match=told):
        with_positive_class(replace(LABELS, task=task, classes=classes), "a")


@pytest.mark.parametrize("time", [None, "when"])
def test_the_split_is_the_same_whichever_class_is_positive(load, time):
    draw = np.random.Generator(np.random.PCG64(1))
    rows = [
        {"x": round(float(draw.standard_normal()), 5), "y": "yes" if i % 5 == 0 else "no"}
        for i in range(300)
    ]
    if time:
        for i, row in enumerate(rows):
            row[time] = f"2024-01-01T{i // 60:02d}:{i % 60:02d}:00"
    one, other = (load(rows, target="y", positive_class=c) for c in ("yes", "no"))
    assert (one.schema.classes, other.schema.classes) == (["no", "yes"], ["yes", "no"])
    for part, of_one in one.parts.items():
        of_other = other.parts[part]
        np.testing.assert_array_equal(of_one.x, of_other.x)
        np.testing.assert_array_equal(of_one.y, 1 - of_other.y)
        if of_one.last is not None:
            np.testing.assert_array_equal(of_one.last, 1 - of_other.last)
